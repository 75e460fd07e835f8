"""Who is turned away at a bridge's door, told in its log: seldom, since whoever reaches the door can knock all day."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 30.0
TEXT_CHARS_MAX: Final = 300
_log: Final = logging.getLogger("sessionmanager.bridges.doors")


class Denials:
    """Of one door. now: seconds of any clock that only goes forward."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._told_at: float | None = None
        self._untold = 0

    def tell(self, why: str) -> None:
        """One is turned away; why: with what to look at, and no secret. The first within `EVERY_SECONDS` is a line, the
        others are counted in the next."""
        now = self._now()
        if self._told_at is not None and now - self._told_at < EVERY_SECONDS:
            self._untold += 1
            return
        others = f" ({self._untold} more since the last such line)" if self._untold else ""
        # What was called is the caller's to choose: no line feed of theirs begins a line of ours.
        text = why if why.isprintable() else ascii(why)
        _log.warning("turned away: %s%s", text[:TEXT_CHARS_MAX], others)
        self._told_at, self._untold = now, 0
