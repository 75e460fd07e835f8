"""A tenant's feed: what happens in all of its sessions, from the log as the outbox.

Warm lists sessions by their last activity; whoever has moved within the overlap has its log read from where it was read
last. Commits become visible in another order than their times say, and lists may be behind, so every look goes back by
OVERLAP_SECONDS (reliability notes, correction 10): each event comes at least once, with an id that stays the same, and
those of one session come in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import Context
from typing import Final, Protocol

import structlog

from sessionmanager.core.feed.events import Event, Gap, event_of, recorded_at
from sessionmanager.core.feed.items import FAR
from sessionmanager.core.feed.reader import CLOSE_SECONDS, Sources
from sessionmanager.core.feed.subscription import FeedEnded
from sessionmanager.core.history import Range
from sessionmanager.errors import Contended, DataCorrupt, Erased, NotFound, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.protocol import ListQuery, Position, Warm
from sessionmanager.words import Instant, Key

OVERLAP_SECONDS: Final = 25.0
"""A commit may land 10 s after its time, a list be 10 s behind, clocks differ by some: each look goes back so far."""
SESSIONS_PAGE: Final = 200
LINES_PAGE: Final = 200

log = structlog.get_logger()


class TenantSubscriber(Protocol):
    """Somebody who is fed by a tenant's reader. No call may wait."""

    def push(self, events: list[Event]) -> None:
        """What happened in one session, in order."""
        ...

    def lose(self, gap: Gap) -> None:
        """More has happened than is told."""
        ...

    def end(self, ended: FeedEnded) -> None: ...


class TooMany(Exception):
    """More sessions have moved than one look takes."""


class TenantLog:
    """Reads what a tenant's sessions have committed since an instant."""

    def __init__(self, tenant: str, warm: Warm, sources: Sources) -> None:
        self.tenant = tenant
        self._warm = warm
        self._sources = sources

    def now(self) -> Instant:
        return self._warm.now()

    async def moved(self, since: Instant) -> dict[str, int]:
        """The sessions with a commit since then (less the overlap), the longest quiet first, and their newest seqs.

        Raises TooMany, TierUnavailable. Cost: one read of warm for each 200 of them.
        """
        found: dict[str, int] = {}
        after: Position | None = None
        while True:
            query = ListQuery(
                self.tenant,
                SESSIONS_PAGE,
                sort="last_activity",
                after=after,
                active_after=back(since),
            )
            page = await self._warm.list(query)
            found.update((stored.key.id, stored.head.pulse.entry_count) for stored in page.items)
            if page.next is None:
                return dict(reversed(found.items()))
            if len(found) > self._sources.limits.tenant_sessions_max:
                raise TooMany
            after = page.next

    async def lines(self, session: str, known: int | None, since: Instant) -> AsyncGenerator[list[StoredEntry]]:
        """The lines of a session after the seq `known`; where that is not known, those committed since (less the
        overlap). Page after page, ascending. A session that is gone has none."""
        key = Key(self.tenant, session)
        try:
            after = await self._first(key, back(since)) - 1 if known is None else known
            while True:
                page = await self._page(key, after)
                if page:
                    yield page
                if len(page) < LINES_PAGE:
                    return
                after = page[-1].seq
        except (NotFound, Erased):
            return
        except DataCorrupt as error:
            # One log that does not check must not keep those of all other sessions from the tenant.
            log.error("feed.failed", error=type(error).__name__)

    async def _page(self, key: Key, after: int) -> list[StoredEntry]:
        """The next lines of a session that is not erased: looked at after they were read, so that nothing is told of
        one that was a tombstone by then. Raises NotFound, Erased, TierUnavailable. Cost: two reads of warm."""
        lines = await self._warm.read(key, after=after, before=FAR, limit=LINES_PAGE)
        if lines and lines[0].seq == after + 1:
            if (await self._warm.load(key)).stored.tombstone is not None:
                raise Erased
            return lines
        _, found = await self._sources.reads.lines(key, Range(after, FAR, LINES_PAGE))
        return found.lines

    async def _first(self, key: Key, since: Instant) -> int:
        """The seq of the first line committed since then, looked for from the end: recent ones are few."""
        first, size = FAR, 16
        while first > 1:
            _, found = await self._sources.reads.lines(key, Range(0, first, size, descending=True))
            for line in found.lines:
                if recorded_at(line.data) < since:
                    return line.seq + 1
                first = line.seq
            if not found.lines:
                break
            size = LINES_PAGE
        return first


class TenantReader:
    """Follows a tenant for everybody in this process who does, until `close`. Looks once in `tenant_poll_seconds`.

    horizon: everything committed before it, less the overlap, has been handed out. lost: more happens than it can tell.
    """

    def __init__(self, tenant: str, warm: Warm, sources: Sources, on_end: Callable[[TenantReader], None]) -> None:
        self.tenant = tenant
        self.log = TenantLog(tenant, warm, sources)
        self.subscribers: set[TenantSubscriber] = set()
        self.horizon = self.log.now()
        self.lost = False
        self._sources = sources
        self._on_end = on_end
        self._seen: dict[str, int] | None = None
        """The last seq handed out of each session within the overlap; None until the first look."""
        self._task = asyncio.create_task(self._run(), context=Context())

    def close(self) -> None:
        """Stop reading; subscribers hear nothing more."""
        self._task.cancel()

    async def closed(self) -> None:
        """Until its task has ended; not for ever."""
        await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def _run(self) -> None:
        limits, rng = self._sources.limits, self._sources.rng
        try:
            while True:
                try:
                    await self._look()
                except (TierUnavailable, Contended):
                    pass  # the guard has counted it; nothing is missed, for the horizon stays
                except TooMany:
                    self._lose_track()
                await asyncio.sleep(limits.tenant_poll_seconds * (0.5 + rng.random() / 2))
        except Exception as error:
            log.error("feed.failed", error=type(error).__name__)
            for subscriber in tuple(self.subscribers):
                subscriber.end(FeedEnded("failed"))
            self._on_end(self)

    async def _look(self) -> None:
        began = self.log.now()
        moved = await self.log.moved(self.horizon)
        if self._seen is None:
            self._seen = moved  # the feed begins now: what is there already is nobody's news
        else:
            await self._hand_out(moved, self._seen)
        self.horizon, self.lost = began, False

    async def _hand_out(self, moved: Mapping[str, int], seen: dict[str, int]) -> None:
        for session, newest in moved.items():
            known = seen.get(session)
            if known is not None and known >= newest:
                continue
            async for lines in self.log.lines(session, known, self.horizon):
                seen[session] = lines[-1].seq
                events = [event_of(session, line, self.horizon) for line in lines]
                for subscriber in self.subscribers:
                    subscriber.push(events)
            seen[session] = max(newest, seen.get(session, 0))  # also if its lines cannot be read at all
        for session in seen.keys() - moved.keys():
            del seen[session]  # quiet for longer than the overlap

    def _lose_track(self) -> None:
        """So much has happened that nobody could be told all of it: say so once, and begin again."""
        self._seen = None
        self.horizon = self.log.now()
        if not self.lost:
            for subscriber in tuple(self.subscribers):
                subscriber.lose(Gap(self.horizon))
        self.lost = True


def back(instant: Instant) -> Instant:
    return instants.plus(instant, -OVERLAP_SECONDS)
