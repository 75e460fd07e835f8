"""Bare drivers, asked for what a request cannot avoid: one compare-and-set and one script, or one read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from pymongo import AsyncMongoClient
from redis.asyncio import BlockingConnectionPool, Redis

from sessionmanager.model.codec import frame
from sessionmanager.tiers.warm.mongo.trail import line_of
from tests.bench.mongo_bench import LINE, MAJORITY, PARTS
from tests.bench.redis_bench import BARE
from tests.support.builders import a_trail


class Drivers(NamedTuple):
    """Bare clients, and what they are asked with."""

    collection: Any
    redis: Any
    sha: str


Bare = Callable[[Drivers, int, int], Awaitable[object]]
"""One time what a request cannot avoid: the caller's number, and its how-manieth call."""
_FRAMED: Final = {f"parts.{name}": frame(data) for name, data in PARTS.items()}
_COMMIT: Final = {"r": 1, "c": bytes(16), "t": line_of(1 << 60, a_trail(request_id="0123456789abcdef"))}
_FIELDS: Final = [one for name, data in PARTS.items() for one in (name, data)]


async def bare_commit(drivers: Drivers, caller: int, rev: int) -> None:
    push = {"tail": {"$each": [{"s": rev, "b": LINE}], "$slice": -100}}
    update = {"$set": {"rev": rev + 1, **_FRAMED}, "$push": push}
    result = await drivers.collection.update_one({"_id": f"bare-{caller}", "rev": rev}, update)
    assert result.matched_count == 1
    await drivers.redis.evalsha(drivers.sha, 1, f"bare-{caller}", *_FIELDS, "line", LINE)


async def bare_read(drivers: Drivers, caller: int, rev: int) -> None:
    await drivers.redis.hgetall(f"bare-{caller}")


@asynccontextmanager
async def clients(redis_url: str, mongo_url: str, callers: int, *, ring: int = 0) -> AsyncGenerator[Drivers]:
    """For so many callers, each with a session of its own at rev 0.

    ring: commits that lie beside it, as in a document of ours: the stand-in takes as long then, and who waits as long
    for the same call goes on with caches as cold.
    """
    client = AsyncMongoClient[dict[str, Any]](mongo_url)
    pool: Any = BlockingConnectionPool
    redis: Any = Redis.from_pool(pool.from_url(redis_url, max_connections=callers, protocol=2))
    collection = client.get_default_database(write_concern=MAJORITY)["bare"]
    await collection.drop()
    try:
        for caller in range(callers):
            document = {"_id": f"bare-{caller}", "rev": 0, "parts": {}, "tail": [], "ring": [_COMMIT] * ring}
            await collection.insert_one(document)
            lines = [one for i in range(50) for one in (f"line-{i}", LINE)]
            await redis.hset(f"bare-{caller}", items=[*_FIELDS, *lines])
        yield Drivers(collection, redis, await redis.script_load(BARE))
    finally:
        await redis.aclose()
        await client.close()
