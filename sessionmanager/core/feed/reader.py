"""One reader of a session's log a process: it feeds everybody here who follows that session.

What it hands out was read from warm; the doorbell only says when to look (reliability notes, correction 10). A bell may
be lost, so it looks by itself as well: seldom while the doorbell is heard, often while it is not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from sessionmanager.core.feed.items import FAR, Line, Signal, line_of
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.subscription import FeedEnded
from sessionmanager.core.history import Range
from sessionmanager.core.reads import Reads
from sessionmanager.errors import Contended, Erased, TierUnavailable
from sessionmanager.tiers.hot.protocol import Hot, Ring
from sessionmanager.tiers.warm.protocol import WarmHeads
from sessionmanager.tracing.spans import span, untied
from sessionmanager.waits.pause import pause
from sessionmanager.words import Key

LOOK_LINES: Final = 256
"""Lines of one read for all: as many as a commit may have."""
TRACES_MAX: Final = 64
"""Traced commits that rang and were not handed out yet; past so many all of them are told without their traces."""

CLOSE_SECONDS: Final = 5.0

log = structlog.get_logger()


class Subscriber(Protocol):
    """Somebody who is fed by a reader. Neither call may wait."""

    def push(self, lines: list[Line], size: int) -> None:
        """These lines come next for whoever keeps up. size: of their bytes."""
        ...

    def signal(self, signal: Signal) -> None: ...

    def end(self, ended: FeedEnded) -> None: ...


class Sources(NamedTuple):
    """What readers read from."""

    hot: Hot
    warm: WarmHeads
    reads: Reads
    limits: FeedLimits
    rng: random.Random
    catching_up: asyncio.Semaphore


class Reader:
    """Follows one session from `position`, the seq handed out last, until `close`.

    on_end: told once if it ends by itself. Cost: one warm read for a commit, however many follow; while nothing happens
    one each `bell_poll_seconds`.
    """

    def __init__(self, key: Key, position: int, version: int, sources: Sources, on_end: Callable[[], None]) -> None:
        self.key = key
        self.position = position
        self.subscribers: set[Subscriber] = set()
        self._version = version
        self._sources = sources
        self._on_end = on_end
        self._hears = False
        self._rung = 0
        self._traces: dict[int, str] = {}  # of the versions that rang, by version
        self._wake = asyncio.Event()
        # Contexts of their own: the deadline of the request that came first is not theirs.
        self._tasks = [
            asyncio.create_task(self._listen(), context=untied()),
            asyncio.create_task(self._run(), context=untied()),
        ]

    def close(self) -> None:
        """Stop reading; subscribers hear nothing more."""
        for task in self._tasks:
            task.cancel()

    async def closed(self) -> None:
        """Until its tasks have ended; not for ever."""
        await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)

    async def page(self, after: int) -> list[Line]:
        """The next lines after a seq, from wherever they lie; for those who are behind. Empty: there are none.

        Raises TierUnavailable, Erased, DataCorrupt. Cost: as `Reads.lines`; at most `catch_ups_max` at once.
        """
        limits = self._sources.limits
        async with self._sources.catching_up:
            _, found = await self._sources.reads.lines(self.key, Range(after, FAR, limits.page_lines))
        size, lines = 0, list[Line]()
        for stored in found.lines:
            size += len(stored.data)
            if lines and size > limits.page_bytes_max:
                break
            lines.append(line_of(stored))
        return lines

    # -- the two tasks

    async def _listen(self) -> None:
        """Hear the bell; where it cannot be heard, try again at the pace of the polls."""
        while True:
            try:
                async with self._sources.hot.listen(self.key) as heard:
                    self._hears = True
                    self._wake.set()  # what was committed before we listened rang for nobody
                    async for one in heard:
                        if isinstance(one, Ring):
                            self._rung = max(self._rung, one.version)
                            if one.trace is not None:
                                self._remember(one.version, one.trace)
                            self._wake.set()
                        else:
                            for subscriber in self.subscribers:
                                subscriber.signal(Signal(one.data))
            except TierUnavailable:
                pass  # the guard has counted it
            except Exception as error:
                log.error("feed.failed", error=type(error).__name__)
            self._hears = False
            self._wake.set()
            await asyncio.sleep(self._turn(self._sources.limits.poll_seconds))

    async def _run(self) -> None:
        try:
            while True:
                woken = await self._woken()
                try:
                    await self._look(bell=woken)
                except (TierUnavailable, Contended):
                    await asyncio.sleep(self._turn(self._sources.limits.poll_seconds))
                    self._wake.set()
        except Erased:
            self._end(FeedEnded("erased"))
        except Exception as error:
            log.error("feed.failed", error=type(error).__name__)
            self._end(FeedEnded("failed"))

    async def _woken(self) -> bool:
        """Until the bell rings or it is time to look anyway; whether it rang."""
        limits = self._sources.limits
        seconds = self._turn(limits.bell_poll_seconds if self._hears else limits.poll_seconds)
        woken = await pause(self._wake, seconds)
        self._wake.clear()
        return woken

    def _turn(self, seconds: float) -> float:
        return seconds * (0.5 + self._sources.rng.random() / 2)

    # -- looking

    async def _look(self, *, bell: bool) -> None:
        """Hand out all that is committed. Where the newest commit that rang is traced, that is a span of its trace."""
        rung, self._rung = self._rung if bell else 0, 0
        if not self._traces:
            await self._hand_out(rung)
            return
        with span("feed.deliver", "consumer", {"traceparent": self._traces[max(self._traces)]}):
            await self._hand_out(rung)
        self._forget_traces()

    async def _hand_out(self, rung: int) -> None:
        if rung > self._version and await self._read_tail(rung):
            return
        stored = (await self._sources.warm.load(self.key)).stored
        if stored.tombstone is not None:
            raise Erased
        while stored.version > self._version:
            _, found = await self._sources.reads.lines(self.key, Range(self.position, FAR, LOOK_LINES))
            if not found.lines:
                self._version = stored.version
                return
            self._publish([line_of(line) for line in found.lines])

    async def _read_tail(self, version: int) -> bool:
        """Hand out the lines up to a version that lie in the tail; whether all of them did. One read, nearly always."""
        while self._version < version:
            lines = await self._sources.warm.read(self.key, after=self.position, before=FAR, limit=LOOK_LINES)
            if not lines or lines[0].seq != self.position + 1:
                return False  # they are sealed already
            self._publish([line_of(line) for line in lines])
        return True

    def _publish(self, lines: list[Line]) -> None:
        assert lines[0].seq == self.position + 1, "a feed has no gap"
        if self._traces:
            lines = [line._replace(trace=self._traces.get(line.version)) for line in lines]
        self.position, self._version = lines[-1].seq, lines[-1].version
        size = sum([len(line.data) for line in lines])
        for subscriber in self.subscribers:
            subscriber.push(lines, size)

    def _remember(self, version: int, trace: str) -> None:
        if len(self._traces) >= TRACES_MAX:
            self._traces.clear()
        if version > self._version:  # else it was handed out by another look
            self._traces[version] = trace

    def _forget_traces(self) -> None:
        self._traces = {version: trace for version, trace in self._traces.items() if version > self._version}

    def _end(self, ended: FeedEnded) -> None:
        self._tasks[0].cancel()
        for subscriber in tuple(self.subscribers):
            subscriber.end(ended)
        self._on_end()
