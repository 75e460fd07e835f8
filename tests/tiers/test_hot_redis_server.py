"""Redis hot on a server of its own: values that are not ours, who we are, too little room."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.hot.redis import FLOOR_LEASES
from sessionmanager.tiers.hot.redis_values import names_of
from sessionmanager.words import Key
from tests.contracts.hot import rev_of
from tests.contracts.hot_bell import heard
from tests.services.own import OwnServer
from tests.support.hot_builders import AS_OF, AS_OF_SECONDS, KEY, OTHER, a_change, a_copy, fill, lines, ring
from tests.support.redis_servers import PREFIX, RedisKeys, Wire, emptied, opened
from tests.support.services import owned

pytestmark = pytest.mark.server

NAMES = names_of(PREFIX, KEY)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnServer]:
    async with owned("redis", tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis(server: OwnServer) -> AsyncIterator[Redis[Any]]:
    """The driver's own client; the server is empty and as it was configured."""
    async with emptied(server.url) as client:
        yield client


@pytest.fixture
async def hot(server: OwnServer, redis: Redis[Any]) -> AsyncIterator[Hot]:
    async with opened(server.url) as hot:
        yield hot


# -- values


async def test_everything_kept_runs_out_and_nothing_but_our_keys_is_there(hot: Hot, redis: Redis[Any]) -> None:
    await fill(hot, a_copy(1))
    await hot.begin_fill(OTHER)
    await redis.pexpire(NAMES.copy, 5000)
    await hot.after_commit(a_change(1), AS_OF)
    await hot.drop_for_ever(OTHER)
    left = {name: await redis.pttl(name) for name in await redis.keys("*")}
    other = names_of(PREFIX, OTHER)
    assert set(left) == {NAMES.copy, NAMES.floor, other.floor}
    assert 3590_000 < left[NAMES.copy] <= 3600_000
    assert FLOOR_LEASES * 2000 < left[NAMES.floor] <= FLOOR_LEASES * 2000 + 3000
    assert left[other.floor] > 3590_000, "the floor of an erased session outlives every copy that there could be"


async def test_what_the_floor_would_hide_is_not_even_there(hot: Hot, redis: Redis[Any]) -> None:
    """A floor runs out long before a copy does."""
    await hot.after_commit(a_change(6), AS_OF)
    await fill(hot, a_copy(6))
    assert await redis.exists(NAMES.copy) == 0
    await fill(hot, a_copy(7))
    await hot.after_commit(a_change(8), AS_OF)
    assert await redis.exists(NAMES.copy) == 0, "a commit that finds a gap drops the copy"


@pytest.mark.parametrize("field", [b"m", b"h", b"pulse", b"context", b"1"])
async def test_a_corrupted_value_is_a_miss_once_and_its_connection_is_closed(
    hot: Hot, redis: Redis[Any], field: bytes
) -> None:
    await fill(hot, a_copy(1, tail=lines(1, 3)))
    kept = await redis.hget(NAMES.copy, field)
    await redis.hset(NAMES.copy, field, kept[:-1] + bytes([kept[-1] ^ 1]))
    before = await redis.info("stats")
    with capture_logs() as logs:
        assert await hot.recall(KEY) is None
    assert [line["event"] for line in logs] == ["hot.value_refused"]
    assert await redis.exists(NAMES.copy) == 0
    assert await hot.recall(KEY) is None
    after = await redis.info("stats")
    assert after["total_connections_received"] == before["total_connections_received"] + 1
    await fill(hot, a_copy(1))
    assert await rev_of(hot) == 1


async def test_another_sessions_value_is_never_shown(hot: Hot, redis: Redis[Any]) -> None:
    stranger = Key("other-tenant", "call-4711")
    await fill(hot, a_copy(9, stranger))
    await redis.copy(names_of(PREFIX, stranger).copy, NAMES.copy)
    with capture_logs():
        assert await hot.recall(KEY) is None
    assert await rev_of(hot, stranger) == 9


async def test_keys_of_another_kind_are_dropped_wherever_they_are_met(hot: Hot, redis: Redis[Any]) -> None:
    async def spoil() -> None:
        await redis.delete(*NAMES[:3])
        for name in NAMES[:2]:
            await redis.lpush(name, b"what is this")

    await spoil()
    assert await hot.recall(KEY) is None
    await spoil()
    await hot.after_commit(a_change(4), AS_OF)
    assert await redis.get(NAMES.floor) == b"5"
    await spoil()
    await fill(hot, a_copy(4))
    assert await redis.type(NAMES.copy) == b"hash"
    assert await hot.recall(KEY) is None, "the floor cannot be read, so nothing is certain"
    await spoil()
    await redis.sadd(NAMES.fill, b"x")
    assert await hot.begin_fill(KEY) is None
    await hot.drop_for_ever(KEY)
    assert await redis.get(NAMES.floor) == b"x"
    await spoil()
    await hot.drop(KEY)
    assert await redis.exists(NAMES.copy) == 0


async def test_a_copy_of_another_format_is_a_miss_and_goes_with_the_next_commit(hot: Hot, redis: Redis[Any]) -> None:
    await redis.hset(NAMES.copy, mapping={"m": "2 of the future", "h2": "?"})
    assert await hot.recall(KEY) is None
    assert await redis.exists(NAMES.copy) == 1
    await hot.after_commit(a_change(4), AS_OF)
    assert await redis.exists(NAMES.copy) == 0


async def test_scripts_that_the_server_has_forgotten_are_sent_again(hot: Hot, redis: Redis[Any]) -> None:
    for rev in range(1, 4):
        await redis.script_flush()
        await fill(hot, a_copy(rev))
        await redis.script_flush()
        await hot.after_commit(a_change(rev), AS_OF)
        assert await rev_of(hot) == rev + 1
    await redis.script_flush()
    await hot.drop_for_ever(KEY)
    assert await rev_of(hot) is None


async def test_a_commit_sends_its_change_and_not_the_session(server: OwnServer, redis: Redis[Any]) -> None:
    async with Wire.to(server.url) as wire, opened(wire.url) as hot:
        await fill(hot, a_copy(1, tail=lines(1, 90, size=500)))
        for rev in (1, 2):
            wire.taken()
            await hot.after_commit(a_change(rev, entries=lines(90 + rev, 90 + rev, size=500)), AS_OF)
        up, down, trips = wire.taken()
        assert up < 1200
        assert down < 50
        assert trips == 1


async def test_a_long_talk_stays_within_its_bounds_of_memory(hot: Hot, redis: Redis[Any]) -> None:
    await fill(hot, a_copy(1, tail=lines(1, 100)))
    for rev in range(1, 400):
        await hot.after_commit(a_change(rev, entries=lines(99 + 2 * rev, 100 + 2 * rev)), AS_OF)
        if rev % 50 == 0:
            copy = await hot.recall(KEY)
            assert copy is not None
            assert copy.tail[-1].seq == 100 + 2 * rev
            assert 80 <= len(copy.tail) <= 130
    assert await redis.hlen(NAMES.copy) < 80


async def test_whatever_is_done_it_shows_what_memory_shows(hot: Hot, redis: Redis[Any]) -> None:
    """Seeded steps on both; the tail may begin elsewhere, since it is trimmed by whole runs."""
    rng = random.Random(4711)
    async with open_memory("memory://", clock=lambda: AS_OF_SECONDS) as memory:
        rev, seq, tokens = 1, 0, ["", ""]
        for _ in range(600):
            step = rng.choice(("commit", "commit", "commit", "late", "early", "begin", "end", "drop", "seal", "shrink"))
            if step in ("commit", "seal", "shrink"):
                count = rng.choice((0, 1, 1, 2, 20))
                change = a_change(
                    rev,
                    entries=lines(seq + 1, seq + count),
                    tail_from=max(1, seq - rng.randrange(30)) if step == "seal" else 0,
                    dropped=("detail",) if step == "shrink" else (),
                    parts=("pulse", "work", "keys"),
                )
                rev, seq = rev + 1, seq + count
                for one in (memory, hot):
                    await one.after_commit(change, AS_OF)
            elif step in ("late", "early"):
                change = a_change(max(0, rev + (-2 if step == "late" else 2)))
                rev = max(rev, change.rev + 1)
                for one in (memory, hot):
                    await one.after_commit(change, AS_OF)
            elif step == "begin":
                begun = [await one.begin_fill(KEY) for one in (memory, hot)]
                assert (begun[0] is None) == (begun[1] is None)
                tokens = [new or old for new, old in zip(begun, tokens, strict=True)]
            elif step == "end":
                copy = a_copy(max(1, rev - rng.choice((0, 0, 0, 1))), tail=lines(max(1, seq - 60), seq) if seq else ())
                for one, token in zip((memory, hot), tokens, strict=True):
                    await one.end_fill(KEY, token, copy)
            else:
                for one in (memory, hot):
                    await one.drop(KEY)
            theirs, ours = await memory.recall(KEY), await hot.recall(KEY)
            assert (theirs is None) == (ours is None), step
            if theirs is not None and ours is not None:
                assert theirs.stored.rev == ours.stored.rev
                assert dict(theirs.stored.parts) == dict(ours.stored.parts)
                shorter, longer = sorted((theirs.tail, ours.tail), key=len)
                assert longer[len(longer) - len(shorter) :] == shorter
                assert bool(shorter) == bool(longer)


# -- who we are, and how much room there is


async def test_a_wrong_password_is_told_without_it(server: OwnServer, redis: Redis[Any]) -> None:
    await redis.config_set("requirepass", "the right one")
    url = server.url.replace("redis://", "redis://:s3cr3t@")
    with capture_logs() as logs:
        async with opened(url) as hot:
            with pytest.raises(TierUnavailable, match="refuses user or password") as refusal:
                await hot.recall(KEY)
    assert [line["event"] for line in logs] == ["hot.unreachable"]
    assert "s3cr3t" not in repr(logs) + repr(refusal.value) + repr(refusal.value.__context__)
    async with opened(url, password="the right one") as hot:
        await fill(hot, a_copy(1))
        assert await rev_of(hot) == 1


async def test_a_database_of_its_own_is_used(server: OwnServer, redis: Redis[Any]) -> None:
    async with opened(server.url, db=3) as hot:
        await fill(hot, a_copy(1))
        assert await redis.dbsize() == 0
        assert (await redis.info("keyspace"))["db3"]["keys"] == 1


async def test_a_server_without_room_costs_copies_and_nothing_else(server: OwnServer, redis: Redis[Any]) -> None:
    async with opened(server.url) as hot:
        for key in (KEY, OTHER):
            await fill(hot, a_copy(5, key))
        slow = await hot.begin_fill(OTHER)
        assert slow is not None
        await redis.config_set("maxmemory", 1)
        with capture_logs() as logs:
            assert await rev_of(hot) == 5
            await hot.after_commit(a_change(5), AS_OF)
            assert await hot.recall(KEY) is None, "a copy that could not be moved is dropped"
            assert await hot.begin_fill(KEY) is None
            await hot.end_fill(OTHER, slow, a_copy(6, OTHER))
            await hot.drop_for_ever(OTHER)
            assert await hot.recall(OTHER) is None
        assert [line["event"] for line in logs] == ["hot.full"]
        await redis.config_set("maxmemory", 0)
        await fill(hot, a_copy(6))
        assert await rev_of(hot) == 6


async def test_a_server_near_its_limit_is_named_at_the_start(server: OwnServer, redis: Redis[Any]) -> None:
    await redis.config_set("maxmemory", 1)
    with capture_logs() as logs:
        async with opened(server.url):
            pass
    assert [line["event"] for line in logs] == ["hot.opened", "hot.weak_server"]
    assert "maxmemory-policy" in logs[1]["problem"]


async def test_a_user_who_may_not_ask_for_information_is_served(server: OwnServer, redis: Redis[Any]) -> None:
    await redis.acl_setuser(
        "plain", enabled=True, passwords=["+pw"], keys=["sm:*"], channels=["sm:*"],
        commands=["+eval", "+evalsha", "+get", "+set", "+del", "+@hash", "+@pubsub", "+pexpire", "+ping"],
    )  # fmt: skip
    with capture_logs() as logs:
        async with opened(server.url.replace("redis://", "redis://plain:pw@")) as hot, hot.listen(KEY) as rings:
            await fill(hot, a_copy(1))
            await hot.after_commit(a_change(1), AS_OF)
            assert await rev_of(hot) == 2
            await ring(hot, KEY, 2)
            assert await heard(rings, 2)
    assert [line["event"] for line in logs] == ["hot.opened", "hot.weak_server"]


# -- the passing of time


async def test_time_passes_for_keys_as_for_people(hot: Hot, server: OwnServer) -> None:
    """What the contract's clock does on Redis: proof that it can make things expire."""
    await fill(hot, a_copy(1))
    async with RedisKeys.open(server.url, PREFIX) as keys:
        await keys.age(3599)
        assert await rev_of(hot) == 1
        await keys.age(2)
    assert await rev_of(hot) is None
