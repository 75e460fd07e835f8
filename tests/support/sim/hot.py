"""Hot as dicts: copies, floors and fill tokens, moved in one step as a script would; and its way over the network."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.hot.listener import Listener
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy, Hot, Ring, Signal
from sessionmanager.words import Instant, Key
from tests.support.sim.network import Link

FILL_SECONDS: Final = 3.0
FOR_EVER: Final = 2**62


@dataclass
class Shelf:
    """All that hot holds, so that it can be lost or set back as a whole."""

    copies: dict[Key, Copy] = field(default_factory=dict[Key, Copy])
    floors: dict[Key, int] = field(default_factory=dict[Key, int])
    fills: dict[Key, tuple[str, float]] = field(default_factory=dict[Key, tuple[str, float]])

    def copied(self) -> Shelf:
        return Shelf(dict(self.copies), dict(self.floors), dict(self.fills))


class ModelHot:
    """The plainest hot tier. `clock`: seconds, for the life of a fill token."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = 0
        self._bells: dict[Key, list[Listener]] = {}
        self.shelf = Shelf()

    # -- what a cache may do to anybody, at any time

    def lose(self) -> None:
        self.shelf = Shelf()

    def evict(self, choice: random.Random) -> None:
        """Forget one copy, floor or token, for want of room."""
        shelves: tuple[dict[Key, Any], ...] = (self.shelf.copies, self.shelf.floors, self.shelf.fills)
        shelf = choice.choice(shelves)
        if shelf:
            del shelf[choice.choice(sorted(shelf))]

    def snapshot(self) -> Shelf:
        return self.shelf.copied()

    def go_back(self, older: Shelf) -> None:
        """A replica that lags is promoted."""
        self.shelf = older.copied()

    # -- the protocol

    async def recall(self, key: Key) -> Copy | None:
        found = self.shelf.copies.get(key)
        return found if found and found.stored.rev >= self.shelf.floors.get(key, 0) else None

    async def begin_fill(self, key: Key) -> str | None:
        held = self.shelf.fills.get(key)
        if held is not None and held[1] > self._clock():
            return None
        self._tokens += 1
        token = f"token-{self._tokens}"
        self.shelf.fills[key] = (token, self._clock() + FILL_SECONDS)
        return token

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        shelf = self.shelf
        held = shelf.fills.get(key)
        if held is None or held[0] != token or held[1] <= self._clock():
            return
        del shelf.fills[key]
        there = shelf.copies.get(key)
        if copy.stored.key != key or copy.stored.tombstone is not None:
            return
        if copy.stored.rev >= shelf.floors.get(key, 0) and not (there and there.stored.rev > copy.stored.rev):
            shelf.copies[key] = Copy(_hot_parts(copy.stored), copy.tail, copy.as_of)

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        key, shelf, stored = change.key, self.shelf, change.stored
        there = shelf.copies.get(key)
        if stored.tombstone is not None:
            await self.drop_for_ever(key)
        elif there is not None and there.stored.rev == change.rev and stored.placement == "warm":
            shelf.copies[key] = _move(there, change, as_of)
        elif there is not None and there.stored.rev <= change.rev:
            del shelf.copies[key]
        shelf.floors[key] = max(shelf.floors.get(key, 0), change.rev + 1)
        shelf.fills.pop(key, None)
        for listener in self._bells.get(key, ()):
            listener.ring(stored.version, trace)

    async def drop(self, key: Key) -> None:
        self.shelf.copies.pop(key, None)

    async def drop_for_ever(self, key: Key) -> None:
        self.shelf.copies.pop(key, None)
        self.shelf.fills.pop(key, None)
        self.shelf.floors[key] = FOR_EVER

    async def publish(self, key: Key, data: bytes) -> None:
        for listener in self._bells.get(key, ()):
            listener.signal(data)

    @asynccontextmanager
    async def listen(self, key: Key) -> AsyncGenerator[AsyncIterator[Ring | Signal], None]:
        listener = Listener(key)
        self._bells.setdefault(key, []).append(listener)
        try:
            yield listener
        finally:
            self._bells[key].remove(listener)
            listener.close()
            if not self._bells[key]:
                del self._bells[key]


def _hot_parts(stored: Stored) -> Stored:
    parts = {name: data for name, data in stored.parts.items() if name in HOT_PARTS}
    return Stored(stored.key, stored.rev, stored.version, parts, placement=stored.placement, tombstone=stored.tombstone)


def _move(there: Copy, change: Change, as_of: Instant) -> Copy:
    """The copy one commit on. Lines that do not follow take the tail's place."""
    after = change.stored
    kept = there.tail if _joins(there.tail, change.entries) else ()
    parts = {name: data for name, data in there.stored.parts.items() if name not in change.dropped}
    parts |= {name: after.parts[name] for name in change.changed if name in HOT_PARTS}
    tail = tuple(line for line in (*kept, *change.entries) if line.seq >= change.tail_from)
    return Copy(Stored(after.key, after.rev, after.version, parts, placement=after.placement), tail, as_of)


def _joins(tail: tuple[StoredEntry, ...], added: tuple[StoredEntry, ...]) -> bool:
    return not tail or not added or added[0].seq == tail[-1].seq + 1


class FarHot:
    """The same at the far end of a link. The doorbell is a hint: a ring may be lost, and listening needs no link."""

    def __init__(self, hot: Hot, link: Link) -> None:
        self._hot = hot
        self._link = link

    async def recall(self, key: Key) -> Copy | None:
        return await self._link.read("recall", lambda: self._hot.recall(key))

    async def begin_fill(self, key: Key) -> str | None:
        return await self._link.cache("begin_fill", lambda: self._hot.begin_fill(key))

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        await self._link.cache("end_fill", lambda: self._hot.end_fill(key, token, copy))

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        await self._link.cache(f"after_commit {change.rev + 1}", lambda: self._hot.after_commit(change, as_of, trace))

    async def drop(self, key: Key) -> None:
        await self._link.cache("drop", lambda: self._hot.drop(key))

    async def drop_for_ever(self, key: Key) -> None:
        await self._link.cache("drop_for_ever", lambda: self._hot.drop_for_ever(key))

    async def publish(self, key: Key, data: bytes) -> None:
        await self._link.cache("publish", lambda: self._hot.publish(key, data))

    @asynccontextmanager
    async def listen(self, key: Key) -> AsyncGenerator[AsyncIterator[Ring | Signal], None]:
        async with self._hot.listen(key) as rings:
            yield rings
