"""The client's side of a session's WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.live import Live
from tests.support.streams import PATIENCE_SECONDS

Json = dict[str, Any]


class Socket:
    """A client's side."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Json] = []

    async def next(self) -> Json:
        async with asyncio.timeout(PATIENCE_SECONDS):
            text = await self.connection.recv()
        assert isinstance(text, str)
        frame: Json = json.loads(text)
        self.frames.append(frame)
        return frame

    async def until(self, kind: str) -> Json:
        """The next frame of this type; others are kept in `frames`."""
        while (frame := await self.next())["type"] != kind:
            pass
        return frame

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def ask(self, op: str, **frame: Any) -> Json:
        """The answer to a request."""
        await self.send(op=op, id="r", **frame)
        answer = await self.until("answer")
        assert answer["id"] == "r"
        return answer

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the service closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.next()
        close = self.connection.protocol.close_rcvd
        assert close is not None, "the connection was cut"
        return close.code, close.reason

    def seqs(self) -> list[int]:
        entries = [frame for frame in self.frames if frame["type"] == "entry"]
        assert all(frame["entry"]["seq"] == frame["seq"] for frame in entries)
        return [frame["seq"] for frame in entries]


@contextlib.asynccontextmanager
async def opened(
    service: Live, path: str, *, token: str | None = "", headers: Json | None = None
) -> AsyncIterator[Socket]:
    """A connection with a token in its header; None = none."""
    given = dict(headers or {})
    if token is not None:
        given["Authorization"] = f"Bearer {token or service.token()}"
    async with connect(f"{service.socket_address}{path}", additional_headers=given, compression=None) as connection:
        yield Socket(connection)
