"""Server-sent events (WHATWG HTML, section 9.2): a feed as an answer that does not end by itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from sessionmanager.api.exchange import Exchange
from sessionmanager.api.live.following import RETRY_MS, SEND_SECONDS, Presence, Source, follow
from sessionmanager.api.reply import RawHeaders
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.waits.deadline import lift

MEDIA: Final = "text/event-stream"
BEAT: Final = b": heartbeat\n\n"
ABORT: Final = "sessionmanager.abort"
"""The ASGI extension by which `api/serving/protocol.py` lets a connection be cut."""

T = TypeVar("T")
encode = msgspec.json.Encoder().encode


def stream_headers() -> RawHeaders:
    """No cache keeps it, no proxy holds it back."""
    return [
        (b"content-type", MEDIA.encode()),
        (b"cache-control", b"no-cache, no-store, no-transform"),
        (b"x-accel-buffering", b"no"),
    ]


def frame(name: str, members: Any, *, retry_ms: int | None = None) -> bytes:
    """An event that is no stored entry, and so has no id."""
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%bevent: %b\ndata: %b\n\n" % (retry, name.encode(), encode(members))


class EventStream(Generic[T]):
    """An `Answer`: `hello`, then what the source gives, until one of them ends it.

    render: items → frames. last: where the reader stands, for the event that ends the stream.
    """

    status_code = 200

    def __init__(
        self,
        ex: Exchange,
        source: Source[T],
        render: Callable[[Sequence[T]], bytes],
        *,
        hello: bytes,
        last: Callable[[], dict[str, Any]],
        rng: random.Random,
        limits: FeedLimits,
    ) -> None:
        self.raw_headers: RawHeaders = stream_headers()
        self._ex = ex
        self._source = source
        self._render = render
        self._hello = hello
        self._last = last
        self._rng = rng
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        presence = Presence(self._source.interrupt)
        leaving = asyncio.create_task(_until_gone(receive))
        leaving.add_done_callback(presence.leave)
        out = _Wire(send, self._render)
        lift()  # a stream has no deadline; each call that it makes has its own
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._ex.answered()
            await out.say(b"retry: %d\n" % self._rng.randint(*RETRY_MS) + self._hello)
            end = await follow(self._source, out, presence, self._ex.good_for, self._rng, self._limits)
            if end is not None:
                members = {**end.members, **self._last()}
                await out.say(frame(end.name, members, retry_ms=end.members.get("retry_ms")), last=True)
        except TimeoutError:
            await _abort(scope, leaving)
        finally:
            leaving.cancel()
            self._source.close()


class _Wire(Generic[T]):
    """The body of the answer, piece by piece."""

    def __init__(self, send: Send, render: Callable[[Sequence[T]], bytes]) -> None:
        self._send = send
        self._render = render

    async def give(self, items: Sequence[T]) -> bool:
        data = self._render(items)
        if data:
            await self._write(data)
        return bool(data)

    async def beat(self) -> None:
        await self._write(BEAT)

    async def say(self, data: bytes, *, last: bool = False) -> None:
        """What `follow` does not say; raises TimeoutError by itself."""
        async with asyncio.timeout(SEND_SECONDS):
            await self._write(data)
            if last:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _abort(scope: Scope, leaving: asyncio.Task[None]) -> None:
    """Cut a connection that takes nothing; what waits for it is thrown away."""
    extension = scope.get("extensions", {}).get(ABORT)
    if extension is not None:
        extension["abort"]()
        await asyncio.wait([leaving])
