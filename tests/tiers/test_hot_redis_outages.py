"""Redis hot while servers come, go, lose their data, are followed by another, and hand slots to each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.protocol import Hot, Ring
from sessionmanager.tiers.hot.redis import START_SECONDS
from sessionmanager.tiers.hot.redis_values import names_of
from sessionmanager.words import Key
from tests.contracts.hot import rev_of
from tests.contracts.hot_bell import heard
from tests.support.hot_builders import AS_OF, KEY, OTHER, a_change, a_copy, fill, lines, ring
from tests.support.redis_servers import PREFIX, masters, move_slot, opened, under_way, until
from tests.support.services import owned, service_url

pytestmark = pytest.mark.fault

NAMES = names_of(PREFIX, KEY)
LATER = "2026-11-21T12:00:01.500Z"


def quickly(url: str, **options: Any) -> AbstractAsyncContextManager[Hot]:
    """As impatient as a service is, nearly."""
    return opened(url, **{"timeout_seconds": 0.25, **options})


def works(hot: Hot, key: Key = KEY) -> Callable[[], Awaitable[bool]]:
    """Whether a copy can be kept and read."""

    async def try_it() -> bool:
        with suppress(TierUnavailable):
            token = await hot.begin_fill(key)
            if token is not None:
                await hot.end_fill(key, token, a_copy(1000, key))
            return await rev_of(hot, key) is not None
        return False

    return try_it


# -- one server


async def test_it_opens_without_redis_refuses_at_once_and_finds_it_when_it_comes(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server:
        await server.kill()
        began = time.monotonic()
        with capture_logs() as logs:
            async with quickly(server.url) as hot:
                assert time.monotonic() - began < 0.5
                for call in (
                    hot.recall(KEY),
                    hot.begin_fill(KEY),
                    hot.after_commit(a_change(1), AS_OF),
                    ring(hot, KEY, 1),
                ):
                    began = time.monotonic()
                    with pytest.raises(TierUnavailable, match="cannot be reached"):
                        await call
                    assert time.monotonic() - began < 0.05
                with pytest.raises(TierUnavailable):
                    await hot.listen(KEY).__aenter__()
                await server.restart()
                await until(works(hot), 5.0)
                async with hot.listen(KEY) as rings:
                    await ring(hot, KEY, 1)
                    await heard(rings, 1)
    assert [line["event"] for line in logs] == ["hot.unreachable", "hot.opened"]


async def test_a_redis_that_hangs_holds_nobody_up_at_the_start(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server:
        server.freeze()
        began = time.monotonic()
        async with quickly(server.url) as hot:
            assert START_SECONDS <= time.monotonic() - began < START_SECONDS + 0.5
            began = time.monotonic()
            with pytest.raises(TierUnavailable, match="in time"):
                await hot.recall(KEY)
            assert time.monotonic() - began < 0.05
            server.thaw()
            await until(works(hot), 8.0)


async def test_a_restart_that_loses_everything_loses_floors_and_tokens_and_shows_nothing_old(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server, quickly(server.url) as hot, hot.listen(KEY) as rings:
        await fill(hot, a_copy(5))
        slow = await hot.begin_fill(OTHER)
        assert slow is not None
        await hot.drop_for_ever(KEY)
        await server.restart(keep_data=False)
        await heard(rings, 0)  # subscribed anew
        assert await hot.recall(KEY) is None
        await hot.end_fill(OTHER, slow, a_copy(1, OTHER))
        assert await hot.recall(OTHER) is None, "a token from before is worth nothing"
        again = await hot.begin_fill(OTHER)
        assert again is not None
        await hot.after_commit(a_change(1, OTHER), AS_OF)
        await hot.end_fill(OTHER, again, a_copy(1, OTHER))
        assert await hot.recall(OTHER) is None, "what began after the restart is guarded as ever"
        await ring(hot, KEY, 4)
        await heard(rings, 4)


async def test_a_server_that_goes_back_in_time_never_makes_an_old_copy_look_younger(tmp_path: Path) -> None:
    """As after a fail-over to a replica that lags, or a restart from a snapshot: copy, floor and token are back."""
    async with owned("redis", tmp_path) as server, quickly(server.url) as hot:
        [client] = await masters(server.url)
        async with client:
            await fill(hot, a_copy(5, tail=lines(1, 3)))
            slow = await hot.begin_fill(KEY)
            assert slow is not None
            before = {name: await client.dump(name) for name in await client.keys("*")}
            await hot.after_commit(a_change(5, entries=lines(4, 4)), LATER)
            await client.flushall()
            for name, dumped in before.items():
                await client.restore(name, 3000, dumped)
            copy = await hot.recall(KEY)
            assert copy is not None
            assert (copy.stored.rev, copy.as_of) == (5, AS_OF), "its lease still counts from the warm call that made it"
            await hot.end_fill(KEY, slow, a_copy(5))
            copy = await hot.recall(KEY)
            assert copy is not None
            assert copy.as_of == AS_OF, "so it is with what a token brings that should have been void"
            await hot.after_commit(a_change(6), LATER)
            assert await hot.recall(KEY) is None, "the next commit finds a gap and drops it"


# -- Sentinel


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_the_master_that_sentinels_name_is_followed(tmp_path: Path, how: str) -> None:
    async with owned("redis-sentinel", tmp_path) as server, quickly(server.url) as hot, hot.listen(KEY) as rings:
        await fill(hot, a_copy(1))
        await asyncio.gather(*(hot.recall(KEY) for _ in range(20)))  # many connections, all to the old master
        if how == "killed":
            await server.kill("primary")
        else:
            server.freeze("primary")
        await until(works(hot), 25.0)
        await hot.after_commit(a_change(1000), AS_OF)
        assert await rev_of(hot) == 1001
        await heard(rings, 0)  # told to look: rings may have been lost
        await ring(hot, KEY, 7)
        await heard(rings, 7)
        if how == "frozen":
            server.thaw("primary")  # it wakes, believes that it is the master, and is told otherwise
            await server.ready()
            assert await rev_of(hot) == 1001
            await hot.after_commit(a_change(1001), AS_OF)
            assert await rev_of(hot) == 1002


async def test_sentinels_that_are_down_hurt_nobody_who_is_connected_and_the_next_is_asked(tmp_path: Path) -> None:
    async with owned("redis-sentinel", tmp_path) as server:
        await server.kill("sentinel-0", "sentinel-1")
        async with quickly(server.url) as hot:
            await until(works(hot))
            await server.kill("sentinel-2")
            assert await rev_of(hot) == 1000


# -- Cluster


def keys_on_every_node(count: int = 60) -> list[Key]:
    return [Key("acme", f"call-{number}") for number in range(count)]


async def test_a_plain_url_of_a_cluster_is_used_as_one() -> None:
    url = "redis://" + service_url("redis-cluster").removeprefix("redis+cluster://").split(",")[0]
    with capture_logs() as logs:
        async with quickly(url, prefix="plain-url:", ttl_seconds=30.0, timeout_seconds=2.0) as hot:
            for key in keys_on_every_node():
                await fill(hot, a_copy(1, key))
                await hot.after_commit(a_change(1, key), AS_OF)
                assert await rev_of(hot, key) == 2
            async with hot.listen(KEY) as rings, hot.listen(OTHER) as others:
                await ring(hot, KEY, 3)
                await ring(hot, OTHER, 4)
                assert await heard(rings, 3) == [Ring(KEY, 3)]
                assert await heard(others, 4) == [Ring(OTHER, 4)]
    assert [(line["event"], line["shape"]) for line in logs] == [("hot.opened", "cluster")]


async def test_a_database_that_a_cluster_does_not_have_is_named_and_the_one_it_has_is_used() -> None:
    url = "redis://" + service_url("redis-cluster").removeprefix("redis+cluster://").split(",")[0] + "/3"
    with capture_logs() as logs:
        async with quickly(url, prefix="plain-url:", ttl_seconds=30.0, timeout_seconds=2.0) as hot:
            await fill(hot, a_copy(9))  # over the floor that another test may have left on these servers
            assert await rev_of(hot) == 9
    assert [line["event"] for line in logs] == ["hot.opened", "hot.weak_server"]


async def test_a_slot_may_move_while_its_sessions_are_in_use(tmp_path: Path) -> None:
    """Copies are missed while half a slot is under way; none is ever older than a commit that was told."""
    async with owned("redis-cluster", tmp_path) as server, quickly(server.url) as hot, hot.listen(KEY) as rings:
        await until(works(hot))
        slot = key_slot(NAMES.copy)
        told, stop = 1000, asyncio.Event()
        refused = 0

        async def use() -> None:
            nonlocal told, refused
            while not stop.is_set():
                try:
                    await hot.after_commit(a_change(told), AS_OF)
                except TierUnavailable:
                    refused += 1
                    await hot.drop(KEY)  # what a caller cannot do; here so that a lost commit is no finding
                told += 1
                with suppress(TierUnavailable):
                    token = await hot.begin_fill(KEY)
                    if token is not None:
                        await hot.end_fill(KEY, token, a_copy(told))
                    copy = await hot.recall(KEY)
                    assert copy is None or copy.stored.rev == told
                await asyncio.sleep(0)

        using = asyncio.create_task(use())
        for _ in range(2):
            await move_slot(slot, server.url, pause=0.2)
        stop.set()
        await using
        assert refused == 0
        await until(works(hot))
        await heard(rings, 0)
        await ring(hot, KEY, 9)
        await heard(rings, 9)


@pytest.mark.parametrize("copies", ["kept", "none"])
async def test_a_ring_is_heard_while_its_slot_is_under_way(tmp_path: Path, copies: str) -> None:
    """Where there is nothing of a session, the script runs on the node that will have it; who listens is not there."""
    async with owned("redis-cluster", tmp_path) as server, quickly(server.url) as hot, hot.listen(KEY) as rings:
        await until(works(hot, KEY if copies == "kept" else OTHER))
        async with under_way(key_slot(NAMES.copy), server.url):
            await ring(hot, KEY, 2000)
            assert (await heard(rings, 2000))[-1] == Ring(KEY, 2000)


async def test_who_only_listens_follows_a_slot_that_moves(tmp_path: Path) -> None:
    async with (
        owned("redis-cluster", tmp_path) as server,
        quickly(server.url) as other,
        quickly(server.url) as hot,
        hot.listen(KEY) as rings,
    ):
        await move_slot(key_slot(NAMES.copy), server.url, pause=0.05)
        await heard(rings, 0)
        await until(works(other))
        await ring(other, KEY, 3)
        await heard(rings, 3)


async def test_a_node_that_dies_is_followed_by_its_replica_and_the_others_go_on(tmp_path: Path) -> None:
    async with owned("redis-cluster", tmp_path) as server, quickly(server.url) as hot:
        keys = keys_on_every_node(12)
        for key in keys:
            await until(works(hot, key))
        dead = [key for key in keys if key_slot(names_of(PREFIX, key).copy) < 16384 // 3]
        alive = [key for key in keys if key_slot(names_of(PREFIX, key).copy) >= 16384 // 3]
        assert dead
        assert alive
        async with hot.listen(dead[0]) as rings:
            await server.kill("node-0")
            for key in alive:
                assert await rev_of(hot, key) == 1000
            for key in dead:
                await until(works(hot, key), 25.0)
            await heard(rings, 0)
            await ring(hot, dead[0], 5)
            await heard(rings, 5)
