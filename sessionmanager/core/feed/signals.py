"""Signals: said to whoever listens, on every replica, and kept nowhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sessionmanager.errors import RateLimited
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.words import Key

SIGNALS_PER_SECOND: Final = 50.0
SIGNALS_BURST: Final = 100.0
BUCKETS_MAX: Final = 10_000
"""Sessions whose rate is remembered; the longest silent is forgotten first."""


class Signals:
    """Sends signals, of one session on this replica `SIGNALS_PER_SECOND` on average. clock: seconds, monotonic."""

    def __init__(self, hot: Hot, clock: Callable[[], float]) -> None:
        self._hot = hot
        self._clock = clock
        self._buckets: OrderedDict[Key, tuple[float, float]] = OrderedDict()  # longest silent first

    async def send(self, key: Key, data: bytes) -> None:
        """Tell everybody who follows this session. Raises RateLimited; TierUnavailable("hot"): nobody was told."""
        self._spend(key)
        await self._hot.publish(key, data)

    def _spend(self, key: Key) -> None:
        now = self._clock()
        left, seen = self._buckets.pop(key, (SIGNALS_BURST, now))
        left = min(SIGNALS_BURST, left + (now - seen) * SIGNALS_PER_SECOND)
        self._buckets[key] = (max(left - 1, 0) if left >= 1 else left, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateLimited("too many signals of this session")
