"""The fault matrix, hot: whatever happens to Redis, callers lose nothing but milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from sessionmanager.client import AsyncClient
from sessionmanager.client.stream import AsyncFeed, Resync, Signal
from sessionmanager.wire.answers import Entry
from tests.support.left_out import share
from tests.support.matrix import (
    FAULTS,
    FIRST_SECONDS,
    HEAL_SECONDS,
    ONE_LOOP,
    THEN_SECONDS,
    Outage,
    Scene,
    a_scene,
    asked,
    during,
    judging,
    normal,
    writing,
)
from tests.support.redis_servers import masters
from tests.support.replicas import LEASE_SECONDS, Replica, eventually

pytestmark = [pytest.mark.fault, ONE_LOOP]

SLACK_SECONDS = 0.5
POLL_SECONDS = 2.0
"""How often a feed looks by itself where no bell is heard."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with a_scene(tmp_path_factory.mktemp("hot")) as scene:
        yield scene


@pytest_asyncio.fixture(loop_scope="module")
async def scene(whole: Scene) -> AsyncGenerator[Scene]:
    """Nothing is broken, before and after."""
    yield whole
    await whole.mend()


async def all_works(replica: Replica, session: str, mark: str, *, seconds: float) -> None:
    """Everything that a session can be asked for is answered, and what was written is what is read."""
    said = await replica.say(session, mark)
    shown = await replica.ask("GET", f"/sessions/{session}")
    assert (said.status, shown.status) == (201, 200)
    assert shown.body["version"] == said.body["version"]
    assert "stale" not in shown.body
    answers = await asked(replica, (*judging(session, mark), *writing(session, mark)))
    expected = [200, 200, 200, 404, 201, 200, 200, 201]
    assert [answer.status for answer in answers] == expected, answers
    assert max(answer.seconds for answer in (said, shown, *answers)) < seconds


@pytest.mark.parametrize("fault", share(FAULTS, quick=("down", "slow")))
async def test_everything_goes_on_without_hot_and_nobody_waits_for_it(scene: Scene, fault: str) -> None:
    session = f"without-{fault.replace(' ', '-')}"
    await scene.a.create(session)
    outages = [Outage(replica, "hot") for replica in scene.both]
    for replica in scene.both:
        assert replica.lines.hot is not None
        await FAULTS[fault](replica.lines.hot)
    for replica in scene.both:
        await all_works(replica, session, f"{replica.name}-first", seconds=FIRST_SECONDS)
    for outage in outages:
        await outage.seen()
    for replica in scene.both:
        for i in range(5):
            await all_works(replica, session, f"{replica.name}-then-{i}", seconds=THEN_SECONDS + SLACK_SECONDS)
        assert (await replica.ask("GET", f"/sessions/{session}")).tier == "warm"
    await scene.mend()
    for outage in outages:
        await outage.healed(session)
    texts = [text for text in await scene.a.texts(session) if text != "as ever"]
    assert len(texts) == len(set(texts)) == 24, "each of them once"


async def test_a_feed_goes_on_without_the_doorbell(scene: Scene) -> None:
    await scene.a.create("feed")
    await scene.a.say("feed", "heard")
    async with AsyncClient(scene.b.address, scene.b.token) as client, client.events("feed", after=0) as feed:
        await _until_said(feed, "heard")
        for replica in scene.both:
            assert replica.lines.hot is not None
            await replica.lines.hot.down()
        for i in range(3):
            await scene.a.say("feed", f"line {i}")
            async with asyncio.timeout(POLL_SECONDS + 2 * SLACK_SECONDS):
                await _until_said(feed, f"line {i}")
        await scene.mend()
    for replica in scene.both:
        await eventually(lambda replica=replica: normal(replica, "feed"), HEAL_SECONDS, "hot is back")


async def _until_said(feed: AsyncFeed[Entry | Signal | Resync], text: str) -> None:
    async for event in feed:
        if isinstance(event, Entry) and event.type == "message":
            assert event.content == text
            return
    raise AssertionError("the feed has ended")


async def test_a_replica_that_cannot_tell_hot_leaves_others_a_lease_behind_and_no_more(scene: Scene) -> None:
    a, b = scene.both
    await a.create("partition")
    await eventually(lambda: normal(b, "partition"), HEAL_SECONDS, "b has a copy")
    outage = Outage(a, "hot")
    assert a.lines.hot is not None
    await a.lines.hot.down()
    longest = 0.0
    for i in range(3):
        await b.ask("GET", "/sessions/partition")
        said = await a.say("partition", f"untold {i}")
        assert said.status == 201
        acked_at = time.monotonic()
        assert (await a.ask("GET", "/sessions/partition")).body["version"] == said.body["version"]
        # Nothing else is asked of b: an exact read would teach it that its copy is old.
        while (await b.ask("GET", "/sessions/partition")).body["version"] < said.body["version"]:
            assert time.monotonic() - acked_at < LEASE_SECONDS + SLACK_SECONDS, "older than a lease"
        longest = max(longest, time.monotonic() - acked_at)
    await outage.seen()
    assert await b.state("hot") == "ok"
    said = await a.say("partition", "untold, and asked for")
    exact = await b.ask("GET", "/sessions/partition", min_version=str(said.body["version"]))
    assert exact.body["version"] == said.body["version"]
    print(f"b showed the past for {longest:.2f} s at most")
    await scene.mend()
    await outage.healed("partition")


async def test_a_redis_that_comes_back_empty_has_cost_nothing_but_copies(scene: Scene) -> None:
    a, b = scene.both
    await a.create("emptied")
    told: list[str] = []

    async def step(i: int) -> None:
        writer, reader = (a, b) if i % 2 else (b, a)
        said = await writer.say("emptied", f"line {i}")
        acked_at = time.monotonic()
        assert said.status == 201, said
        told.append(f"line {i}")
        while True:
            shown = await reader.ask("GET", "/sessions/emptied")
            assert shown.status == 200
            if shown.body["version"] >= said.body["version"]:
                return
            assert time.monotonic() - acked_at < LEASE_SECONDS + SLACK_SECONDS, "older than a lease"

    for i in range(3):
        await step(-i)
    await during(scene.servers.hot.restart(keep_data=False), step)
    for i in range(100, 110):
        await step(i)
    for replica in scene.both:
        await eventually(lambda replica=replica: normal(replica, "emptied"), HEAL_SECONDS, "hot is back")
    assert [text for text in await a.texts("emptied") if text != "as ever"] == told


async def test_a_full_redis_keeps_no_new_copies_and_is_told_once(scene: Scene) -> None:
    [client] = await masters(scene.servers.hot.url)
    async with client:
        before = {replica: len(replica.logged("hot.full")) for replica in scene.both}
        await scene.a.create("full")
        await client.config_set("maxmemory", 1)
        try:
            for replica in scene.both:
                for i in range(4):
                    await all_works(replica, "full", f"{replica.name}-full-{i}", seconds=THEN_SECONDS + SLACK_SECONDS)
                assert len(replica.logged("hot.full")) == before[replica] + 1
                assert await replica.state("hot") == "ok", "a Redis without room answers"
        finally:
            await client.config_set("maxmemory", 0)
    for replica in scene.both:
        await eventually(lambda replica=replica: normal(replica, "full"), HEAL_SECONDS, "copies are kept again")


async def test_a_copy_that_was_damaged_is_dropped_and_never_shown(scene: Scene) -> None:
    a, b = scene.both
    await a.create("damaged")
    await eventually(lambda: normal(a, "damaged"), HEAL_SECONDS, "there is a copy")
    truth = (await a.ask("GET", "/sessions/damaged", min_version="1")).body
    [client] = await masters(scene.servers.hot.url)
    async with client:
        for name in [name async for name in client.scan_iter("*", _type="hash")]:
            value = await client.hget(name, "pulse")
            await client.hset(name, "pulse", value[:-1] + bytes([value[-1] ^ 1]))
    before = len(b.logged("hot.value_refused"))
    shown = await b.ask("GET", "/sessions/damaged")
    assert (shown.status, shown.tier, shown.body) == (200, "warm", truth)
    assert len(b.logged("hot.value_refused")) == before + 1
    assert await normal(b, "damaged")
