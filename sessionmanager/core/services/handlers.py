"""Code of others that hears of every commit of this process: handlers, installed beside the service.

A package names its handlers under the entry point group `sessionmanager.handlers`; each is a callable that takes one
`Happened` and may be a coroutine function (a plain one runs in a thread of its own). Handlers hear in order, after the
commit stands, each at its own pace. Nothing that one does reaches a request or another handler: a slow one loses its
oldest news (told), one that raises or hangs is told and goes on with the next, and one that keeps failing is left alone
for a while.

At most once, and of this process alone: what must not be missed is read from the feed (`GET /events`) or sent by
webhooks.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple, cast

import structlog

from sessionmanager.core.feed.events import event_of
from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import Instant, Key

GROUP: Final = "sessionmanager.handlers"
HANDLERS_MAX: Final = 16
PENDING_MAX: Final = 1_000
PENDING_BYTES_MAX: Final = 4 * 1024 * 1024
HANDLER_SECONDS: Final = 5.0
FAILURES_MAX: Final = 10
REST_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0

log = structlog.get_logger()


class Happened(NamedTuple):
    """One line of a session's log. type: as in the tenant's feed, such as `session.ready`. data: the entry's JSON."""

    tenant: str
    session: str
    seq: int
    type: str
    at: Instant
    data: bytes


Handler = Callable[[Happened], Awaitable[None] | None]


class Named(NamedTuple):
    """A handler under the name of its entry point."""

    name: str
    handle: Handler


def installed() -> tuple[Named, ...]:
    """The handlers that are installed, by name, at most `HANDLERS_MAX`. What cannot be loaded is told and left out."""
    found: list[Named] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)[:HANDLERS_MAX]:
        try:
            handle: Any = point.load()
        except Exception as error:
            log.error("handler.not_loaded", handler=point.name, error=type(error).__name__)
            continue
        if callable(handle):
            found.append(Named(point.name, cast("Handler", handle)))
        else:
            log.error("handler.not_loaded", handler=point.name, error="not callable")
    return tuple(found)


class Handlers:
    """All handlers of a process. `start` within the loop, `close` at its end."""

    def __init__(self, handlers: Iterable[Named], *, seconds: float = HANDLER_SECONDS) -> None:
        self._lanes = [_Lane(named, seconds) for named in tuple(handlers)[:HANDLERS_MAX]]

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def waiting(self) -> int:
        """What has been heard and not handled, of all."""
        return sum(lane.waiting for lane in self._lanes)

    def landed(self, key: Key, lines: tuple[StoredEntry, ...]) -> None:
        """A commit stands. Never waits and never raises what a handler raises."""
        for line in lines if self._lanes else ():
            event = event_of(key.id, line, "")
            happened = Happened(key.tenant, key.id, line.seq, event.type, event.at, line.data)
            for lane in self._lanes:
                lane.put(happened)

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    async def close(self) -> None:
        """Let them finish what they have heard, for at most `STOP_SECONDS`."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))


class _Lane:
    """One handler and what waits for it."""

    def __init__(self, named: Named, seconds: float) -> None:
        self._name = named.name
        self._handle = named.handle
        self._seconds = seconds
        plain = not inspect.iscoroutinefunction(named.handle)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="handler") if plain else None
        self._pending: deque[Happened] = deque()
        self._bytes = 0
        self._lost = 0
        self._failures = 0
        self._news = asyncio.Event()
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def put(self, happened: Happened) -> None:
        self._pending.append(happened)
        self._bytes += len(happened.data)
        while len(self._pending) > PENDING_MAX or self._bytes > PENDING_BYTES_MAX:
            self._bytes -= len(self._pending.popleft().data)
            if not self._lost:
                log.warning("handler.too_slow", handler=self._name)
            self._lost += 1
        self._news.set()

    def start(self) -> None:
        # A context of its own: no deadline and no request of anybody is the handler's.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def close(self) -> None:
        self._ending = True
        self._news.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            if not done:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            while self._pending:
                happened = self._pending.popleft()
                self._bytes -= len(happened.data)
                await self._one(happened)
            self._lost = 0
            if self._ending:
                return
            self._news.clear()
            await self._news.wait()

    async def _one(self, happened: Happened) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                if self._thread is None:
                    answer = self._handle(happened)
                else:
                    # It may block as long as it likes: what waits then is this handler's own news.
                    answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._handle, happened)
                if inspect.isawaitable(answer):
                    await answer
        except Exception as error:
            self._failures += 1
            log.error("handler.failed", handler=self._name, error=type(error).__name__, in_a_row=self._failures)
        else:
            self._failures = 0
        if self._failures >= FAILURES_MAX and not self._ending:
            log.error("handler.resting", handler=self._name, seconds=REST_SECONDS)
            self._failures = 0
            await self._rest()

    async def _rest(self) -> None:
        """Until `REST_SECONDS` are over, or the process stops."""
        try:
            async with asyncio.timeout(REST_SECONDS):
                while not self._ending:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return
