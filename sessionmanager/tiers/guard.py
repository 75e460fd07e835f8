"""What protects a tier: a deadline, a circuit breaker, a bound on calls at once, and counts of all of it.

`guarded.py` wraps each kind of tier with it; backends and core hold nothing of this. Nothing is repeated here: the one
layer that does is `retries.py` (reliability notes, correction 12).
"""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable, Coroutine, Generator, Mapping
from types import coroutine
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from sessionmanager.deadline import remaining
from sessionmanager.errors import OutcomeUnknown, RevConflict, SessionManagerError, TierUnavailable
from sessionmanager.tiers.breaker import Breaker, BreakerState, CircuitOpen, Status
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
        write that was given up ended after all), or the type of its error."""
        ...

    def breaker(self, tier: TierName, state: Status) -> None:
        """The worse of the tier's two breakers has changed to this state."""
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

    own_task: whether a write gets a task of its own from the start, as a driver needs it that asks which task it runs
    in (`asyncio.timeout` does). A tier whose writes wait for plain futures alone needs one only once it is given up.
    """

    timeout_seconds: float
    concurrency_max: int
    failures_max: int = 5
    reset_seconds: float = 2.0
    timeouts: Mapping[str, float] = {}
    own_task: bool = True


HOT_LIMITS: Final = Limits(timeout_seconds=0.05, concurrency_max=512, reset_seconds=1.0)
WARM_LIMITS: Final = Limits(
    timeout_seconds=1.0,
    concurrency_max=512,
    timeouts=dict.fromkeys(("list", "trail", "counts", "sweep", "purge"), 5.0),
)
COLD_LIMITS: Final = Limits(timeout_seconds=10.0, concurrency_max=64, reset_seconds=5.0, timeouts={"list": 30.0})


class _Silent:
    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None: ...
    def breaker(self, tier: TierName, state: Status) -> None: ...
    def repeated(self, tier: TierName, operation: str, outcome: str) -> None: ...


SILENT: Final[Observer] = _Silent()


class GuardState(BreakerState):
    """`refuses`: what the tier is not asked for now. Reads and writes have a breaker each, since a full disk or a file
    system that only reads refuses writes and still answers reads; the other members are of the worse one."""

    refuses: Literal["nothing", "reads", "writes", "everything"]


class _Flight:
    """A call that was let through. `seconds`: what it may take, `own_seconds`: what the tier would allow.
    Of a write: `landed` wakes its caller, `late` says that its time is over, `given_up` that its caller has gone on and
    its failure is counted."""

    __slots__ = ("began", "breaker", "given_up", "landed", "late", "operation", "own_seconds", "seconds", "trial")

    def __init__(self, operation: str, breaker: Breaker, own_seconds: float, seconds: float, began: float) -> None:
        self.operation = operation
        self.breaker = breaker
        self.own_seconds = own_seconds
        self.seconds = seconds
        self.began = began
        self.trial = self.late = self.given_up = False
        self.landed: Future[None] | None = None

    def wake(self, _: object = None) -> None:
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(None)

    def is_late(self) -> None:
        self.late = True
        self.wake()


class Guard:
    """One a tier and process. Calls are given as coroutines that have not begun; a refused one is closed unused.

    Cost: a time-out is armed only for a call that suspends, so one that never does (embedded tiers) pays some 2 µs; a
    write pays for a task of its own, or for a future where `Limits.own_task` is off.
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
        self._tier: TierName = tier
        self._timeout_seconds, self._concurrency_max, _, _, self._timeouts, self._own_task = limits
        self._observer = observer
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
        try:
            # Run by hand up to where it first waits; most calls of an embedded tier never do.
            waits_for = call.send(None)
        except StopIteration as end:
            self._end(flight, None)
            return end.value
        except BaseException as error:
            self._end(flight, error)
            raise
        bound = asyncio.timeout(flight.seconds)
        try:
            async with bound:
                answer = await _go_on(call, waits_for)
        except BaseException as error:
            if isinstance(error, TimeoutError) and bound.expired():
                unanswered = NoAnswer(self._tier, f"the {self._tier} tier has not answered in time")
                self._end(flight, unanswered, in_time=False)
                raise unanswered from None
            self._end(flight, error)
            raise
        self._end(flight, None)
        return answer

    async def write(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        """The answer of a call that changes something, which nothing here ever cancels.

        Raises what it raises, TierUnavailable (not begun), and OutcomeUnknown when its time is over: it goes on, counts
        as in flight until it ends, and what becomes of it is the caller's to find out.
        """
        flight = self._begin(self._writes, operation, call)
        loop = asyncio.get_running_loop()
        if not self._own_task:
            return await self._by_hand(flight, call, loop)
        flight.landed = landed = loop.create_future()
        task = self._on_its_own(flight, call, loop)
        # What asyncio.wait does, at two thirds of its cost: 64 writers would pay it for each commit of a group.
        timer = loop.call_later(flight.seconds, flight.wake)
        try:
            await landed
        finally:
            timer.cancel()
        if task.done():
            return task.result()
        raise self._given_up(flight)

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

    async def _by_hand(self, flight: _Flight, call: Coroutine[Any, Any, T], loop: AbstractEventLoop) -> T:
        """Run a write from one wait to the next within its caller. What it waits for never hears of a caller who is
        cancelled or out of time: the rest of it gets a task then."""
        timer = None
        try:
            while True:
                try:
                    waits_for = call.send(None)
                except StopIteration as end:
                    self._end(flight, None)
                    return end.value
                except BaseException as error:
                    self._end(flight, error)
                    raise
                flight.landed = landed = loop.create_future()
                if waits_for is None:  # it only lets others have their turn
                    loop.call_soon(flight.wake)
                else:
                    waits_for._asyncio_future_blocking = False  # what a task does with a future that it is given
                    waits_for.add_done_callback(flight.wake)
                timer = timer or loop.call_later(flight.seconds, flight.is_late)
                try:
                    if not flight.late:
                        await landed
                except asyncio.CancelledError:
                    self._on_its_own(flight, _rest(call, waits_for), loop)
                    raise
                if flight.late and waits_for is not None and not waits_for.done():
                    self._on_its_own(flight, _rest(call, waits_for), loop)
                    raise self._given_up(flight)
        finally:
            if timer is not None:
                timer.cancel()

    def _on_its_own(self, flight: _Flight, call: Coroutine[Any, Any, T], loop: AbstractEventLoop) -> Task[T]:
        task = loop.create_task(call)
        self._tasks[task] = flight
        task.add_done_callback(self._landed)
        return task

    def _given_up(self, flight: _Flight) -> OutcomeUnknown:
        flight.given_up = True
        unknown = OutcomeUnknown(f"the {self._tier} tier has not answered in time")
        self._count(flight, unknown, in_time=False)
        return unknown

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
        self._observer.observe(self._tier, operation, "refused", 0.0)
        return NotAsked(self._tier, f"the {self._tier} tier is not asked: {why}", seconds)

    def _landed(self, task: Task[Any]) -> None:
        flight = self._tasks.pop(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        flight.wake()
        if not flight.given_up:
            self._end(flight, error)
            return
        self._observer.observe(self._tier, flight.operation, "late", self._clock() - flight.began)
        self._leave()

    def _end(self, flight: _Flight, error: BaseException | None, *, in_time: bool = True) -> None:
        self._count(flight, error, in_time=in_time)
        self._leave()

    def _leave(self) -> None:
        self._calls -= 1
        if not self._calls:
            for drained in self._drained:
                _wake(drained)

    def _count(self, flight: _Flight, error: BaseException | None, *, in_time: bool = True) -> None:
        """Tell the observer and the breaker how a call ended."""
        seconds = self._clock() - flight.began
        breaker, trial = flight.breaker, flight.trial
        outcome = "ok"
        if error is None:
            breaker.succeeded(trial=trial)
        elif not in_time:
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
        self._observer.observe(self._tier, flight.operation, outcome, seconds)

    def _changed(self, _: Status) -> None:
        status = max(self._reads.status, self._writes.status, key=_WORSE.__getitem__)
        if status != self._status:
            self._status = status
            self._observer.breaker(self._tier, status)


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


async def _rest(call: Coroutine[Any, Any, T], waits_for: Any) -> T:
    """The rest of a write that was run by hand so far, for a task of its own."""
    if waits_for is not None:
        waits_for._asyncio_future_blocking = True
    return await _go_on(call, waits_for)


@coroutine
def _go_on(call: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """`yield from` for a coroutine that has already begun and waits for something."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            call.close()
            raise
        except BaseException as error:
            step, value = call.throw, error
        else:
            step, value = call.send, sent
        try:
            waits_for = step(value)
        except StopIteration as end:
            return end.value
