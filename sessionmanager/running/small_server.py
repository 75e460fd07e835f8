"""A small HTTP server inside a program, for whoever runs a bridge or a service: bounded, and stopped by its owner."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Literal

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

BACKLOG: Final = 1024
KEEP_ALIVE_SECONDS: Final = 15
PING_SECONDS: Final = 20.0
HEADER_BYTES_MAX: Final = 32 * 1024
FRAME_BYTES_MAX: Final = 1024 * 1024

Sockets = Literal["websockets-sansio", "none"]


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers. connections_max: at once; beyond, 503. stop_seconds: how long
    what runs may go on once `should_exit` is set. ws: what speaks WebSockets, if any. listening: set once it does."""

    def __init__(self, app: ASGIApp, *, connections_max: int, stop_seconds: int, ws: Sockets = "none") -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",  # the one of its parsers that bounds headers
                ws="none" if ws == "none" else _sockets(),
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
                limit_concurrency=connections_max,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=stop_seconds,
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


class BodyRefused(Exception):
    """status: 413 it is too large, 408 it did not come in time, 400 it broke off."""

    def __init__(self, status: Literal[400, 408, 413]) -> None:
        super().__init__(status)
        self.status: Final = status


async def read_body(request: Request, *, bytes_max: int, seconds: float) -> bytes:
    """The whole body. Raises BodyRefused."""
    taken = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                taken += piece
                if len(taken) > bytes_max:
                    raise BodyRefused(413)
    except TimeoutError:
        raise BodyRefused(408) from None
    except ClientDisconnect:
        raise BodyRefused(400) from None
    return bytes(taken)


def _sockets() -> type[asyncio.Protocol]:
    """What speaks WebSockets, imported only where somebody does."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    class Answered(WebSocketsSansIOProtocol):
        """uvicorn 0.54 logs an error after each denial that was sent whole, as if no answer had been given."""

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
                self.handshake_complete = True

    return Answered


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
