"""uvicorn's WebSocket protocol (on the `websockets` library) with the bounds that it does not have.

It reads one message and waits until the application has taken it; compression is off, so that a connection costs no
window and a message is as long as it looks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MESSAGE_BYTES_MAX: Final = 1024 * 1024 + 4096
"""A message holds as much as the body of a request, and what is around it."""
STOP_SECONDS: Final = 5.0
"""How long the application may take to end a connection when the server stops, before the server does."""
CLOSE_SECONDS: Final = 10.0
"""How long what was written may take to go out when the application is done; then the connection is cut."""


class BoundedSocket(WebSocketsSansIOProtocol):
    """One connection. stall_seconds: how long a reader may take nothing of what is written for it."""

    stall_seconds: float = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It would log every address with its query; requests are counted by the application.
        self.logger = self.conn.logger = logging.getLogger("uvicorn.access")
        self._timers: set[asyncio.TimerHandle] = set()
        self._stalled: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._unwatch()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._unwatch()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server stops: the application has been told, and ends the connection in its own words if it can."""
        self._later(STOP_SECONDS, super().shutdown)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected:
            self._later(CLOSE_SECONDS, self.transport.abort)

    def _later(self, seconds: float, call: Any) -> None:
        self._timers.add(self.loop.call_later(seconds, call))

    def _watch_reader(self, unread: int | None = None) -> None:
        """Cut a reader that took nothing during the whole stall time."""
        now_unread = self.transport.get_write_buffer_size()
        if unread is not None and now_unread >= unread:
            self.transport.abort()
            return
        self._unwatch()
        self._stalled = self.loop.call_later(self.stall_seconds, self._watch_reader, now_unread)

    def _unwatch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
