"""Warm on MongoDB keeps the contract: bare, guarded, through Toxiproxy, and without linearizable reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sessionmanager.tiers.guard import WARM_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedWarm
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import Warm
from tests.contracts.warm import WarmContract
from tests.support.mongo import LEAKS, a_database, a_warm
from tests.support.services import service_url
from tests.support.toxiproxy import proxied

pytestmark = [pytest.mark.server, LEAKS]


class TestMongo(WarmContract):
    @pytest.fixture
    async def warm(self) -> AsyncIterator[Warm]:
        async with a_warm() as warm:
            yield warm


class TestMongoBehindToxiproxy(WarmContract):
    @pytest.fixture
    async def warm(self) -> AsyncIterator[Warm]:
        async with (
            a_database() as url,
            proxied(service_url("toxiproxy"), url) as proxy,
            open_mongo(proxy.url(url), standalone="allowed", counts_age_seconds=0.0) as warm,
        ):
            await proxy.latency(1)
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
