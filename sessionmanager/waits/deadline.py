"""How long the work at hand may still take, carried from the edge to every tier without being passed along.

Instants are of the running event loop's clock, so that a virtual loop moves them, too.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from types import coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_deadline: Final[ContextVar[float]] = ContextVar("deadline", default=inf)


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Whatever runs inside, tasks made there included, has at most `seconds`, or what is left of an outer deadline.

    It cancels nothing by itself: whoever waits looks at `remaining`. Needs a running loop.
    """
    ends_at = get_running_loop().time() + seconds
    token = _deadline.set(min(ends_at, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def begin(seconds: float) -> None:
    """As `deadline`, for the rest of this task: for a request, which has a task of its own."""
    _deadline.set(min(get_running_loop().time() + seconds, _deadline.get()))


def lift() -> None:
    """No deadline for the rest of this task: for a stream, each of whose calls has its own."""
    _deadline.set(inf)


def remaining() -> float:
    """Seconds left, at most 0 when the time is over; infinite where no deadline was set. Cost: one look-up."""
    ends_at = _deadline.get()
    return inf if ends_at == inf else ends_at - get_running_loop().time()


class Late(TimeoutError):
    """The time that `in_time` gave is over."""


class _Wait:
    """What a call waits for now; None where it only lets others have their turn."""

    __slots__ = ("late", "on")

    def __init__(self, on: Any) -> None:
        self.on = on
        self.late = False

    def end(self) -> None:
        self.late = True
        if self.on is not None:
            self.on.cancel()


@coroutine
def in_time(seconds: float, call: Awaitable[T]) -> Generator[Any, Any, T]:
    """The answer of a call that is cancelled, and Late raised, when its time is over.

    As `asyncio.timeout` does, and cheaper: a call that never waits sets no timer, and one that does pays a third. An
    answer that comes with the end of the time is the answer. Needs a task.
    """
    steps: Any = call.__await__()
    try:
        wait = _Wait(steps.send(None))
    except StopIteration as end:
        return end.value
    task: Any = current_task()
    cancelled = task.cancelling()
    timer = get_running_loop().call_later(max(0.0, seconds), wait.end)
    try:
        while True:
            step, value = steps.send, None
            try:
                value = yield wait.on
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                step, value = steps.throw, error
            if wait.late and wait.on is None:
                step, value = steps.throw, CancelledError()
            try:
                wait.on = step(value)
            except StopIteration as end:
                return end.value
            if wait.late and wait.on is not None:
                wait.on.cancel()
    except CancelledError:
        if wait.late and task.cancelling() == cancelled:
            raise Late from None
        raise
    finally:
        timer.cancel()
