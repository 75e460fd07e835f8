"""How many sessions the clock alone may archive or erase in an hour.

A wrong setting and a clock that lies look the same from here: suddenly everything is due. The cap lets a share of all
sessions go each hour, so that somebody notices before the rest is gone (reliability notes, P20; decision 0019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil
from typing import Final, NamedTuple

from sessionmanager.model.head import Head
from sessionmanager.model.timers import DAY_SECONDS

CAPPED: Final = ("archive", "expire")
"""Work that ends what a session is to its readers, or where it lies, and that nobody asked for."""
HOUR_SECONDS: Final = 3_600.0
EACH_HOUR_MIN: Final = 10
"""So many may always go, or small services would never be done."""
HELD_SECONDS_MAX: Final = 30.0 * DAY_SECONDS


class Held(NamedTuple):
    """Not now. first: the first of its kind in this hour, the one that is told to people. budget: of an hour."""

    seconds: float
    first: bool
    budget: int


class HourlyCap:
    """One a worker. clock: seconds that never go back, so that no wrong time of day makes an hour shorter.

    percent: of all sessions, for each kind of work; 0 = no cap.
    """

    def __init__(self, percent: float, clock: Callable[[], float]) -> None:
        self._percent = percent
        self._clock = clock
        self._began = clock()
        self._done = Counter[str]()
        self._held = Counter[str]()
        self.sessions = 0
        """How many sessions there are, as the worker counted them last."""

    def applies(self, work: str, head: Head) -> bool:
        """Whether this is work that the clock alone asks for."""
        asked = work == "archive" and head.work.archive_asked_by is not None
        return bool(self._percent) and work in CAPPED and not asked

    def take(self, work: str) -> Held | None:
        """Let one more go: None. Else for how long it is held; each a little longer, so that they do not come back
        all at once."""
        now = self._clock()
        if now - self._began >= HOUR_SECONDS:
            self._began = now
            self._done = Counter[str]()
            self._held = Counter[str]()
        budget = max(EACH_HOUR_MIN, ceil(self.sessions * self._percent / 100))
        if self._done[work] < budget:
            self._done[work] += 1
            return None
        self._held[work] += 1
        later = (self._held[work] - 1) // budget * HOUR_SECONDS
        seconds = min(self._began + HOUR_SECONDS - now + later, HELD_SECONDS_MAX)
        return Held(seconds, self._held[work] == 1, budget)

    def give_back(self, work: str) -> None:
        """What was let go did not happen."""
        self._done[work] = max(0, self._done[work] - 1)
