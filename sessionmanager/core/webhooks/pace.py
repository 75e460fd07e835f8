"""How hard a receiver is tried: gaps between attempts, and how many at once."""

from __future__ import annotations

import random
from typing import Final

from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.model import instants
from sessionmanager.words import Instant

FAILING: Final = 3
"""Failures in a row, of any sessions, after which the hook itself is taken to fail."""
FIRST_WIDTH: Final = 2
GAP_SECONDS_MIN: Final = 1.0
DOUBLINGS_MAX: Final = 30


class Pace:
    """Of one hook. width: how many requests may be under way; it grows with each success, up to `hook_at_once`.

    A hook that fails has one request under way, and after each a pause of up to `pause_seconds_max`: however many
    sessions wait, a dead receiver costs next to nothing. failing_since: no attempt has succeeded since then.
    """

    def __init__(self, limits: WebhookLimits, rng: random.Random, failing_since: Instant | None = None) -> None:
        self._limits = limits
        self._rng = rng
        self.failing_since = failing_since
        self.width = FIRST_WIDTH if failing_since is None else 1
        self._failures = 0 if failing_since is None else FAILING
        self._paused_until: Instant | None = None

    @property
    def is_failing(self) -> bool:
        return self._failures >= FAILING

    def may_try(self, now: Instant) -> bool:
        return self._paused_until is None or self._paused_until <= now

    def delivered(self) -> None:
        """An attempt succeeded."""
        self._failures, self.failing_since, self._paused_until = 0, None, None
        self.width = min(self._limits.hook_at_once, self.width + 1)

    def failed(self, now: Instant, wait_seconds: float) -> None:
        """An attempt failed. wait_seconds: how long the receiver wants to be left alone."""
        self._failures += 1
        self.failing_since = self.failing_since or now
        self.width = 1 if self.is_failing else max(1, self.width // 2)
        pause = 0.0
        if self.is_failing:
            doublings = min(self._failures - FAILING, DOUBLINGS_MAX)
            pause = self._rng.random() * min(self._limits.pause_seconds_max, 2.0**doublings)
        pause = max(pause, min(wait_seconds, self._limits.longest_gap_seconds))
        if pause:
            self._paused_until = max(instants.plus(now, pause), self._paused_until or now)

    def gap(self, failures: int) -> float:
        """Seconds until a line is tried again after so many failures: exponential, with full jitter."""
        doublings = min(max(0, failures - 1), DOUBLINGS_MAX)
        most = min(self._limits.longest_gap_seconds, self._limits.first_gap_seconds * 2.0**doublings)
        return max(GAP_SECONDS_MIN, self._rng.random() * most)

    def failing_for(self, now: Instant) -> float:
        """Seconds since the first failure in a row."""
        return 0.0 if self.failing_since is None else instants.seconds_between(self.failing_since, now)
