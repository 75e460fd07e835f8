"""How often a model has refused each conversation here, for good: a carrier that is sent away comes back at once, so
that a wrong key would have every call taken and left some six times a second, for as long as it lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REFUSALS_MAX: Final = 3
"""So many within `WITHIN_SECONDS` are enough: that much another replica may make good, which has another key."""
WITHIN_SECONDS: Final = 60.0
CONVERSATIONS_MAX: Final = 1_000
"""That are remembered; beyond, the oldest is forgotten."""


class Refusals:
    """now: seconds of any clock that only goes forward."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}

    def is_enough(self, conversation: str) -> bool:
        """Count one more. Answers whether it is no use to send the carrier to another replica again."""
        now = self._now()
        since, count = self._seen.pop(conversation, (now, 0))
        if now - since > WITHIN_SECONDS:
            since, count = now, 0
        if count + 1 >= REFUSALS_MAX:
            return True
        if len(self._seen) >= CONVERSATIONS_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[conversation] = since, count + 1
        return False
