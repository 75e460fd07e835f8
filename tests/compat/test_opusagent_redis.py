"""The storage with Redis beside the service inside: copies lie there, and losing them loses nothing."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sessionmanager.compat.opusagent import RedisSessionStorage, SessionManagerService
from tests.support.services import service_url

pytestmark = pytest.mark.server


async def test_redis_holds_copies_under_the_prefix_and_may_lose_them(tmp_path: Path) -> None:
    url, prefix = service_url("redis"), f"t{secrets.token_hex(6)}:"
    service = SessionManagerService(RedisSessionStorage(url, prefix, max_connections=4, data_dir=tmp_path, environ={}))
    async with Redis.from_url(url) as redis:
        await service.create_session("c-1", conversation_history=[{"role": "user", "content": "Hello?"}])
        assert await service.get_session("c-1") is not None
        kept = [key async for key in redis.scan_iter(match=f"{prefix}*")]
        assert kept
        await redis.delete(*kept)
        resumed = await service.resume_session("c-1")
        assert resumed is not None
        assert [item["content"] for item in resumed.conversation_history] == ["Hello?"]
        await service.delete_session("c-1")
        await service.close()


async def test_without_redis_everything_goes_on(tmp_path: Path) -> None:
    service = SessionManagerService(RedisSessionStorage("redis://127.0.0.1:1", data_dir=tmp_path, environ={}))
    await service.create_session("c-1")
    resumed = await service.resume_session("c-1")
    assert resumed is not None
    assert resumed.resumed_count == 1
    await service.close()
