"""A power cut at one call: the tiers stop at the n-th of them, and nothing is applied from then on."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from traceback import walk_tb
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")


class Killed(BaseException):
    """The process is dead. No handler of ours may catch it: it is no `Exception`."""


class Place(NamedTuple):
    """A line of a file that the dead process was in."""

    file: str
    line: int


class Halt:
    """Counts the calls to all tiers it is around, in one row. Until it is armed it only counts."""

    def __init__(self) -> None:
        self.calls = 0
        self._last: int | None = None

    def arm(self, at: int) -> None:
        """Die instead of the `at`-th call from now (1 = the next), and of every call after it."""
        assert at >= 1
        self.calls = 0
        self._last = at

    def around(self, tier: T) -> T:
        """The tier, until the halt."""
        return cast("T", _Halted(tier, self))

    def count(self) -> None:
        self.calls += 1
        if self._last is not None and self.calls >= self._last:
            raise Killed


class _Halted:
    def __init__(self, tier: Any, halt: Halt) -> None:
        self._tier = tier
        self._halt = halt

    def __getattr__(self, operation: str) -> Any:
        inner = getattr(self._tier, operation)
        if not iscoroutinefunction(inner):
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._halt.count()
            return await inner(*args, **kwargs)

        return call


def places(killed: Killed) -> Iterator[Place]:
    """Where the process was when it died, the outermost line first; tasks that were awaited are looked into."""
    for frame, line in walk_tb(killed.__traceback__):
        yield Place(Path(frame.f_code.co_filename).name, line)
