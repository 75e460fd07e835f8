"""Redis hot: the contract, bare, guarded and through Toxiproxy, on each shape that a Redis has."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sessionmanager.tiers.guard import HOT_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedHot
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.hot.redis import open_redis
from tests.contracts.hot import HotContract
from tests.support.redis_servers import MAC_KEY, RedisKeys
from tests.support.services import service_url
from tests.support.toxiproxy import proxied

pytestmark = pytest.mark.server


@pytest.fixture
def prefix() -> str:
    """Of this test alone: the servers are shared."""
    return f"test-{secrets.token_hex(6)}:"


class TestRedis(HotContract):
    server = "redis"

    @pytest.fixture
    def url(self) -> str:
        return service_url(self.server)

    @pytest.fixture
    async def hot(self, url: str, prefix: str) -> AsyncIterator[Hot]:
        async with open_redis(url, mac_key=MAC_KEY, prefix=prefix, timeout_seconds=2.0) as hot:
            yield hot

    @pytest.fixture
    async def pass_seconds(self, url: str, prefix: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        async with RedisKeys.open(url, prefix) as keys:
            yield keys.age
            await keys.remove()


class TestRedisBehindToxiproxy(TestRedis):
    @pytest.fixture
    async def hot(self, url: str, prefix: str) -> AsyncIterator[Hot]:
        async with (
            proxied(service_url("toxiproxy"), url) as proxy,
            open_redis(proxy.url(url), mac_key=MAC_KEY, prefix=prefix, timeout_seconds=2.0) as hot,
        ):
            await proxy.latency(1)
            yield hot


class TestRedisCluster(TestRedis):
    server = "redis-cluster"


class TestRedisSentinel(TestRedis):
    server = "redis-sentinel"


class _Guarded(TestRedis):
    @pytest.fixture
    async def hot(self, url: str, prefix: str) -> AsyncIterator[Hot]:
        async with open_redis(url, mac_key=MAC_KEY, prefix=prefix, timeout_seconds=2.0) as hot:
            yield GuardedHot(hot, Guard("hot", HOT_LIMITS._replace(timeout_seconds=2.0)))


class TestGuardedRedis(_Guarded):
    pass


class TestGuardedRedisCluster(_Guarded):
    server = "redis-cluster"


class TestGuardedRedisSentinel(_Guarded):
    server = "redis-sentinel"
