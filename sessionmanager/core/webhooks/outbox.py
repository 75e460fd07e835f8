"""The log as the outbox: which sessions of a tenant have moved, and what they have said since.

The same rule as the tenant's feed has (`core/feed/tenant.py`, reliability notes, correction 10): commits become visible
in another order than their times say and lists may be behind, so every look goes back by OVERLAP_SECONDS. But nothing
is ever passed over: where more has moved than one look takes, time is gone through piece by piece, the oldest first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sessionmanager.core.feed.events import recorded_at
from sessionmanager.core.feed.items import FAR
from sessionmanager.core.feed.tenant import back
from sessionmanager.core.history import Range
from sessionmanager.core.reads import Reads
from sessionmanager.core.webhooks.shared import PAGE, WebhookLimits
from sessionmanager.model import instants
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.protocol import ListQuery, Position, Warm
from sessionmanager.words import Instant, Key

FIRST_LOOK_BACK: Final = 16
SPAN_SECONDS_MIN: Final = 0.002
"""A piece of time that is divided no further."""

_Found = tuple[tuple[str, int, Instant], ...]
"""Sessions, their newest seqs, and when they were last active; the longest quiet first."""


class Mark(NamedTuple):
    """How far a reader of the outbox has come.

    since: everything committed before it, less the overlap, is known. reached: None, or within a walk through more
    than one look takes: sessions whose last activity lies before it are known too; of the others still all that was
    committed since `since` is owed. span: of the walk's pieces, in seconds; 0 = not known yet.
    """

    since: Instant
    reached: Instant | None = None
    span: float = 0.0

    @property
    def at(self) -> Instant:
        return self.since if self.reached is None else self.reached


class Moved(NamedTuple):
    """Sessions and their newest seqs, the longest quiet first; and where to look next."""

    sessions: Mapping[str, int]
    mark: Mark


class _Look(NamedTuple):
    """A look that hooks of the tenant share: all that has moved since `since`."""

    since: Instant
    began: Instant
    at: float
    found: _Found


class Outbox:
    """What one tenant has said. clock: seconds that never go back. Hooks of the tenant share their looks."""

    def __init__(
        self, tenant: str, warm: Warm, reads: Reads, limits: WebhookLimits, clock: Callable[[], float]
    ) -> None:
        self.tenant = tenant
        self._warm = warm
        self._reads = reads
        self._limits = limits
        self._clock = clock
        self._look: _Look | None = None
        self._looking = asyncio.Lock()

    def now(self) -> Instant:
        return self._warm.now()

    async def moved(self, mark: Mark) -> Moved:
        """The sessions with a commit since the mark, or a piece of them.

        Raises TierUnavailable. Cost: one read of warm for each 200 of them, and none where another hook of the tenant
        has just looked.
        """
        if mark.reached is not None:
            return await self._piece(mark, mark.reached)
        least = back(mark.since)
        async with self._looking:
            look = self._look
            if look is None or look.since > least or self._clock() - look.at >= self._limits.poll_seconds / 2:
                began, at = self._warm.now(), self._clock()
                found = await self._between(least, None, self._limits.look_sessions_max)
                look = self._look = None if found is None else _Look(least, began, at, found)
        if look is None:
            return await self._piece(mark, least)
        sessions = {session: newest for session, newest, active in look.found if active >= least}
        return Moved(sessions, Mark(max(look.began, mark.since)))

    async def _piece(self, mark: Mark, start: Instant) -> Moved:
        """What was last active from `start` on, up to an instant before which not too many were.

        Who moves on meanwhile is met again in a later piece, with all it has said since the walk began.
        """
        began = self._warm.now()
        rest = instants.seconds_between(start, began)
        span = mark.span * 2 if mark.span else rest / 2
        most: int | None = self._limits.look_sessions_max
        while True:
            end = instants.plus(start, span)
            found = await self._between(start, None if end >= began else end, most)
            if found is not None:
                break
            if span > SPAN_SECONDS_MIN:
                span = min(span, rest) / 2
            else:
                most = None  # thousands at one instant
        sessions = {session: newest for session, newest, _ in found}
        return Moved(sessions, Mark(began) if end >= began else Mark(mark.since, end, span))

    async def _between(self, start: Instant, end: Instant | None, most: int | None) -> _Found | None:
        """Sessions last active from `start` on, and before `end`; None: there are more than `most`."""
        found: list[tuple[str, int, Instant]] = []
        after: Position | None = None
        size = PAGE if most is None else min(PAGE, most + 1)
        while True:
            query = ListQuery(
                self.tenant, size, sort="last_activity", after=after, active_after=start, active_before=end
            )
            page = await self._warm.list(query)
            pulses = [(stored.key.id, stored.head.pulse) for stored in page.items]
            found += [(session, pulse.entry_count, pulse.last_activity) for session, pulse in pulses]
            if most is not None and len(found) > most:
                return None
            if page.next is None:
                return tuple(reversed(found))
            after = page.next

    async def lines(self, session: str, after: int, limit: int) -> list[StoredEntry]:
        """The next lines after a seq, from wherever they lie, of the session as it is now.

        Raises NotFound, Erased, DataCorrupt, TierUnavailable, Contended. Cost: two reads of warm; more where they have
        left the tail.
        """
        _, found = await self._reads.lines(Key(self.tenant, session), Range(after, FAR, limit))
        return found.lines

    async def before(self, session: str, since: Instant) -> int:
        """The seq before the first line committed since then, less the overlap. Looked for from the end.

        Raises as `lines`.
        """
        least, first, size = back(since), FAR, FIRST_LOOK_BACK
        while first > 1:
            _, found = await self._reads.lines(Key(self.tenant, session), Range(0, first, size, descending=True))
            for line in found.lines:
                if recorded_at(line.data) < least:
                    return line.seq
                first = line.seq
            if not found.lines:
                break
            size = PAGE
        return 0
