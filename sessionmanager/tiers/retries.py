"""Repeats reads that failed: the one layer that does; drivers repeat nothing (reliability notes, correction 12).

Only what changes nothing is repeated, and only where that may help: a connection that broke, a server that is not the
primary any more. Not what a guard refused or waited for in vain: more of that is what keeps an overload going. Pauses
grow and have full jitter, and of all calls at most a tenth are repeats, so that a tier in trouble meets little more
than it did before. Writes are never repeated here: the ledger finds out what became of one and sends the very same
again (`core/send.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.guard import Guard, NoAnswer, NotAsked
from sessionmanager.waits.deadline import remaining

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]

TRIES_MAX: Final = 3
"""The first one included."""
PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 0.4
"""A pause lies anywhere between nothing and the first of these, then twice as much, and never over the second."""
BUDGET_SHARE: Final = 0.1
"""Repeats that each call earns for all."""
BUDGET_MAX: Final = 10.0
"""Repeats that may be saved up: what a tier that has been well may meet at once when its connections break."""


class Retries:
    """One a tier and process, around its guard. Cost: a sum a call; what tenacity costs (20 µs) only once one failed.

    sleep: injected, so that a test need not wait.
    """

    def __init__(self, guard: Guard, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._guard = guard
        self._sleep = sleep
        self._budget = BUDGET_MAX
        self._wait = wait_random_exponential(multiplier=PAUSE_SECONDS, max=PAUSE_SECONDS_MAX)

    @property
    def budget(self) -> float:
        """Repeats that may be made now."""
        return self._budget

    async def read(self, operation: str, call: Call[T]) -> T:
        """As `Guard.read`, of a call that may be made again. Raises what the last try raised."""
        self._budget = min(BUDGET_MAX, self._budget + BUDGET_SHARE)
        try:
            return await self._guard.read(operation, call())
        except TierUnavailable as error:
            if not _may_pass(error):
                raise
            return await self._again(operation, call, error)

    async def _again(self, operation: str, call: Call[T], first: TierUnavailable) -> T:
        """What is left of the tries, the first of which has failed with `first`."""
        failed: list[TierUnavailable] = [first]
        refused = ""

        async def attempt() -> T:
            if failed:  # what is known already: it is this error that the first pause follows
                raise failed.pop()
            return await self._guard.read(operation, call())

        def stop(state: RetryCallState) -> bool:
            nonlocal refused
            if state.attempt_number < TRIES_MAX:
                refused = self._refusal(state.upcoming_sleep)
            return bool(refused) or state.attempt_number >= TRIES_MAX

        retrying: Any = AsyncRetrying(
            sleep=self._sleep,
            stop=stop,
            wait=self._wait,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            answer: T = await retrying(attempt)
        except TierUnavailable:
            self._guard.observer.repeated(self._guard.tier, operation, refused or "failed")
            raise
        self._guard.observer.repeated(self._guard.tier, operation, "ok")
        return answer

    def _refusal(self, pause: float) -> str:
        """Why no repeat may be made after this pause; empty, and one taken off the budget, where it may."""
        if remaining() <= pause:
            return "deadline"
        if self._budget < 1:
            return "budget"
        self._budget -= 1
        return ""


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may well be answered a moment later."""
    return isinstance(error, TierUnavailable) and not isinstance(error, NotAsked | NoAnswer)
