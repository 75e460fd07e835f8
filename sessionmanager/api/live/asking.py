"""A request in a frame of a WebSocket, answered by the very route that HTTP calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from msgspec import UNSET
from starlette.types import ASGIApp, Message, Scope

from sessionmanager.api.reply import JSON
from sessionmanager.wire.events import SocketRequest
from sessionmanager.words import H_IDEMPOTENCY_KEY

CARRIED: Final = (b"authorization", b"x-api-key", b"x-tenant")
"""Headers of the handshake that every request of the connection has, too."""


async def ask(dispatch: ASGIApp, scope: Scope, path: str, request: SocketRequest) -> bytes:
    """What the route says, as members of the answer's frame. scope: of the handshake.

    In a task of its own: what a request sets, such as its deadline, is its own.
    """
    body = b"" if request.body is UNSET else bytes(request.body)
    headers = [pair for pair in scope["headers"] if pair[0] in CARRIED]
    headers += [JSON, (b"content-length", b"%d" % len(body))]
    if request.key is not UNSET:
        headers.append((H_IDEMPOTENCY_KEY.lower().encode(), request.key.encode()))
    target = {"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    captured = _Captured(body)
    await asyncio.create_task(_run(dispatch({**scope, **target}, captured.receive, captured.send)))
    return captured.answer()


async def _run(call: Awaitable[None]) -> None:
    await call


class _Captured:
    """One request to a route, and what it answers."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._status = 500
        self._headers: dict[bytes, bytes] = {}
        self._answer = b""

    async def receive(self) -> Message:
        body, self._body = self._body, None
        return {"type": "http.disconnect"} if body is None else {"type": "http.request", "body": body}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], dict(message["headers"])
        else:
            self._answer += message.get("body", b"")

    def answer(self) -> bytes:
        """Members of the answer's frame."""
        members = [b'"status":%d' % self._status]
        if b"idempotency-replayed" in self._headers:
            members.append(b'"replayed":true')
        if b"retry-after" in self._headers:
            members.append(b'"retry_after":%b' % self._headers[b"retry-after"])
        if self._answer:
            members.append(b'"body":%b' % self._answer)
        return b",".join(members)
