"""What is done about an error: its `remedy` says whether the same request may be sent again, and nothing else does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sessionmanager.errors import Forbidden, OutcomeUnknown, SessionManagerError, Unauthenticated

T = TypeVar("T")
AGAIN: Final = frozenset({"wait", "repeat"})
DOUBLINGS_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and for how long a call is tried.

    tries_max: of one call, the first included. deadline_seconds: of the call with all its tries and pauses; what an
    answer's `Retry-After` goes beyond, is raised at once. try_seconds: of each try. pause_seconds: the first pause, at
    most; doubled for each, up to pause_seconds_max. burst, share: of all calls of a client together, so many may be
    repeated in a row, and then this share of them, so that a service that comes back is not met by everybody's repeats.
    """

    tries_max: int = 8
    deadline_seconds: float = 30.0
    try_seconds: float = 10.0
    pause_seconds: float = 0.1
    pause_seconds_max: float = 5.0
    burst: int = 100
    share: float = 0.1


NEVER: Final = Retry(tries_max=1)
"""Each call is one request."""


class Budget:
    """How many repeats a client may still send: a call earns a share of one, each repeat costs one."""

    def __init__(self, burst: int, share: float) -> None:
        self._burst = burst
        self._share = share
        self._left = float(burst)

    def earn(self) -> None:
        self._left = min(self._left + self._share, float(self._burst))

    def spend(self) -> bool:
        """Whether one more is allowed; it is then paid for."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Retrier:
    """Tries calls as a policy says. rng: of the jitter."""

    def __init__(self, policy: Retry, rng: random.Random) -> None:
        self.policy = policy
        self._rng = rng
        self._budget = Budget(policy.burst, policy.share)

    async def run(
        self,
        attempt: Callable[[float], Awaitable[T]],
        *,
        final: tuple[type[SessionManagerError], ...] = (),
        more_seconds: float = 0.0,
    ) -> T:
        """What `attempt` answers, which is told how many seconds it has. final: errors that are answers in themselves.
        more_seconds: for each try and in all, where an answer is known to take longer.

        Raises the last error; OutcomeUnknown where an earlier try may stand and the last one cannot tell.
        """
        now = asyncio.get_running_loop().time
        give_up_at = now() + self.policy.deadline_seconds + more_seconds
        unknown: OutcomeUnknown | None = None
        self._budget.earn()
        tries = 0
        while True:
            tries += 1
            try:
                return await attempt(max(0.0, min(self.policy.try_seconds + more_seconds, give_up_at - now())))
            except SessionManagerError as error:
                if isinstance(error, OutcomeUnknown):
                    unknown = error
                pause = self.pause(error, tries)
                over = tries >= self.policy.tries_max or now() + pause >= give_up_at
                if error.remedy not in AGAIN or isinstance(error, final) or over or not self._budget.spend():
                    raise _told(error, unknown) from None
            await asyncio.sleep(pause)

    def pause(self, error: SessionManagerError, tries: int) -> float:
        """Seconds until the next try: at least what `Retry-After` says, and some more by chance, so that all who were
        told the same do not come at the same moment."""
        doubled = self.policy.pause_seconds * 2 ** min(tries - 1, DOUBLINGS_MAX)
        backoff = self._rng.uniform(0.5, 1.0) * min(doubled, self.policy.pause_seconds_max)
        # Of the class it is a default for answers that say nothing; on the instance the service has said it.
        said = error.__dict__.get("retry_after_seconds")
        return backoff if said is None else max(backoff, said * self._rng.uniform(1.0, 1.25))


def _told(error: SessionManagerError, unknown: OutcomeUnknown | None) -> SessionManagerError:
    """The error that says most: `Unreachable` now does not undo that an earlier try of the same write may stand."""
    if unknown is None or error is unknown:
        return error
    if error.remedy in AGAIN or isinstance(error, Unauthenticated | Forbidden):
        unknown.add_note(f"then: {error.type}")
        return unknown
    error.add_note("an earlier try of this write got no answer")
    return error
