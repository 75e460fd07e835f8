"""An application behind a real server of this process, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from sessionmanager.running.small_server import Server, listen


class Serving:
    """url: `http://127.0.0.1:<port>`; ws_url: the same for sockets. gate: before the bridge, if a test has put one."""

    gate: Any = None

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}"


@asynccontextmanager
async def serving(app: ASGIApp, port: int = 0) -> AsyncGenerator[Serving]:
    """port: 0 = a free one."""
    door = listen("127.0.0.1", port)
    server = Server(app, connections_max=4096, stop_seconds=1, ws="websockets-sansio")
    task = asyncio.create_task(server.serve(sockets=[door]))
    try:
        await server.listening.wait()
        yield Serving(door.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=10)
        door.close()
