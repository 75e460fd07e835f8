"""Where the service answers: users go to another replica, and say the same again, as clients behind a balancer do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from sessionmanager.client.retry import AGAIN, NEVER, Retry

AWAY_SECONDS: Final = 2.0
"""So long nobody goes to an address that gave no answer, unless no other does either."""


class Addresses:
    """The replicas that users know. One alone is asked once for each thing: what it does not answer has failed."""

    def __init__(
        self,
        addresses: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """clock: seconds. chance: from 0 to 1, of the jitter."""
        assert addresses, "a service answers somewhere"
        self.all: Final = tuple(address.rstrip("/") for address in addresses)
        self._back_at = dict.fromkeys(self.all, 0.0)
        self._clock = clock
        self._chance = chance
        self.policy: Final = NEVER if len(self.all) == 1 else Retry()
        """How often and for how long the client of the service says the same again."""

    @property
    def repeats(self) -> bool:
        """Whether anything may be said again, so that a write needs a key."""
        return self.policy.tries_max > 1

    def of(self, user: int) -> str:
        """Where this user goes now: always to the same address while that one answers."""
        now = self._clock()
        place = user % len(self.all)
        ring = (*self.all[place:], *self.all[:place])
        return next((address for address in ring if self._back_at[address] <= now), ring[0])

    def is_away(self, address: str) -> None:
        """It gave no answer."""
        self._back_at[address] = self._clock() + AWAY_SECONDS

    def pause(self, tries: int, remedy: str | None, retry_after: float | None, spent: float) -> float | None:
        """Seconds until the next try; None where the client would tell its caller.

        tries: so far. remedy: what the answer says, None = there was none. spent: seconds since the first try.
        """
        policy = self.policy
        if tries >= policy.tries_max or (remedy is not None and remedy not in AGAIN):
            return None
        backoff = min(policy.pause_seconds * 2 ** (tries - 1), policy.pause_seconds_max) * (0.5 + self._chance() / 2)
        pause = backoff if retry_after is None else max(backoff, retry_after)
        return None if spent + pause >= policy.deadline_seconds else pause
