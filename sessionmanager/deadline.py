"""How long the work at hand may still take, carried from the edge to every tier without being passed along.

Instants are of the running event loop's clock, so that a virtual loop moves them, too.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Final

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
