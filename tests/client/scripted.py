"""A service that answers as a test says, in place of a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx2

from sessionmanager import errors
from sessionmanager.api import problems
from sessionmanager.client import AsyncClient, Retry

Step = httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]


def answer(body: Any, status: int = 200, **headers: str) -> httpx2.Response:
    """An answer with JSON; `_` in the names of headers stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, content=json.dumps(body).encode(), headers=named)


def refusal(error: errors.SessionManagerError) -> httpx2.Response:
    """The answer that the service gives to this error."""
    reply = problems.render(error, path="/", request_id="r-1")
    headers = {name.decode(): value.decode() for name, value in reply.raw_headers}
    return httpx2.Response(problems.status_of(error), content=reply.body, headers=headers)


class Script(httpx2.AsyncBaseTransport):
    """Answers each request by the next step, the last one for ever. seen: the requests so far."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.seen: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.seen.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        # An answer that is given twice is two answers.
        return (
            step(request)
            if callable(step)
            else httpx2.Response(step.status_code, headers=step.headers, stream=Piece(step.content))
        )

    @property
    def keys(self) -> list[str | None]:
        return [request.headers.get("idempotency-key") for request in self.seen]


class Piece(httpx2.AsyncByteStream):
    """A body in these pieces; an exception among them breaks it."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces: Sequence[bytes | Exception] = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def client_of(transport: httpx2.AsyncBaseTransport, token: Any = "t0ken", **policy: Any) -> AsyncClient:
    return AsyncClient("http://service/prefix", token, retry=Retry(**policy), transport=transport)
