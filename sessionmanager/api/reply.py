"""The plainest answer: a status, headers and bytes that are already there.

Starlette's `Response` encodes and sorts for a few microseconds each time; this sends what it is given. Anything that
speaks ASGI and has `status_code` and `raw_headers` may stand in its place (`StreamingResponse` for feeds and bodies).
"""

from __future__ import annotations

from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

JSON: Final = (b"content-type", b"application/json")
PROBLEM: Final = (b"content-type", b"application/problem+json")

WHOLE: Final = "sessionmanager.whole"
"""The ASGI extension by which `http.response.start` may bring the whole body under this name, and nothing follows."""

RawHeaders = list[tuple[bytes, bytes]]


class Answer(Protocol):
    """What a handler returns: an ASGI answer whose headers can still be added to. Starlette's `Response` is one."""

    status_code: int
    raw_headers: RawHeaders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Reply:
    """Status, headers (names in lower case) and body, as they go out; the length is added here."""

    __slots__ = ("body", "raw_headers", "status_code")

    def __init__(self, status_code: int, body: bytes = b"", headers: RawHeaders | None = None) -> None:
        self.status_code = status_code
        self.body = body
        self.raw_headers: RawHeaders = [] if headers is None else headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self.raw_headers
        if self.status_code not in (204, 304):
            headers.append((b"content-length", b"%d" % len(self.body)))
        if WHOLE in (scope.get("extensions") or ()):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": headers, WHOLE: self.body}
            )
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(status_code: int, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    """An answer of JSON bytes."""
    return Reply(status_code, body, [JSON, *headers])
