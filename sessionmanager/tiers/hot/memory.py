"""Hot in this process's own memory: bounded by sessions and by bytes, gone with the process.

Nothing is copied or encoded: a copy shares the immutable objects that warm or a commit made. The methods are `async`
for the protocol only and never suspend, so each of them is atomic on the event loop.

What may be forgotten, and why that is safe (reliability notes, correction 3): a copy, always. A floor only with the
fill token of its session, in one step. A token is taken before warm is read and voided by each commit, so whoever
holds one that still stands read warm after the last commit that this tier was told of; floors are the second wall,
against a warm that answered with the past. They go oldest first and only by number, `FLOORS_PER_SESSION` times as many
as copies: with the defaults after 40,000 commits to other sessions, far more than ten leases hold.
"""

from __future__ import annotations

import sys
import time
from asyncio import create_task, sleep
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NamedTuple

from sessionmanager.errors import TierUnavailable
from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.model.instants import to_ms
from sessionmanager.tiers.hot.listener import Listener
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy, Hot, Ring, Signal
from sessionmanager.words import Instant, Key

FILL_SECONDS: Final = 3.0
FILLS_MAX: Final = 10_000
FLOORS_PER_SESSION: Final = 4
FOR_EVER: Final = sys.maxsize
"""The floor of an erased session: no `rev` reaches it."""
COPY_OVERHEAD_BYTES: Final = 4096
"""What the objects around one copy weigh, its decoded head included (measured: `tests/tiers/test_hot_memory.py`)."""
LINE_OVERHEAD_BYTES: Final = 128
_HELD: Final = frozenset(HOT_PARTS)


@asynccontextmanager
async def open_memory(
    url: str,
    *,
    sessions_max: int = 10_000,
    bytes_max: int = 256 * 1024 * 1024,
    tail_entries_max: int = 100,
    tail_bytes_max: int = 64 * 1024,
    ttl_seconds: float = 3600.0,
    listeners_max: int = 10_000,
    cleanup_seconds: float = 300.0,
    clock: Callable[[], float] = time.time,
) -> AsyncGenerator[Hot]:
    """A `Hot` that lives as long as the `async with`.

    Args: url: `memory://`. sessions_max, bytes_max: bounds of what is kept; the longest unused copy goes first.
    tail_entries_max, tail_bytes_max: newest lines kept with a copy. ttl_seconds: life of a copy from its `as_of`.
    cleanup_seconds: time between two looks for copies past it, which are never shown meanwhile.
    clock: seconds since 1970; a wrong one costs copies, never freshness, which the reader judges by warm's clock.
    Raises: ValueError for another URL or a bound below 1.
    """
    if url.rstrip("/") != "memory:":
        raise ValueError("the memory hot tier is memory:// and takes nothing more")
    if min(sessions_max, bytes_max, tail_entries_max, tail_bytes_max, ttl_seconds, listeners_max, cleanup_seconds) < 1:
        raise ValueError("the bounds of the memory hot tier begin at 1")
    hot = MemoryHot(
        Bounds(sessions_max, bytes_max, tail_entries_max, tail_bytes_max, ttl_seconds, listeners_max), clock
    )
    cleaning = create_task(_clean(hot, cleanup_seconds))
    try:
        yield hot
    finally:
        cleaning.cancel()
        hot.close()


async def _clean(hot: MemoryHot, seconds: float) -> None:
    while True:
        await sleep(seconds)
        hot.forget_dead()


class Bounds(NamedTuple):
    """See `open_memory`."""

    sessions: int
    bytes: int
    tail_entries: int
    tail_bytes: int
    ttl_seconds: float
    listeners: int


class _Kept:
    """What is kept of a session, changed in place by its commits: an append costs the same however long the tail is.

    `copy` is what readers get, made when one asks and never changed. `bytes`, `tail_bytes`: what all of it and its tail
    weigh. `dies_at`: when it is too old to be shown at all.
    """

    __slots__ = ("as_of", "bytes", "copy", "dies_at", "stored", "tail", "tail_bytes")

    def __init__(self, copy: Copy) -> None:
        self.copy: Copy | None = copy
        self.stored = copy.stored
        self.tail = deque(copy.tail)
        self.as_of = copy.as_of
        self.bytes = 0
        self.tail_bytes = sum([len(line.data) for line in copy.tail])
        self.dies_at = 0.0


class _Fill(NamedTuple):
    token: str
    taken_at: float


class MemoryHot:
    """See `open_memory`. Cost: a dictionary look-up or two a call, a few microseconds for a commit."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()  # longest unused first
        self._floors: OrderedDict[Key, int] = OrderedDict()  # longest unmoved first
        self._fills: OrderedDict[Key, _Fill] = OrderedDict()  # oldest first
        self._tokens = count(1)
        self._listeners: dict[Key, set[Listener]] = {}
        self._listening = 0
        self._bytes = 0

    @property
    def sessions_held(self) -> int:
        return len(self._kept)

    @property
    def bytes_held(self) -> int:
        """What the copies weigh by our own estimate, which is what `bytes_max` bounds."""
        return self._bytes

    async def recall(self, key: Key) -> Copy | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock() >= kept.dies_at:
            self._drop(key)
            return None
        self._kept.move_to_end(key)  # its place in the queue, never its age
        copy = kept.copy
        if copy is None:
            copy = kept.copy = Copy(kept.stored, tuple(kept.tail), kept.as_of)
        return copy

    async def begin_fill(self, key: Key) -> str | None:
        now = self._clock()
        self._forget_stale_fills(now)
        if key in self._fills or len(self._fills) >= FILLS_MAX or self._floors.get(key) == FOR_EVER:
            return None
        token = str(next(self._tokens))
        self._fills[key] = _Fill(token, now)
        return token

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        fill = self._fills.get(key)
        if fill is None or fill.token != token:
            return
        del self._fills[key]
        stored = copy.stored
        if not _stands(fill, self._clock()) or stored.key != key or stored.tombstone is not None:
            return
        if stored.rev < self._floors.get(key, 0):
            return
        kept = self._kept.get(key)
        if kept is not None and kept.stored.rev > stored.rev:
            return
        self._drop(key)
        self._keep(key, _Kept(copy._replace(stored=_without_private(stored))), 0)

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        key, rev, stored = change.key, change.rev + 1, change.stored
        if stored.tombstone is not None:
            await self.drop_for_ever(key)
        else:
            if self._fills:
                self._fills.pop(key, None)
            self._raise_floor(key, rev)
            kept = self._kept.get(key)
            if kept is not None and kept.stored.rev < rev:
                if kept.stored.rev == change.rev and stored.placement == "warm":
                    self._move(kept, change, as_of)
                else:
                    self._drop(key)
        for listener in self._listeners.get(key, ()):
            listener.ring(stored.version, trace)

    async def drop(self, key: Key) -> None:
        self._drop(key)

    async def drop_for_ever(self, key: Key) -> None:
        self._fills.pop(key, None)
        self._drop(key)
        self._raise_floor(key, FOR_EVER)

    async def publish(self, key: Key, data: bytes) -> None:
        for listener in self._listeners.get(key, ()):
            listener.signal(data)

    @asynccontextmanager
    async def listen(self, key: Key) -> AsyncGenerator[AsyncIterator[Ring | Signal]]:
        if self._listening >= self._bounds.listeners:
            raise TierUnavailable("hot", "too many listeners on this replica")
        listener = Listener(key)
        self._listeners.setdefault(key, set()).add(listener)
        self._listening += 1
        try:
            yield listener
        finally:
            listener.close()
            self._listening -= 1
            listeners = self._listeners[key]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[key]

    def close(self) -> None:
        """Forget everything; whoever listens hears the end."""
        self._kept.clear()
        self._floors.clear()
        self._fills.clear()
        self._bytes = 0
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close()

    def forget_dead(self) -> int:
        """Forget the copies that are too old to be shown; answers how many. Cost: a look at each, about 0.1 µs."""
        now = self._clock()
        dead = [key for key, kept in self._kept.items() if now >= kept.dies_at]
        for key in dead:
            self._drop(key)
        return len(dead)

    # -- inside

    def _move(self, kept: _Kept, change: Change, as_of: Instant) -> None:
        tail, entries = kept.tail, change.entries
        if entries:
            if tail and tail[-1].seq + 1 != entries[0].seq:
                tail.clear()  # the lines between are not ours to guess
                kept.tail_bytes = 0
            tail.extend(entries)
            kept.tail_bytes += sum([len(line.data) for line in entries])
        kept.stored = _carried(kept.stored, change)
        kept.as_of, kept.copy = as_of, None
        self._bytes -= kept.bytes
        self._keep(change.key, kept, change.tail_from)

    def _keep(self, key: Key, kept: _Kept, tail_from: int) -> None:
        """Put what is kept, and not counted in `_bytes`, within its bounds and at the end of the queue."""
        entries_max, bytes_max = self._bounds.tail_entries, self._bounds.tail_bytes
        tail, tail_bytes = kept.tail, kept.tail_bytes
        while tail and (len(tail) > entries_max or tail_bytes > bytes_max or tail[0].seq < tail_from):
            tail_bytes -= len(tail.popleft().data)
            kept.copy = None
        kept.tail_bytes = tail_bytes
        # Twice the parts: a decoded head holds most of their text once more.
        size = COPY_OVERHEAD_BYTES + tail_bytes + LINE_OVERHEAD_BYTES * len(tail)
        size += 2 * sum(map(len, kept.stored.parts.values()))
        if size > self._bounds.bytes:
            self._kept.pop(key, None)
            return
        kept.bytes = size
        kept.dies_at = to_ms(kept.as_of) / 1000 + self._bounds.ttl_seconds
        self._kept[key] = kept
        self._kept.move_to_end(key)
        self._bytes += size
        while len(self._kept) > self._bounds.sessions or self._bytes > self._bounds.bytes:
            _, evicted = self._kept.popitem(last=False)
            self._bytes -= evicted.bytes

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.bytes

    def _raise_floor(self, key: Key, rev: int) -> None:
        floors = self._floors
        floors[key] = max(rev, floors.get(key, 0))
        floors.move_to_end(key)
        if len(floors) > FLOORS_PER_SESSION * self._bounds.sessions:
            forgotten, _ = floors.popitem(last=False)
            self._fills.pop(forgotten, None)

    def _forget_stale_fills(self, now: float) -> None:
        while self._fills:
            key, fill = next(iter(self._fills.items()))
            if _stands(fill, now):
                return
            del self._fills[key]


def _stands(fill: _Fill, now: float) -> bool:
    """A clock that was set back ends a fill, too: else nobody could fill until it has caught up."""
    return 0 <= now - fill.taken_at < FILL_SECONDS


def _without_private(stored: Stored) -> Stored:
    """The head without what a copy must not hold; its decoded form stays only if it never held that either."""
    if stored.parts.keys() <= _HELD:
        return stored
    parts = {name: stored.parts[name] for name in HOT_PARTS if name in stored.parts}
    return Stored(stored.key, stored.rev, stored.version, parts, placement=stored.placement)


def _carried(before: Stored, change: Change) -> Stored:
    """The head after a change, with the parts that its writer did not hold and did not drop taken from the copy."""
    after = change.stored
    if after.parts.keys() >= before.parts.keys():
        return _without_private(after)
    carried = {
        name: data for name, data in before.parts.items() if name not in after.parts and name not in change.dropped
    }
    carried.update((name, data) for name, data in after.parts.items() if name in _HELD)
    return Stored(after.key, after.rev, after.version, carried, placement=after.placement)
