"""A circuit breaker for one tier: pybreaker's state machine behind a gate of our own.

pybreaker has no asyncio path: a decorated coroutine function never fails in its eyes, `call_async` needs Tornado and
holds a lock over the await, `calling()` lets every call that waits probe at once and counts a cancellation as a
failure. So the machine is only told how calls ended, and this gate decides who may call: while it is open nobody until
the next probe is due, then one. (Issue "Production tiers"; reliability notes, correction 12.)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, NoReturn, TypedDict

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker, CircuitBreakerListener, CircuitBreakerState

from sessionmanager.errors import SessionManagerError

Status = Literal["ok", "open", "half-open"]
PROBE_SECONDS: Final = 1.0
"""What a refused caller is told to wait while a trial call is on its way."""
JITTER: Final = 0.5
"""A reset waits between (1 - JITTER) and (1 + JITTER) times its length, so that replicas do not probe in step."""


class BreakerState(TypedDict):
    """What `/health` shows. `failures`: in a row. `last_error`: the name of its class. `reason`: what it said.
    `away_seconds`: since the breaker opened, trials included.

    `status` is `half-open` from when a trial is due, also while nobody has come to make it: no more is known then."""

    status: Status
    failures: int
    last_error: str | None
    reason: str | None
    away_seconds: float | None
    retry_after_seconds: float | None


class CircuitOpen(Exception):
    """The breaker lets nobody through; it is worth asking again in `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the circuit is open")
        self.retry_after_seconds = retry_after_seconds


class Breaker:
    """Opens after `failures_max` failures in a row; one trial call at a time decides whether it closes again.

    Not for threads: everything happens on one event loop. Cost: an attribute read per call while all is well.
    """

    def __init__(
        self,
        failures_max: int,
        reset_seconds: float,
        *,
        on_change: Callable[[Status], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._reset_seconds = reset_seconds
        self._on_change = on_change
        self._clock = clock
        self._rand = rand
        self._status: Status = "ok"
        self._probe_at = 0.0
        self._trying = False
        self._away_at = 0.0
        self._last_error: str | None = None
        self._reason: str | None = None
        # Its own clock (wall time, read only while it is open) is never asked: the gate closes and half-opens it.
        self._machine = CircuitBreaker(
            fail_max=failures_max,
            reset_timeout=reset_seconds,
            listeners=[_Changes(self._changed)],
            throw_new_error_on_trip=False,
        )

    def admit(self) -> bool:
        """Leave to make one call, to be followed by `succeeded`, `failed` or `undecided`; True if it is the trial.

        Raises CircuitOpen: nobody may call now.
        """
        if self._status == "ok":
            return False
        left = self._seconds_to_probe()
        if left > 0:
            raise CircuitOpen(left)
        if self._status == "open":
            self._machine.half_open()
        self._trying = True
        return True

    def succeeded(self, *, trial: bool) -> None:
        """A call ended with an answer, whatever it said. One that began before the breaker opened proves nothing."""
        if trial:
            self._trying = False
        elif self._status != "ok":
            return
        if trial or self._machine.fail_counter:
            self._machine.call(_nothing)

    def failed(self, error: BaseException, *, trial: bool) -> None:
        """A call could not reach the tier, or got no answer in time."""
        if trial:
            self._trying = False
        elif self._status != "ok":
            return
        self._last_error = type(error).__name__
        # Of another's error only the class: its text may hold an address, and with it a password.
        self._reason = error.detail if isinstance(error, SessionManagerError) else self._last_error
        with suppress(_Failed):
            self._machine.call(_raise)

    def undecided(self, *, trial: bool) -> None:
        """A call ended without telling anything of the tier (cancelled, no time left): the next one may try."""
        if trial:
            self._trying = False

    @property
    def status(self) -> Status:
        return self._status

    @property
    def trial_due(self) -> bool:
        """Whether the next caller would be the trial. False while all is well, and while a trial is on its way."""
        return self._status != "ok" and self._seconds_to_probe() <= 0

    def state(self) -> BreakerState:
        return {
            "status": "half-open" if self.trial_due else self._status,
            "failures": self._machine.fail_counter,
            "last_error": self._last_error,
            "reason": self._reason,
            "away_seconds": None if self._status == "ok" else self._clock() - self._away_at,
            "retry_after_seconds": None if self._status == "ok" else self._seconds_to_probe(),
        }

    def _seconds_to_probe(self) -> float:
        return PROBE_SECONDS if self._trying else max(0.0, self._probe_at - self._clock())

    def _changed(self, name: str) -> None:
        status: Status = "ok" if name == STATE_CLOSED else "open" if name == STATE_OPEN else "half-open"
        if status == "open":
            self._probe_at = self._clock() + self._reset_seconds * (1 - JITTER + 2 * JITTER * self._rand())
        if status != self._status:
            if self._status == "ok":
                self._away_at = self._clock()
            self._status = status
            if self._on_change is not None:
                self._on_change(status)


class _Changes(CircuitBreakerListener):
    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed

    def state_change(
        self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState
    ) -> None:
        self._changed(new_state.name)


class _Failed(Exception):
    """Tells the machine of a failure that was met elsewhere."""


def _nothing() -> None:
    pass


def _raise() -> NoReturn:
    raise _Failed
