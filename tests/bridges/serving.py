"""An application behind a real server of this process, on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.bridges.asgi_socket import until


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


class Serving:
    """url: `http://127.0.0.1:<port>`; ws_url: the same for sockets. gate: before the bridge, if a test has put one."""

    gate: Any = None

    def __init__(self, server: _Server, door: socket.socket, task: asyncio.Task[None]) -> None:
        self._server = server
        self._door = door
        self._task = task
        self.port: int = door.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(app: ASGIApp, port: int = 0) -> AsyncIterator[Serving]:
    """port: 0 = a free one."""
    door = socket.create_server(("127.0.0.1", port), backlog=256)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[door]))
    try:
        await until(lambda: server.started, "the server")
        yield Serving(server, door, task)
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=10)
        door.close()
