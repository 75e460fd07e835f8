"""Which sessions a hook owes lines to its receiver, and whose turn it is. Names and numbers: nothing here waits."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterable
from typing import Final

from sessionmanager.core.webhooks.outbox import Mark, Moved
from sessionmanager.core.webhooks.places import Followed, Place
from sessionmanager.model import instants
from sessionmanager.words import Instant

REVIVE_SECONDS: Final = 30.0
"""A receiver that answers again gets what it has missed within so much time, not all at once."""


class Roster:
    """The sessions that a hook follows. mark: what was committed before it is known here.

    busy: sessions that somebody works on: one at a time works on a session, so its lines go out in order.
    """

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.sessions: dict[str, Followed] = {}
        self.busy: set[str] = set()
        self._ready: deque[str] = deque()
        self._later: list[tuple[Instant, str]] = []
        self._queued: set[str] = set()
        """In `_ready` or `_later`."""

    @property
    def owed(self) -> int:
        """Sessions with lines that the receiver has not got."""
        return sum(followed.owed for followed in self.sessions.values())

    def restore(self, session: str, place: Place, rev: int) -> None:
        """A place that somebody has written. What the log has beyond it is found out by reading."""
        followed = self.sessions[session] = Followed(place, (place.seq or 0) + 1, self.mark.since, rev)
        self._queue(session, followed)

    def offer(self, moved: Moved) -> None:
        """Sessions that have moved; the mark moves on."""
        since = self.mark.since
        for session, newest in moved.sessions.items():
            followed = self.sessions.get(session)
            if followed is None:
                followed = self.sessions[session] = Followed(Place(since=since), newest, self.mark.at)
            elif followed.newest < newest:
                if not followed.owed:
                    followed.owed_from = self.mark.at
                followed.newest = newest
            if followed.owed:
                self._queue(session, followed)
        self.mark = moved.mark

    def take(self, now: Instant) -> tuple[str, Followed] | None:
        """Whose turn it is; it is busy until `free`. None: nobody's."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[1])
        while self._ready:
            session = self._ready.popleft()
            self._queued.discard(session)
            followed = self.sessions.get(session)
            if followed is not None and followed.owed and session not in self.busy:
                self.busy.add(session)
                return session, followed
        return None

    def free(self, session: str) -> None:
        """Nobody works on it any more."""
        self.busy.discard(session)
        followed = self.sessions.get(session)
        if followed is not None and followed.owed:
            self._queue(session, followed)

    def quiet(self, seen: Iterable[str]) -> list[str]:
        """Sessions that are owed nothing and that the last look has not seen."""
        moving = set(seen)
        return [
            session
            for session, followed in self.sessions.items()
            if not followed.owed and session not in moving and session not in self.busy
        ]

    def unwritten(self, before: Instant) -> list[str]:
        """Sessions that have been owed lines since before then, of which no record says so."""
        return [
            session
            for session, followed in self.sessions.items()
            if followed.owed and not followed.stored and followed.owed_from < before and session not in self.busy
        ]

    def safe(self) -> Mark:
        """The mark from which somebody else can go on by the records alone and misses nothing."""
        at = min(
            (followed.owed_from for followed in self.sessions.values() if followed.owed and not followed.stored),
            default=None,
        )
        if at is None or at >= self.mark.at:
            return self.mark
        if self.mark.reached is None or at <= self.mark.since:
            return Mark(min(at, self.mark.since))
        return self.mark._replace(reached=at)

    def revive(self, now: Instant, rng: random.Random) -> None:
        """The receiver answers again: try soon what was put off for long."""
        later, self._later = self._later, []
        soon = instants.plus(now, REVIVE_SECONDS)
        for at, session in later:
            self._later.append((at if at <= soon else instants.plus(now, REVIVE_SECONDS * rng.random()), session))
        heapq.heapify(self._later)

    def _queue(self, session: str, followed: Followed) -> None:
        if session in self._queued or session in self.busy:
            return
        self._queued.add(session)
        if followed.not_before is None:
            self._ready.append(session)
        else:
            heapq.heappush(self._later, (followed.not_before, session))
