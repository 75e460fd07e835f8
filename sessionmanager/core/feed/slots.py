"""How many feeds there are, and for whom: nobody can take them all."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.errors import RateLimited
from sessionmanager.words import Key

RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_SPREAD = 4.0
"""Whoever is refused comes back after a time of its own, lest all come back at once."""


class Slots:
    """Counts open feeds of this process."""

    def __init__(self, limits: FeedLimits, rng: random.Random) -> None:
        self._limits = limits
        self._rng = rng
        self._counts: Counter[tuple[str, ...]] = Counter()

    def __len__(self) -> int:
        return self._counts[()]

    def take(self, tenant: str, subject: str, session: Key | None) -> Callable[[], None]:
        """Take one; answers how to give it back, which is to be called once. Raises RateLimited with Retry-After."""
        limits = self._limits
        wanted = {
            (): (limits.streams_max, "this replica"),
            ("tenant", tenant): (limits.streams_per_tenant_max, "this tenant"),
            ("subject", tenant, subject): (limits.streams_per_subject_max, "this subject"),
        }
        if session is not None:
            wanted["session", *session] = (limits.streams_per_session_max, "this session")
        for name, (most, whose) in wanted.items():
            if self._counts[name] >= most:
                refusal = RateLimited(f"too many feeds of {whose} are open here")
                refusal.retry_after_seconds = RETRY_SECONDS_MIN + RETRY_SECONDS_SPREAD * self._rng.random()
                raise refusal
        self._counts.update(wanted.keys())
        return lambda: self._give(tuple(wanted))

    def _give(self, names: tuple[tuple[str, ...], ...]) -> None:
        for name in names:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
