"""A bridge's application behind a server of its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp

from sessionmanager.bridges.doors.socket import Sockets
from sessionmanager.running.small_server import Server

CONNECTIONS_MAX: Final = 4096
STOP_SECONDS: Final = 10


async def serve(
    app: ASGIApp, door: socket.socket, sockets: Sockets, stop: asyncio.Event, *, told: Callable[[], None]
) -> None:
    """Serve until `stop` is set; then every carrier is sent to another replica, and the server closes.

    told: called once it answers. Raises RuntimeError: the server has ended by itself.
    """
    server = Server(app, connections_max=CONNECTIONS_MAX, stop_seconds=STOP_SECONDS, ws="websockets-sansio")
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
