"""`sessionmanager restored` on shared tiers: hot forgets every copy, of its own prefix alone."""

from __future__ import annotations

import secrets

import pytest
from redis.asyncio import Redis, RedisCluster

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.redis_doctor import forget
from tests.services.processes import free_ports
from tests.support.services import service_url

pytestmark = pytest.mark.server

KEYS = 1_203
"""More than go at once, and no multiple of it."""


async def fill(client: Redis | RedisCluster, prefix: str, count: int) -> None:
    pipeline = client.pipeline()
    for i in range(count):
        pipeline.set(f"{prefix}{{{i}}}:copy", b"x", px=600_000)
    await pipeline.execute()


async def test_every_key_of_the_prefix_goes_and_no_other() -> None:
    url, name = service_url("redis"), secrets.token_hex(4)
    async with Redis.from_url(url) as client:
        for prefix in (f"[{name}]*:", f"{name}:", f"x{name}:"):
            await fill(client, prefix, KEYS if prefix.startswith("[") else 2)
        assert await forget(url, prefix=f"[{name}]*:") == KEYS
        assert await forget(url, prefix=f"[{name}]*:") == 0
        assert await forget(url, prefix=f"{name}:") == 2
        assert await forget(url, prefix=f"x{name}:") == 2


async def test_in_a_cluster_too_also_where_it_is_named_as_one_server() -> None:
    url, prefix = service_url("redis-cluster"), f"{secrets.token_hex(4)}:"
    node = url.removeprefix("redis+cluster://").split(",")[0]
    async with RedisCluster.from_url(f"redis://{node}") as client:
        for address in (url, f"redis://{node}"):
            await fill(client, prefix, KEYS)
            assert await forget(address, prefix=prefix) == KEYS


async def test_a_redis_that_is_away_is_told() -> None:
    [port] = free_ports(1)
    with pytest.raises(TierUnavailable, match="ConnectionError"):
        await forget(f"redis://127.0.0.1:{port}")
