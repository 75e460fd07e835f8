"""Feeds that go on by themselves: whatever ends a connection, the next one begins after the last event that came.

Each stored entry is given once and in order: the service numbers them, so that one that comes again is known. Sources:
WHATWG HTML section 9.2 for the format, `docs/reference/events.md` for what the service says in it.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

import httpx2
import msgspec
from msgspec import UNSET, Struct, UnsetType

from sessionmanager.client.caller import Caller, decode
from sessionmanager.client.problems import NotOurs, TimedOut
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import Erased, SessionManagerError, Unauthenticated
from sessionmanager.wire.answers import At, Entry

E_co = TypeVar("E_co", covariant=True)
EVENT_BYTES_MAX: Final = 2 * 1024 * 1024
PATIENCE_SECONDS: Final = 600.0
"""How long a service may be away before a feed gives up, unless it is told another time."""
SILENCE_SECONDS: Final = 45.0
"""A connection that is silent for so long is dead: the service says something every 15 s."""
AGAIN_SECONDS: Final = 2.0
"""Before a feed that has ended is opened anew, where the service does not say when."""
AGAIN_SECONDS_MAX: Final = 30.0
SEEN_MAX: Final = 4096
"""Events of a tenant that are remembered, so that the overlap of two connections is given once."""


class Signal(Struct, frozen=True, kw_only=True):
    """Something that nobody keeps: a partial word, a level, typing."""

    type: str
    at: At
    actor: str
    participant: str | UnsetType = UNSET
    data: Any = UNSET


class Resync(Struct, frozen=True, kw_only=True):
    """The place to go on from is not there (any more): read `location`; the feed goes on after `after`."""

    reason: str
    location: str
    after: int | str


class TenantEvent(Struct, frozen=True, kw_only=True):
    """Something that happened in the tenant, as a CloudEvent 1.0. subject: the session. data: the entry."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: At
    datacontenttype: str
    data: Any


class ServerEvent(NamedTuple):
    """One event as it stood in the stream."""

    name: str
    data: bytes
    id: str | None
    retry_ms: int | None


class Parser:
    """Bytes → events; comments are passed over. Holds at most `EVENT_BYTES_MAX` of an event that is not whole yet."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that are whole now. Raises NotOurs for one without end."""
        *blocks, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise NotOurs("an event without end")
        return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> ServerEvent | None:
    name, id, retry, lines = "message", None, None, list[bytes]()
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit():
            retry = int(value)
    return ServerEvent(name, b"\n".join(lines), id, retry) if lines else None


class _Place(Struct, frozen=True):
    """What `hello`, `goaway` and their like say of where the feed is."""

    after: int | str | None = None
    heartbeat_seconds: float | None = None
    retry_ms: int | None = None
    detail: str = ""


_places: Final = msgspec.json.Decoder(_Place)


class AsyncFeed(Generic[E_co]):
    """An endless iterator of events. Leave it by `aclose`, or use it as `async with`.

    cursor: after what the next connection goes on; keep it to continue in another process.
    Raises, from the iteration: Erased: the session is gone. Unauthenticated: the token is over and there is no other.
    What else the service refuses; what makes it unreachable, once it was so for the whole patience.
    """

    def __init__(
        self,
        caller: Caller,
        path: str,
        read: Callable[[ServerEvent], E_co | None],
        *,
        query: Mapping[str, Any],
        after: int | str | None,
        patience_seconds: float | None,
        ordered: bool,
    ) -> None:
        """ordered: the ids of its events are numbers that only grow."""
        self.cursor = after
        self._ordered = ordered
        self._caller = caller
        self._path = path
        self._read = read
        self._query = query
        self._patience = patience_seconds
        self._rng: random.Random = caller.rng
        self._waiting: deque[E_co] = deque()
        self._response: httpx2.Response | None = None
        self._chunks: Any = None
        self._parser = Parser()
        self._silence = SILENCE_SECONDS
        self._retry_seconds = AGAIN_SECONDS
        self._tries = 0
        self._bearer = ""
        self._refused: str | None = None
        self._renewed = False
        self._well_at: float | None = None
        self._open_at = 0.0
        self._trouble: SessionManagerError | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E_co:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                await self._pause_or_raise(trouble)
            try:
                await self._more()
            except SessionManagerError as error:
                await self._drop()
                self._trouble = error  # what came before it is given first
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave; nothing is given any more."""
        self._closed = True
        self._waiting.clear()
        await self._drop()

    # -- one connection

    async def _more(self) -> None:
        """The next piece of the stream, opened where it is not."""
        if self._response is None:
            await asyncio.sleep(max(0.0, self._open_at - asyncio.get_running_loop().time()))
            await self._open()
        try:
            async with asyncio.timeout(self._silence):
                piece = await anext(self._chunks, None)
        except TimeoutError:
            raise TimedOut("the feed fell silent") from None
        except httpx2.HTTPError as error:
            raise self._caller.plain.stream_failure(error) from None
        if piece is None:
            raise TimedOut("the feed was cut")
        self._well_at, self._tries = asyncio.get_running_loop().time(), 0
        for event in self._parser.feed(piece):
            if not await self._control(event):
                self._give(event)

    async def _open(self) -> None:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if self.cursor is not None:
            headers["last-event-id"] = str(self.cursor)
        self._bearer = await self._caller.bearer(self._refused)
        self._refused = None
        self._response = await self._caller.plain.open_stream(
            self._path,
            query=self._query,
            headers=headers,
            token=self._bearer,
            silence_seconds=self._silence,
        )
        self._chunks = self._response.aiter_bytes()
        self._parser = Parser()
        self._renewed = False

    async def _drop(self) -> None:
        response, self._response, self._chunks = self._response, None, None
        if response is not None:
            await response.aclose()

    async def _pause_or_raise(self, error: SessionManagerError) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(error, Unauthenticated) and not isinstance(self._caller.token, str) and not self._renewed:
            # Whoever gives tokens is asked again; a second refusal in a row stands.
            self._renewed, self._refused = True, self._bearer
            return
        if error.remedy not in AGAIN:
            raise error
        if self._well_at is None:
            self._well_at = now
        if self._patience is not None and now - self._well_at >= self._patience:
            raise error
        self._tries += 1
        doubled = min(self._retry_seconds * 2 ** min(self._tries - 1, 8), AGAIN_SECONDS_MAX)
        pause = max(self._rng.uniform(0.25, 1.0) * doubled, error.__dict__.get("retry_after_seconds") or 0.0)
        await asyncio.sleep(pause)

    # -- events

    async def _control(self, event: ServerEvent) -> bool:
        """Whether it was about the feed itself. Raises what ends it."""
        if event.retry_ms is not None:
            self._retry_seconds = min(event.retry_ms / 1000, AGAIN_SECONDS_MAX)
        if event.name == "hello":
            place = self._place(event)
            if place.heartbeat_seconds:
                self._silence = max(3 * place.heartbeat_seconds, 1.0)
            return True
        if event.name == "goaway":
            self._place(event)
            self._open_at = asyncio.get_running_loop().time() + self._retry_seconds
            await self._drop()
            return True
        if event.name == "expired":
            self._place(event)
            if isinstance(self._caller.token, str):
                raise Unauthenticated("the token of the feed is over: come back with another, after the last event")
            self._refused = self._bearer
            await self._drop()
            return True
        if event.name == "erased":
            raise Erased("the session is erased for ever")
        return False

    def _place(self, event: ServerEvent) -> _Place:
        try:
            place = _places.decode(event.data)
        except msgspec.MsgspecError:
            raise NotOurs("an event that says nothing of where the feed is") from None
        if place.after is not None and (self.cursor is None or event.name == "resync"):
            self.cursor = place.after
        return place

    def _give(self, event: ServerEvent) -> None:
        if event.name == "resync":
            self.cursor = None
            self._place(event)
        elif event.id is not None and not self._advance(event.id):
            return
        given = self._read(event)
        if given is not None:
            self._waiting.append(given)

    def _advance(self, id: str) -> bool:
        """Note where the feed is now; False for what was given already."""
        if not self._ordered:
            self.cursor = id
            return True
        if not id.isdigit() or (isinstance(self.cursor, int) and int(id) <= self.cursor):
            return False
        self.cursor = int(id)
        return True


def session_event(event: ServerEvent) -> Entry | Signal | Resync | None:
    """What a reader of a session gets."""
    if event.name == "resync":
        return decode(event.data, Resync)
    if event.name == "signal":
        return decode(event.data, Signal)
    return decode(event.data, Entry) if event.id is not None else None


def tenant_reader() -> Callable[[ServerEvent], TenantEvent | Resync | None]:
    """What a reader of a tenant gets. Connections overlap; of the newest `SEEN_MAX` events each is given once."""
    seen: OrderedDict[str, None] = OrderedDict()

    def read(event: ServerEvent) -> TenantEvent | Resync | None:
        if event.name == "resync":
            return decode(event.data, Resync)
        if event.id is None:
            return None
        given = decode(event.data, TenantEvent)
        if given.id in seen:
            seen.move_to_end(given.id)
            return None
        seen[given.id] = None
        if len(seen) > SEEN_MAX:
            seen.popitem(last=False)
        return given

    return read
