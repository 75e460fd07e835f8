"""Warm on MongoDB keeps the contract, bare and guarded, with linearizable reads and where a server has none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sessionmanager.tiers.guard import WARM_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedWarm
from sessionmanager.tiers.warm.protocol import Warm
from tests.contracts.warm import WarmContract
from tests.support.mongo import LEAKS, a_warm

pytestmark = [pytest.mark.server, LEAKS]


class TestMongo(WarmContract):
    @pytest.fixture
    async def warm(self) -> AsyncIterator[Warm]:
        async with a_warm() as warm:
            yield warm


class TestMongoWithoutLinearizableReads(WarmContract):
    @pytest.fixture
    async def warm(self) -> AsyncIterator[Warm]:
        async with a_warm(exact_reads="witnessed") as warm:
            yield warm


class TestGuardedMongo(WarmContract):
    @pytest.fixture
    async def warm(self) -> AsyncIterator[Warm]:
        async with a_warm() as warm:
            yield GuardedWarm(warm, Guard("warm", WARM_LIMITS._replace(timeout_seconds=10.0)))
