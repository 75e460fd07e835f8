"""What may happen to a call between a replica and a tier: the six fates, drawn by seed.

A call travels there, takes effect at one moment, and its answer travels back; both ways take a drawn time, so any two
calls may overtake each other. What takes effect runs in the context of the world: it happens even if the caller died,
was cancelled or was told that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from sessionmanager.words import TierName
from tests.support.sim.scheduler import Process, VirtualLoop

T = TypeVar("T")
Effect = Callable[[], Coroutine[Any, Any, Any]]
"""What a call does to the tier. It never waits: tiers are dicts."""

HOP_SECONDS: Final = (0.0002, 0.004)
LATE_SECONDS: Final = (0.2, 4.0)
"""A delayed packet: beyond the lease of a hot copy and any deadline."""


@dataclass(frozen=True)
class Odds:
    """How often each fate befalls a call to one tier; what is left is delivered plainly."""

    refuse: float = 0.0
    lose: float = 0.0
    """It takes effect, the caller hears that nobody knows."""
    late: float = 0.0
    """The caller hears that nobody knows, and only then it takes effect."""
    slow: float = 0.0
    """It takes effect late, or its answer comes late; the caller waits."""
    twice: float = 0.0
    """The driver sent it again: it takes effect twice, and the caller hears either answer."""
    kill: float = 0.0
    """The caller's process dies, before or after the effect."""


@dataclass(frozen=True)
class Outage:
    """From `start` to `end` no call reaches `tier`; of one replica only, if one is named."""

    tier: TierName
    start: float
    end: float
    replica: str | None = None


@dataclass
class Weather:
    """The faults of one run. After `clear()` there are none, but what is under way still lands."""

    odds: dict[TierName, Odds] = field(default_factory=dict[TierName, Odds])
    outages: tuple[Outage, ...] = ()
    fair: bool = False

    def clear(self) -> None:
        self.fair = True

    def of(self, tier: TierName) -> Odds:
        return _NONE if self.fair else self.odds.get(tier, _NONE)

    def is_out(self, tier: TierName, replica: str, now: float) -> bool:
        return not self.fair and any(
            out.tier == tier and out.start <= now < out.end and out.replica in (None, replica) for out in self.outages
        )


_NONE: Final = Odds()


class Link:
    """The way from one process to one tier. strays: names of calls that took effect after their caller was answered."""

    def __init__(
        self,
        loop: VirtualLoop,
        weather: Weather,
        process: Process,
        tier: TierName,
        counts: Counter[str],
        strays: set[str] | None = None,
    ) -> None:
        self._loop = loop
        self._weather = weather
        self._process = process
        self._tier: TierName = tier
        self._counts = counts
        self._strays = strays if strays is not None else set[str]()

    async def read(self, name: str, effect: Effect) -> Any:
        """A call that changes nothing: whatever is lost of it, the tier is unavailable."""
        return await self._send(name, effect, TierUnavailable(self._tier))

    async def write(self, name: str, effect: Effect) -> Any:
        """A call that changes something: if its answer is lost, its outcome is not known."""
        return await self._send(name, effect, OutcomeUnknown(f"no answer came from {self._tier}"))

    async def cache(self, name: str, effect: Effect) -> Any:
        """A change of hot, which has no third answer: its callers must take any failure for an unknown outcome."""
        return await self._send(name, effect, TierUnavailable(self._tier))

    async def _send(self, name: str, effect: Effect, lost: Exception) -> Any:
        random = self._loop.random
        answer: asyncio.Future[Any] = self._loop.create_future()
        there, back, late = random.uniform(*HOP_SECONDS), random.uniform(*HOP_SECONDS), random.uniform(*LATE_SECONDS)
        fate, coin = self._fate(), random.random() < 0.5
        self._loop.note(self._process.name, self._tier, name, fate)
        self._counts[f"{self._tier}.{fate}"] += 1
        match fate:
            case "refuse":
                self._tell(there + back, answer, TierUnavailable(self._tier))
            case "lose":
                self._arrive(there, effect, name, answer, None)
                self._tell(there + back, answer, lost)
            case "late":
                self._tell(there + back, answer, lost)
                self._arrive(late, effect, name, answer, None)
            case "slow":
                first, second = (late, back) if coin else (there, late)
                self._arrive(first, effect, name, answer, second)
            case "twice":
                self._arrive(there, effect, name, answer, back if coin else None)
                self._arrive(late if coin else there + back, effect, name, answer, None if coin else back)
            case "kill":
                if coin:
                    self._arrive(there, effect, name, answer, None)
                self._process.kill()
            case _:
                self._arrive(there, effect, name, answer, back)
        return await answer

    def _fate(self) -> str:
        if self._weather.is_out(self._tier, self._process.replica, self._loop.time()):
            return "refuse"
        odds = self._weather.of(self._tier)
        draw = self._loop.random.random()
        for word in ("refuse", "lose", "late", "slow", "twice", "kill"):
            draw -= getattr(odds, word)
            if draw < 0:
                return word
        return "deliver"

    def _tell(self, seconds: float, answer: asyncio.Future[Any], error: Exception) -> None:
        self._loop.call_later(seconds, _resolve, answer, None, error, context=self._loop.world)

    def _arrive(
        self, seconds: float, effect: Effect, name: str, answer: asyncio.Future[Any], back: float | None
    ) -> None:
        """Let it take effect in `seconds`; `back` seconds later that is the answer, unless `back` is None."""

        def land() -> None:
            if answer.done():
                self._strays.add(name)
            result, error = at_once(effect())
            self._loop.note(self._process.name, self._tier, name, "lands", type(error).__name__ if error else "")
            if back is not None:
                self._loop.call_later(back, _resolve, answer, result, error, context=self._loop.world)

        self._loop.call_later(seconds, land, context=self._loop.world)


def at_once(work: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    """Run a coroutine that never waits; its answer, or its error."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value, None
    except Exception as error:
        return None, error
    work.close()
    raise AssertionError("a model tier waited in the middle of a call")


def _resolve(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
