"""What a service author writes, and how it is called: one call at a time in a session, each within its time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, Literal

from sessionmanager.wire.answers import Entry

if TYPE_CHECKING:
    from sessionmanager.services.session import ServiceSession

LeaveReason = Literal["ended", "failed", "erased", "suspended", "removed", "left", "stopping"]
"""Why a service takes part no longer: the session is over (`ended`, `failed`, `erased`) or rests (`suspended`), the
manager has taken it out (`removed`), it left by itself (`left`), its process stops (`stopping`)."""
OVER: Final[frozenset[LeaveReason]] = frozenset(("ended", "failed", "erased"))

CANCEL_SECONDS: Final = 1.0
"""A handler that is cancelled has so long to end; after that nobody waits for it."""
_log: Final = logging.getLogger("sessionmanager.services")


class Handler:
    """A service. Subclass it and write the methods that matter; all of them are optional.

    One object serves all sessions, many at once; in a session one method is called at a time, in the order of its log.
    A method that raises, or takes longer than the configuration allows, is logged and counted; the session goes on.
    """

    async def on_join(self, session: ServiceSession) -> None:
        """A session asks this service in. If it raises or takes too long, the session is told that it does not come."""

    async def on_message(self, session: ServiceSession, entry: Entry) -> None:
        """Somebody else has added something to the session: a message, a function call or its output, a summary or
        an entry of type `custom.*`. Each once and in order, from the moment it was asked in."""

    async def on_end(self, session: ServiceSession, reason: LeaveReason) -> None:
        """The session is over: nothing can be added any more. `on_leave` follows."""

    async def on_leave(self, session: ServiceSession, reason: LeaveReason) -> None:
        """It takes part no longer, for whatever reason: once for each `on_join` that came to its end."""


def check_handler(handler: Handler) -> None:
    """Raises TypeError for a handler whose methods cannot be awaited."""
    for name in ("on_join", "on_message", "on_end", "on_leave"):
        if not inspect.iscoroutinefunction(getattr(handler, name, None)):
            raise TypeError(f"{type(handler).__name__}.{name} must be an `async def`")


class HandlerRuns:
    """Runs the methods of handlers. errors: how many raised or took too long."""

    def __init__(self) -> None:
        self.errors = 0
        self._abandoned: set[asyncio.Task[None]] = set()

    async def run(self, name: str, session_id: str, work: Awaitable[None], seconds: float) -> bool:
        """Whether a handler came to its end. It runs in a task of its own, so that one that does not let itself be
        cancelled keeps nobody waiting."""
        task = asyncio.ensure_future(_awaited(work))
        try:
            await asyncio.wait([task], timeout=seconds)
        except asyncio.CancelledError:
            await self._cancel(task, name, session_id)
            raise
        if not task.done():
            await self._cancel(task, name, session_id)
            self.errors += 1
            _log.warning("handler %s of session %s took more than %g s", name, session_id, seconds)
            return False
        if task.cancelled():
            self.errors += 1
            _log.warning("handler %s of session %s was cancelled from within", name, session_id)
            return False
        error = task.exception()
        if error is not None:
            self.errors += 1
            _log.error("handler %s of session %s raised %s", name, session_id, where(error))
        return error is None

    async def _cancel(self, task: asyncio.Task[None], name: str, session_id: str) -> None:
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
        if task.done():
            if not task.cancelled():
                task.exception()
            return
        _log.error("handler %s of session %s does not let itself be cancelled", name, session_id)
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def where(error: BaseException) -> str:
    """The class of an error and the lines it came through. Its text may hold what was said, and is left out."""
    frames: Any = traceback.extract_tb(error.__traceback__)[-3:]
    lines = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {lines}"
