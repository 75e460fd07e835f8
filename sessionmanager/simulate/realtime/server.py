"""The simulated model as a server on this machine: `async with open_model(script) as model: … model.url`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from sessionmanager.simulate.realtime.behaviour import Behaviour
from sessionmanager.simulate.realtime.connection import SimulatedConnection
from sessionmanager.simulate.realtime.script import Script

CLOSE_SECONDS: Final = 1.0
BETA: Final = "realtime=v1"
CONNECTIONS_KEPT: Final = 1_000
EVENT_BYTES_MAX: Final = 32 * 1024 * 1024
_log: Final = logging.getLogger("sessionmanager.simulate")


class SimulatedModel:
    """A model that listens. connections: the last thousand, in order. behaviour: may be changed for those to
    come. refuses: with this status whoever would connect; None = nobody."""

    def __init__(self, script: Script, behaviour: Behaviour) -> None:
        self.script = script
        self.behaviour = behaviour
        self.refuses: int | None = None
        self.connections: deque[SimulatedConnection] = deque(maxlen=CONNECTIONS_KEPT)
        self._sockets: dict[ServerConnection, SimulatedConnection] = {}
        self._server: Server | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        assert self._server is not None, "it listens"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"ws://{host}:{port}/v1/realtime?model=simulated"

    @property
    def live(self) -> list[SimulatedConnection]:
        """Connections that are open now."""
        return list(self._sockets.values())

    def kill(self) -> int:
        """Break all connections off, without a word. Answers how many there were."""
        sockets = list(self._sockets)
        for socket in sockets:
            socket.transport.abort()
        return len(sockets)

    async def connected(self, count: int) -> None:
        """Wait until there have been so many connections."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.connections) >= count)

    async def handle(self, socket: ServerConnection) -> None:
        """One connection, from its beginning to its end."""
        asked = socket.request
        flavour = "beta" if asked is not None and asked.headers.get("OpenAI-Beta") == BETA else "ga"
        connection = SimulatedConnection(socket, flavour, self.script, self.behaviour)
        self._sockets[socket] = connection
        self.connections.append(connection)
        async with self._changed:
            self._changed.notify_all()
        try:
            with suppress(ConnectionClosed):
                await connection.run()
        finally:
            self._sockets.pop(socket, None)

    def check(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake, or let it pass."""
        if self.refuses is not None:
            return socket.respond(HTTPStatus(self.refuses), "not now\n")
        token = self.behaviour.token
        if token is not None and request.headers.get("Authorization") != f"Bearer {token}":
            return socket.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        return None


@asynccontextmanager
async def open_model(
    script: Script | None = None, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[SimulatedModel]:
    """A simulated model that listens until it is left. port: 0 = a free one."""
    model = SimulatedModel(script or Script(), behaviour or Behaviour())
    server = await serve(
        model.handle,
        host,
        port,
        process_request=model.check,
        close_timeout=CLOSE_SECONDS,
        max_size=EVENT_BYTES_MAX,
        compression=None,
        logger=_log,
    )
    async with server:
        model._server = server  # pyright: ignore[reportPrivateUsage]
        yield model
