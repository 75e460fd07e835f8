"""A bridge's application behind a server of its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sessionmanager.bridges.doors.socket import Sockets

BACKLOG: Final = 1024
CONNECTIONS_MAX: Final = 4096
KEEP_ALIVE_SECONDS: Final = 15
STOP_SECONDS: Final = 10
PING_SECONDS: Final = 20.0
HEADER_BYTES_MAX: Final = 32 * 1024
FRAME_BYTES_MAX: Final = 1024 * 1024


class _Server(uvicorn.Server):
    """uvicorn's, without its signal handlers: whoever runs the bridge stops it. listening: set once it does."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",  # the one of its parsers that bounds headers
                ws="websockets-sansio",
                ws_max_size=FRAME_BYTES_MAX,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
                h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            )
        )
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """None."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


async def serve(
    app: ASGIApp, door: socket.socket, sockets: Sockets, stop: asyncio.Event, *, told: Callable[[], None]
) -> None:
    """Serve until `stop` is set; then every carrier is sent to another replica, and the server closes.

    told: called once it answers. Raises RuntimeError: the server has ended by itself.
    """
    server = _Server(app)
    serving = asyncio.create_task(server.serve(sockets=[door]), name="server of a bridge")
    listening = asyncio.create_task(server.listening.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({listening, serving}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            told()
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            raise RuntimeError("the server of the bridge has ended")
        await sockets.drain()
    finally:
        for task in (listening, stopped):
            task.cancel()
        server.should_exit = True
        await asyncio.wait([serving], timeout=2 * STOP_SECONDS)
        door.close()
