"""The model tiers keep every promise of the tiers they stand for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm
from tests.contracts.cold import ColdContract
from tests.contracts.hot import HotContract
from tests.contracts.warm import WarmContract
from tests.support.sim.cold import ModelCold
from tests.support.sim.hot import ModelHot
from tests.support.sim.warm import ModelWarm

pytestmark = pytest.mark.contract

NOW = "2026-11-21T12:00:00.000Z"


class TestModelCold(ColdContract):
    @pytest.fixture
    def cold(self) -> Cold:
        return ModelCold()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def go_on(self, seconds: float) -> None:
        self.now += seconds


class TestModelHot(HotContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def hot(self, clock: Clock) -> Hot:
        return ModelHot(clock)

    @pytest.fixture
    def pass_seconds(self, clock: Clock) -> Callable[[float], Awaitable[None]]:
        return clock.go_on


class TestModelWarm(WarmContract):
    @pytest.fixture
    def warm(self) -> Warm:
        return ModelWarm(lambda: NOW)
