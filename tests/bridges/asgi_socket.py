"""A WebSocket client that speaks ASGI to an application in the same loop: no server, no port, nothing between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.types import ASGIApp, Message

PATIENCE_SECONDS: Final = 20.0
"""A wait that takes so long has failed; it is no time that anything is expected to take."""


class Closed(Exception):
    """The other side has closed the socket, or never opened it. status: of an answer in place of a socket."""

    def __init__(self, code: int, status: int | None = None) -> None:
        super().__init__(f"closed with {code}" if status is None else f"answered with {status}")
        self.code = code
        self.status = status


class AsgiSocket:
    """An open socket, seen from the carrier."""

    def __init__(self, app: ASGIApp, path: str, headers: Mapping[str, str], query: str = "") -> None:
        self._inward: asyncio.Queue[Message] = asyncio.Queue()
        self._outward: asyncio.Queue[Message] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(n.lower().encode(), v.encode()) for n, v in {"host": "bridge.test", **headers}.items()],
            "client": ("127.0.0.1", 5060),
            "server": ("bridge.test", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        self._gone = False
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Any) -> None:
        await app(scope, self._inward.get, self._send)

    async def _send(self, message: Message) -> None:
        if self._gone:
            raise OSError("the client has gone")
        self._outward.put_nowait(message)

    async def opened(self) -> None:
        """Raises Closed."""
        self._inward.put_nowait({"type": "websocket.connect"})
        message = await self._message()
        if message["type"] == "websocket.http.response.start":
            raise Closed(1006, message["status"])
        if message["type"] == "websocket.close":
            raise Closed(message["code"], 403)
        assert message["type"] == "websocket.accept"

    async def _message(self) -> Message:
        getting = asyncio.create_task(self._outward.get())
        done, _ = await asyncio.wait({getting, self.task}, timeout=PATIENCE_SECONDS, return_when="FIRST_COMPLETED")
        if getting in done:
            return getting.result()
        getting.cancel()
        assert self.task in done, "nothing was sent"
        self.task.result()
        if not self._outward.empty():
            return self._outward.get_nowait()
        return {"type": "websocket.close", "code": 1006}

    async def send(self, message: Any) -> None:
        """An object as JSON; a text or bytes as they are."""
        kind = "bytes" if isinstance(message, bytes) else "text"
        sent = message if isinstance(message, str | bytes) else json.dumps(message)
        self._inward.put_nowait({"type": "websocket.receive", kind: sent})
        await asyncio.sleep(0)

    async def receive(self) -> Any:
        """The next message as an object. Raises Closed."""
        message = await self._message()
        if message["type"] == "websocket.close":
            self._inward.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
            raise Closed(message["code"])
        return json.loads(message["text"])

    async def closed(self) -> int:
        """Wait for the close, whatever comes before it; its code."""
        try:
            while True:
                await self.receive()
        except Closed as error:
            return error.code

    def drop(self, code: int = 1006) -> None:
        """The connection breaks, or the carrier closes it."""
        self._gone = True
        self._inward.put_nowait({"type": "websocket.disconnect", "code": code})

    async def end(self) -> None:
        """Wait until the application is done with it."""
        await asyncio.wait({self.task}, timeout=PATIENCE_SECONDS)
        assert self.task.done(), "the application does not let go"
        self.task.result()


@asynccontextmanager
async def connect(
    app: ASGIApp, path: str, headers: Mapping[str, str] | None = None, query: str = ""
) -> AsyncIterator[AsgiSocket]:
    """An open socket. Raises Closed."""
    socket = AsgiSocket(app, path, headers or {}, query)
    try:
        await socket.opened()
        yield socket
    finally:
        socket.drop()
        await socket.end()


async def until(holds: Any, what: str = "it") -> None:
    """Let the loop turn until `holds()`."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come about"
        await asyncio.sleep(0.002)
