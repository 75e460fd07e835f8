"""What protects a tier: a deadline, a circuit breaker, a bound on calls at once, and counts of all of it.

`guarded.py` wraps each kind of tier with it; backends and core hold nothing of this. Nothing is repeated here: the one
layer that does is `retries.py` (reliability notes, correction 12).
"""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import Future, Task
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from sessionmanager.errors import OutcomeUnknown, RevConflict, SessionManagerError, TierUnavailable
from sessionmanager.tiers.breaker import Breaker, BreakerState, CircuitOpen, Status
from sessionmanager.waits.deadline import Late, in_time, remaining
from sessionmanager.words import TierName

T = TypeVar("T")

SLOW_SHARE: Final = 0.5
"""A call that its request's deadline ended counts as a failure of the tier only if it had this share of the time that
the tier allows; else callers in a hurry could open the breaker of a healthy tier."""
LONG_SHARE: Final = 0.25
"""What an operation with a long time of its own may take of what is left of its request, and never less than any other
operation: a list may look at many rows, and its caller still hears in good time that nobody answers."""
BUSY_RETRY_SECONDS: Final = 1.0


class Observer(Protocol):
    """Where calls are counted. Called on the event loop, must not raise, should cost a microsecond or two."""

    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None:
        """A call ended: `ok`, `timeout`, `refused` (breaker, too many at once, no time left), `cancelled`, `late` (a
        call that was given up ended after all), or the type of its error."""
        ...

    def breaker(self, tier: TierName, state: Status, reason: str = "") -> None:
        """The worse of the tier's two breakers has changed to this state. reason: what the last failure said."""
        ...

    def repeated(self, tier: TierName, operation: str, outcome: str) -> None:
        """A read that failed was to be repeated: `ok` or `failed` (it was, and how that ended), `budget` or `deadline`
        (it was not, for this reason)."""
        ...


class NotAsked(TierUnavailable):
    """The guard let nobody through: to ask once more at once would be refused as well."""


class NoAnswer(TierUnavailable):
    """The guard has waited for as long as it may: to ask once more would be to wait as long again."""


class Limits(NamedTuple):
    """timeout_seconds: for a call, `timeouts` naming operations that may take longer (within a request see
    `LONG_SHARE`). concurrency_max: calls at once, writes that were given up but still run included. failures_max,
    reset_seconds: see `Breaker`.

    own_task: whether calls run in tasks of their own, as they must behind a driver. What a write has sent over a
    network cannot be called back, so it goes on when its caller is out of time or cancelled. A read is cancelled then,
    but once: PyMongo, cancelled a second time while it cleans up after the first, can keep a lock that all its calls
    wait for (before Python 3.12). None is needed by a tier in this process that drops a write which has not begun, and
    ends one that has, nor by hot, whose calls may all be lost.
    """

    timeout_seconds: float
    concurrency_max: int
    failures_max: int = 5
    reset_seconds: float = 2.0
    timeouts: Mapping[str, float] = {}
    own_task: bool = True


HOT_LIMITS: Final = Limits(timeout_seconds=0.05, concurrency_max=512, reset_seconds=1.0, own_task=False)
WARM_LIMITS: Final = Limits(
    timeout_seconds=1.0,
    concurrency_max=512,
    timeouts=dict.fromkeys(("list", "trail", "counts", "sweep", "purge"), 5.0),
)
COLD_LIMITS: Final = Limits(timeout_seconds=10.0, concurrency_max=64, reset_seconds=5.0, timeouts={"list": 30.0})


class _Silent:
    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None: ...
    def breaker(self, tier: TierName, state: Status, reason: str = "") -> None: ...
    def repeated(self, tier: TierName, operation: str, outcome: str) -> None: ...


SILENT: Final[Observer] = _Silent()


class GuardState(BreakerState):
    """`refuses`: what the tier is not asked for now. Reads and writes have a breaker each, since a full disk or a file
    system that only reads refuses writes and still answers reads; the other members are of the worse one."""

    refuses: Literal["nothing", "reads", "writes", "everything"]


class _Flight:
    """A call that was let through. `seconds`: what it may take, `own_seconds`: what the tier would allow.
    In a task of its own: `landed` wakes its caller, `given_up` says that the caller has gone on and its failure is
    counted."""

    __slots__ = ("began", "breaker", "given_up", "landed", "operation", "own_seconds", "seconds", "trial")

    def __init__(self, operation: str, breaker: Breaker, own_seconds: float, seconds: float, began: float) -> None:
        self.operation = operation
        self.breaker = breaker
        self.own_seconds = own_seconds
        self.seconds = seconds
        self.began = began
        self.trial = self.given_up = False
        self.landed: Future[None] | None = None

    def wake(self) -> None:
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(None)


class Guard:
    """One a tier and process. Calls are given as coroutines that have not begun; a refused one is closed unused.

    Cost: a time-out is armed only for a call that suspends, so one that never does (embedded tiers) pays some 2 µs; a
    call that gets a task of its own (`Limits.own_task`) pays for that.
    """

    def __init__(
        self,
        tier: TierName,
        limits: Limits,
        observer: Observer = SILENT,
        *,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.tier: TierName = tier
        self.observer = observer
        self._timeout_seconds, self._concurrency_max, _, _, self._timeouts, self._own_task = limits
        self._clock = clock
        self._reads, self._writes = (
            Breaker(limits.failures_max, limits.reset_seconds, on_change=self._changed, clock=clock, rand=rand)
            for _ in range(2)
        )
        self._status: Status = "ok"
        self._calls = 0
        self._tasks: dict[Task[Any], _Flight] = {}
        self._drained: list[Future[None]] = []  # one for each caller of `drain`

    async def read(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        """The answer of a call that changes nothing, or nothing that may not be lost; cancelled when its time is over.

        Raises what it raises, and TierUnavailable: no leave to call, or no answer in time.
        """
        flight = self._begin(self._reads, operation, call)
        return await (self._apart if self._own_task else self._bounded)(flight, call, writes=False)

    async def write(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        """The answer of a call that changes something; where it has a task of its own nothing here ever cancels it.

        Raises what it raises, TierUnavailable (not begun), and OutcomeUnknown when its time is over: what becomes of it
        is the caller's to find out. In a task of its own it goes on, and counts as in flight until it ends.
        """
        flight = self._begin(self._writes, operation, call)
        return await (self._apart if self._own_task else self._bounded)(flight, call, writes=True)

    def state(self) -> GuardState:
        """For `/health`."""
        reads, writes = self._reads.state(), self._writes.state()
        worse = max(reads, writes, key=lambda state: (_WORSE[state["status"]], state["failures"]))
        refused = (reads["status"] != "ok", writes["status"] != "ok")
        return {**worse, "refuses": _REFUSES[refused]}

    @property
    def trials_due(self) -> tuple[bool, bool]:
        """Whether the next read, and the next write, would be the trial that closes its breaker or opens it anew."""
        return self._reads.trial_due, self._writes.trial_due

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended, writes that were given up included."""
        return self._calls

    async def drain(self, timeout_seconds: float) -> int:
        """Wait until nothing is in flight; answers how many still are when the time is over. It refuses nobody."""
        if self._calls:
            drained = asyncio.get_running_loop().create_future()
            self._drained.append(drained)
            try:
                await asyncio.wait((drained,), timeout=timeout_seconds)
            finally:
                self._drained.remove(drained)
        return self._calls

    # -- inside

    async def _apart(self, flight: _Flight, call: Coroutine[Any, Any, T], *, writes: bool) -> T:
        """The answer of a call in a task of its own; a read that nobody waits for any more is cancelled, once."""
        loop = asyncio.get_running_loop()
        flight.landed = landed = loop.create_future()
        task = loop.create_task(call)
        self._tasks[task] = flight
        task.add_done_callback(self._landed)
        # What asyncio.wait does, at two thirds of its cost: 64 writers would pay it for each commit of a group.
        timer = loop.call_later(flight.seconds, flight.wake)
        try:
            await landed
        except asyncio.CancelledError as left:
            if not (writes or task.done()):
                self._give_up(flight, left)
                task.cancel()
            raise
        finally:
            timer.cancel()
        if task.done():
            return task.result()
        unanswered = self._unanswered(writes=writes)
        self._give_up(flight, unanswered, late=True)
        if not writes:
            task.cancel()
        raise unanswered

    async def _bounded(self, flight: _Flight, call: Coroutine[Any, Any, T], *, writes: bool) -> T:
        """The answer of a call that is cancelled when its time is over, and with its caller."""
        try:
            answer = await in_time(flight.seconds, call)
        except Late:
            unanswered = self._unanswered(writes=writes)
            self._end(flight, unanswered, late=True)
            raise unanswered from None
        except BaseException as error:
            self._end(flight, error)
            raise
        self._end(flight, None)
        return answer

    def _unanswered(self, *, writes: bool) -> OutcomeUnknown | NoAnswer:
        silent = f"the {self.tier} tier has not answered in time"
        return OutcomeUnknown(silent) if writes else NoAnswer(self.tier, silent)

    def _begin(self, breaker: Breaker, operation: str, call: Coroutine[Any, Any, Any]) -> _Flight:
        own_seconds, left = self._timeout_seconds, remaining()
        if operation in self._timeouts:
            own_seconds = max(own_seconds, min(self._timeouts[operation], LONG_SHARE * left))
        seconds = min(own_seconds, left)
        if seconds <= 0:
            raise self._refusal(operation, call, "no time is left", BUSY_RETRY_SECONDS)
        if self._calls >= self._concurrency_max:
            raise self._refusal(operation, call, "too many calls at once", BUSY_RETRY_SECONDS)
        flight = _Flight(operation, breaker, own_seconds, seconds, self._clock())
        try:
            flight.trial = breaker.admit()
        except CircuitOpen as circuit:
            raise self._refusal(operation, call, "it failed too often", circuit.retry_after_seconds) from None
        self._calls += 1
        return flight

    def _refusal(self, operation: str, call: Coroutine[Any, Any, Any], why: str, seconds: float) -> TierUnavailable:
        call.close()
        self.observer.observe(self.tier, operation, "refused", 0.0)
        return NotAsked(self.tier, f"the {self.tier} tier is not asked: {why}", seconds)

    def _landed(self, task: Task[Any]) -> None:
        flight = self._tasks.pop(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        flight.wake()
        if not flight.given_up:
            self._end(flight, error)
            return
        if not task.cancelled():
            self.observer.observe(self.tier, flight.operation, "late", self._clock() - flight.began)
        self._leave()

    def _give_up(self, flight: _Flight, error: BaseException, *, late: bool = False) -> None:
        """Its caller goes on, though it has not ended: what it comes to is told as `late`, no news of the tier."""
        flight.given_up = True
        self._count(flight, error, late=late)

    def _end(self, flight: _Flight, error: BaseException | None, *, late: bool = False) -> None:
        self._count(flight, error, late=late)
        self._leave()

    def _leave(self) -> None:
        self._calls -= 1
        if not self._calls:
            for drained in self._drained:
                _wake(drained)

    def _count(self, flight: _Flight, error: BaseException | None, *, late: bool = False) -> None:
        """Tell the observer and the breaker how a call ended."""
        seconds = self._clock() - flight.began
        breaker, trial = flight.breaker, flight.trial
        outcome = "ok"
        if error is None:
            breaker.succeeded(trial=trial)
        elif late:
            outcome = "timeout"
            if flight.seconds >= SLOW_SHARE * flight.own_seconds:
                breaker.failed(error, trial=trial)
            else:
                breaker.undecided(trial=trial)
        elif isinstance(error, _FAILURES):
            outcome = error.type if isinstance(error, SessionManagerError) else "internal"
            breaker.failed(error, trial=trial)
        elif isinstance(error, _ANSWERS):
            outcome = error.type if isinstance(error, SessionManagerError) else "rev-conflict"
            breaker.succeeded(trial=trial)
        else:
            # Cancelled by the caller, or a fault of ours: neither says anything of the tier.
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "internal"
            breaker.undecided(trial=trial)
        self.observer.observe(self.tier, flight.operation, outcome, seconds)

    def _changed(self, _: Status) -> None:
        status = max(self._reads.status, self._writes.status, key=_WORSE.__getitem__)
        if status != self._status:
            self._status = status
            self.observer.breaker(self.tier, status, self.state()["reason"] or "")


_FAILURES: Final = (TierUnavailable, OutcomeUnknown, OSError)
_ANSWERS: Final = (SessionManagerError, RevConflict)
_WORSE: Final[Mapping[Status, int]] = {"ok": 0, "half-open": 1, "open": 2}
_REFUSES: Final[Mapping[tuple[bool, bool], Literal["nothing", "reads", "writes", "everything"]]] = {
    (False, False): "nothing",
    (True, False): "reads",
    (False, True): "writes",
    (True, True): "everything",
}


def _wake(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
