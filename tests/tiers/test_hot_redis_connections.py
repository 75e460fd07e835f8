"""Redis hot and its connections: broken, cancelled, taken, closed by the other side; and the one that listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot import redis_pool
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.hot.redis_address import read_address
from sessionmanager.tiers.hot.redis_values import names_of
from sessionmanager.words import Key
from tests.contracts.hot import rev_of
from tests.contracts.hot_bell import heard
from tests.services.own import OwnServer
from tests.support.hot_builders import KEY, OTHER, a_copy, fill, ring
from tests.support.redis_servers import PREFIX, Wire, emptied, opened, until
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


# -- connections


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody(server: OwnServer, redis: Redis[Any]) -> None:
    async with Wire.to(server.url) as wire, opened(wire.url, connections_max=1) as hot:
        await fill(hot, a_copy(1))
        await fill(hot, a_copy(2, OTHER))
        for _ in range(5):
            wire.hold()
            call = asyncio.create_task(hot.recall(KEY))
            await wire.sent()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            wire.release()
            assert await rev_of(hot, OTHER) == 2
            assert await rev_of(hot) == 1


async def test_a_connection_killed_in_mid_command_costs_that_call_alone(server: OwnServer, redis: Redis[Any]) -> None:
    async with Wire.to(server.url) as wire, opened(wire.url) as hot:
        await fill(hot, a_copy(1))
        wire.hold()
        call = asyncio.create_task(hot.recall(KEY))
        await wire.sent()
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wire.release()
        [answer] = await asyncio.gather(call, return_exceptions=True)
        # Either it was killed before the command was read, or after it was answered; never another's answer.
        assert isinstance(answer, TierUnavailable) or (answer is not None and answer.stored.rev == 1)  # type: ignore[union-attr]
        assert await rev_of(hot) == 1


async def test_idle_connections_that_the_server_has_closed_fail_nobody(hot: Hot, redis: Redis[Any]) -> None:
    await fill(hot, a_copy(1))
    await asyncio.gather(*(hot.recall(KEY) for _ in range(20)))
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)  # the ends of the connections are read by the loop
    assert [copy is not None for copy in await asyncio.gather(*(hot.recall(KEY) for _ in range(20)))] == [True] * 20


async def test_when_one_connection_turns_out_to_be_dead_the_others_are_not_tried(
    hot: Hot, redis: Redis[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine died and another has its address: nothing tells before something is sent."""

    async def never_looks(connection: object) -> bool:
        return True

    await fill(hot, a_copy(1))
    await asyncio.gather(*(hot.recall(KEY) for _ in range(20)))
    monkeypatch.setattr(redis_pool, "_rests", never_looks)
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(TierUnavailable):
        await hot.recall(KEY)
    assert await rev_of(hot) == 1


async def test_a_connection_is_lent_again_only_if_all_went_well(server: OwnServer, redis: Redis[Any]) -> None:
    dialer = redis_pool.Dialer(read_address(server.url), 1.0)
    [place] = read_address(server.url).places
    pool = redis_pool.Pool(lambda: dialer.dial(place), connections_max=1, wait_seconds=1.0)
    async with pool.lend() as first:
        await redis_pool.ask_once(first, b"PING")
    with pytest.raises(ZeroDivisionError):
        async with pool.lend() as second:
            assert second is first
            await second.send_packed_command(redis_pool.pack([(b"PING",)]))
            raise ZeroDivisionError
    assert not second.is_connected
    async with pool.lend() as third:
        assert third is not first
        assert await redis_pool.ask_once(third, b"ECHO", b"mine") == b"mine"
        await pool.forget()
    assert not third.is_connected, "it was lent while the server came into doubt"
    assert pool.size == 0
    await pool.aclose()


async def test_who_finds_every_connection_taken_is_told_soon(server: OwnServer, redis: Redis[Any]) -> None:
    async with Wire.to(server.url) as wire, opened(wire.url, connections_max=2, timeout_seconds=0.4) as hot:
        await fill(hot, a_copy(1))
        await asyncio.gather(hot.recall(KEY), hot.recall(KEY))
        wire.hold()
        began = time.monotonic()
        calls = [asyncio.create_task(hot.recall(KEY)) for _ in range(6)]
        done, _ = await asyncio.wait(calls, timeout=0.6)
        assert len(done) == 4
        assert time.monotonic() - began < 0.65
        assert {str(call.exception()) for call in done} == {"no connection to the hot tier is free"}
        wire.release()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: _is(hot, 1))
        assert len(await redis.client_list()) < 6


async def _is(hot: Hot, rev: int) -> bool:
    try:
        return await rev_of(hot) == rev
    except TierUnavailable:
        return False


async def test_no_more_connections_are_made_than_allowed(server: OwnServer, redis: Redis[Any]) -> None:
    async with opened(server.url, connections_max=3) as hot:
        await fill(hot, a_copy(1))
        before = len(await redis.client_list())
        answers = await asyncio.gather(*(hot.recall(KEY) for _ in range(500)))
        assert all(answer is not None for answer in answers)
        assert len(await redis.client_list()) <= before + 2


async def test_an_answer_that_does_not_come_ends_in_time(server: OwnServer, redis: Redis[Any]) -> None:
    async with opened(server.url, timeout_seconds=0.1) as hot:
        await fill(hot, a_copy(1))
        server.freeze()
        began = time.monotonic()
        with pytest.raises(TierUnavailable, match="in time"):
            await hot.recall(KEY)
        assert time.monotonic() - began < 0.5
        server.thaw()
        await until(lambda: _is(hot, 1))


# -- the doorbell


async def test_all_who_listen_share_one_connection(hot: Hot, redis: Redis[Any]) -> None:
    keys = [Key("acme", f"call-{number}") for number in range(50)]
    listening = [hot.listen(key) for key in keys for _ in range(2)]
    for one in listening:
        await one.__aenter__()
    subscribers = [client for client in await redis.client_list() if int(client["sub"]) > 0]
    assert [int(client["sub"]) for client in subscribers] == [50]
    for one in listening:
        await one.__aexit__(None, None, None)

    async def nobody_is_left() -> bool:
        return not any(int(client["sub"]) for client in await redis.client_list())

    await until(nobody_is_left)


async def test_a_broken_subscription_is_made_anew_and_listeners_are_told_to_look(hot: Hot, redis: Redis[Any]) -> None:
    async with hot.listen(KEY) as rings, hot.listen(OTHER) as others:
        for version in (1, 2, 3):
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            assert (await heard(rings, 0))[-1].version == 0  # type: ignore[union-attr]
            assert (await heard(others, 0))[-1].version == 0  # type: ignore[union-attr]
            await ring(hot, KEY, version)
            await heard(rings, version)


async def test_what_others_publish_is_no_ring_and_no_signal(hot: Hot, redis: Redis[Any]) -> None:
    async with hot.listen(KEY) as said:
        strange = (b"", b"r", b"r-1", b"rx", b"s", b"sforged but long enough for a mac", b"\xff", b"r" + b"9" * 5000)
        for payload in (*strange, b"r1 ", b"r1 not a trace", b"r1 00-%032x-%016X-01" % (7, 255)):
            await redis.publish(NAMES.bell, payload)
        await hot.publish(KEY, b"true")
        first = await anext(said)
        assert first == (KEY, b"true")


async def test_listeners_are_bounded_and_one_that_cannot_be_had_leaves_nothing(server: OwnServer, redis: Any) -> None:
    async with opened(server.url, listeners_max=2) as hot:
        async with hot.listen(KEY), hot.listen(OTHER):
            with pytest.raises(TierUnavailable, match="too many listeners"):
                await hot.listen(KEY).__aenter__()
        async with hot.listen(KEY), hot.listen(KEY):
            pass


async def test_closing_ends_all_listening(server: OwnServer, redis: Redis[Any]) -> None:
    opening = opened(server.url)
    hot = await opening.__aenter__()
    async with hot.listen(KEY) as rings:
        await opening.__aexit__(None, None, None)
        assert [ring async for ring in rings] == []
    with pytest.raises(TierUnavailable):
        await hot.recall(KEY)
    assert len(await redis.client_list()) == 1
