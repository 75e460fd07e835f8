"""A guarded tier of one value, its faults and what its observer was told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.breaker import Status
from sessionmanager.tiers.guard import Guard, Limits
from sessionmanager.words import TierName
from tests.support.faulty import Faulty

LIMITS = Limits(timeout_seconds=1.0, concurrency_max=4, failures_max=3, reset_seconds=10.0, timeouts={"slowly": 5.0})
DOWN = TierUnavailable("warm")


class Noted:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.seconds: list[float] = []
        self.states: list[Status] = []
        self.repeats: list[tuple[str, str]] = []

    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None:
        assert tier == "warm"
        self.calls.append((operation, outcome))
        self.seconds.append(seconds)

    def breaker(self, tier: TierName, state: Status, reason: str = "") -> None:
        assert tier == "warm"
        self.states.append(state)

    def repeated(self, tier: TierName, operation: str, outcome: str) -> None:
        assert tier == "warm"
        self.repeats.append((operation, outcome))


class Box:
    """A tier of one value."""

    def __init__(self) -> None:
        self.value = 0

    async def get(self) -> int:
        return self.value

    async def slowly(self) -> int:
        return self.value

    async def put(self, value: int) -> None:
        self.value = value


class Bench:
    """A guarded box on the running loop's time."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.box = Box()
        self.faulty: Any = Faulty(self.box)
        self.noted = Noted()
        self.loop = asyncio.get_running_loop()
        self.guard = Guard("warm", limits, self.noted, clock=self.loop.time, rand=lambda: 0.5)

    async def get(self) -> int:
        return await self.guard.read("get", self.faulty.get())

    async def put(self, value: int) -> None:
        await self.guard.write("put", self.faulty.put(value))

    async def open(self) -> None:
        self.faulty.fail_before("get", DOWN, 3)
        for _ in range(3):
            with pytest.raises(TierUnavailable):
                await self.get()
        assert self.guard.state()["status"] == "open"


def status(bench: Bench) -> tuple[str, str]:
    state = bench.guard.state()
    return state["status"], state["refuses"]
