"""Joining, keeping alive, speaking and leaving, on the real service; and its feeds, followed across what ends them."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sessionmanager import errors
from sessionmanager.client import AsyncClient, AsyncFeed, AsyncSession, Client, Entry, message
from tests.client.proxy import proxy
from tests.support.house import ROOT
from tests.support.live import Live, live

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 20.0
LEASE = 5.0


@pytest.fixture
async def service() -> Any:
    async with live() as running:
        yield running


@asynccontextmanager
async def talk(service: Live, *roles: str, **fields: Any) -> AsyncGenerator[AsyncSession]:
    """A session with a line in it, for a client with these roles."""
    async with AsyncClient(service.address, service.token()) as admin:
        made = await admin.create(entries=[message("user", "hi")], **fields)
        async with admin.with_token(service.token(*(roles or ("agent",)))).session(made.id) as session:
            yield session


async def until(session: AsyncSession, holds: Any) -> Any:
    """The session once it `holds`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await session.get(entries=0)
            if holds(found):
                return found
            await asyncio.sleep(0.01)


async def test_a_participant_joins_speaks_for_itself_and_leaves(service: Live) -> None:
    async with talk(service) as session:
        async with session.join(kind="agent", identity="bot", metadata={"model": "m"}) as me:
            assert (me.about.status, me.about.metadata) == ("attached", {"model": "m"})
            assert me.joined.token is not None
            await me.session.append([message("assistant", "hello")])
            assert (await me.session.get()).entries[-1].actor == me.id  # type: ignore[index, union-attr]
            with pytest.raises(errors.Forbidden):
                await me.session.suspend()
        assert (await session.participant(me.id)).status == "left"


async def test_the_same_identity_comes_back_as_the_same_participant_and_asks_what_it_missed(service: Live) -> None:
    async with talk(service) as session:
        async with session.join(kind="agent", identity="bot", leave=False) as me:
            await me.saw(me.version)
        await session.append([message("user", "one")])
        await session.append([message("user", "two"), message("user", "three")])
        async with session.join(kind="agent", identity="bot") as again:
            assert again.id == me.id
            missed = [entry.content for entry in await again.missed() if entry.type == "message"]
            assert missed == ["one", "two", "three"]
            assert await again.missed(since_version=again.version) == ()


async def test_heartbeats_make_a_lease_whole_again_before_it_is_over(service: Live) -> None:
    async with talk(service) as session, session.join(kind="agent", identity="bot", lease_seconds=LEASE) as me:
        beats = asyncio.create_task(me.keep(0.05))  # as the one beneath, quicker
        began = me.about.lease_expires_at
        await until(session, lambda _: me.about.lease_expires_at != began)
        beats.cancel()
        assert (await session.participant(me.id)).status == "attached"


async def test_a_participant_that_is_taken_out_knows_and_does_not_come_back_by_itself(service: Live) -> None:
    async with talk(service) as session, session.join(kind="agent", identity="bot") as me:
        await session.leave(me.id, reason="misbehaved")
        with pytest.raises(errors.SessionManagerError):
            await me.beat()
        assert me.lost is not None
        assert await asyncio.wait_for(me.wait_lost(), 1) is me.lost
        with pytest.raises(errors.SessionManagerError):
            await me.session.append([message("assistant", "still here")])


async def test_a_token_is_renewed_before_it_is_over(service: Live) -> None:
    async with talk(service) as session, session.join(kind="agent", identity="bot", token_seconds=2) as me:
        first = await me.session.client.caller.bearer()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await me.session.client.caller.bearer() == first:
                await me.session.append([message("assistant", "go on")])
                await asyncio.sleep(0.05)
        await me.session.append([message("assistant", "with another token")])


async def test_a_token_that_ran_out_unseen_is_made_anew_by_whoever_joined(service: Live) -> None:
    async with talk(service) as session, session.join(kind="agent", identity="bot") as me:
        tokens: Any = me.session.client.caller.token
        tokens._token = "what.is.over"
        await me.session.append([message("assistant", "after a long sleep")])


async def test_the_floor_is_one_speakers_and_its_number_grows(service: Live) -> None:
    async with (
        talk(service, floor="required") as session,
        session.join(kind="agent", identity="one") as one,
        session.join(kind="agent", identity="two") as two,
    ):
        with pytest.raises(errors.FloorLost):
            await one.session.append([message("assistant", "without it")])
        async with one.floor() as first:
            await first.say("mine")
            with pytest.raises(errors.FloorTaken):
                async with two.floor():
                    raise AssertionError("never held")
        async with two.floor() as second:
            await second.say("and now mine")
            assert second.number == first.number + 1
            assert first.lost or not second.lost


async def test_a_place_in_the_queue_becomes_the_floor(service: Live) -> None:
    async with (
        talk(service) as session,
        session.join(kind="agent", identity="one") as one,
        session.join(kind="agent", identity="two") as two,
    ):

        async def second() -> int:
            async with two.floor(policy="queue", wait_seconds=PATIENCE_SECONDS) as floor:
                await floor.say("at last")
                return floor.number

        async with one.floor() as floor:
            waiting = asyncio.create_task(second())
            await until(session, lambda now: now.floor.queue)
        assert await waiting == floor.number + 1


async def test_whoever_gives_up_waiting_leaves_the_queue(service: Live) -> None:
    async with (
        talk(service) as session,
        session.join(kind="agent", identity="one") as one,
        session.join(kind="agent", identity="two") as two,
        one.floor(),
    ):
        with pytest.raises(errors.FloorTaken):
            async with two.floor(policy="queue", wait_seconds=0.05):
                raise AssertionError("never held")
        assert (await until(session, lambda now: not now.floor.queue)).floor.holder == one.id


async def test_a_floor_that_a_human_takes_is_known_to_be_lost_and_nothing_lands(service: Live) -> None:
    async with (
        talk(service) as session,
        session.join(kind="agent", identity="bot") as bot,
        session.join(kind="human", identity="ann") as ann,
    ):
        async with bot.floor() as floor:
            await floor.say("before")
            async with ann.floor(policy="interrupt") as hers:
                with pytest.raises(errors.FloorLost):
                    await floor.say("after")
                assert floor.lost
                await asyncio.wait_for(floor.wait_lost(), 1)
                with pytest.raises(errors.FloorLost):
                    await floor.say("known here")
                assert not hers.lost
        spoken = [entry.content async for entry in session.history(type="message")]
        assert spoken == ["hi", "before"]


async def test_a_renewal_tells_that_the_floor_went_elsewhere_meanwhile(service: Live) -> None:
    async with (
        talk(service) as session,
        session.join(kind="agent", identity="bot") as bot,
        session.join(kind="human", identity="ann") as ann,
        bot.floor() as floor,
    ):
        await floor.renew()
        assert not floor.lost
        async with ann.floor(policy="interrupt"):
            pass
        with pytest.raises(errors.FloorLost):
            await floor.renew()
        assert floor.lost
        assert (await until(session, lambda now: now.floor.holder is None)).floor.number == floor.number + 2


async def follow(feed: AsyncFeed[Any], last: int) -> list[int]:
    seqs: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in feed:
            if isinstance(event, Entry):
                seqs.append(event.seq)
                if event.seq >= last:
                    break
    return seqs


async def test_a_feed_that_is_cut_over_and_over_gives_each_entry_once_and_in_order(service: Live) -> None:
    minted = 0

    def token() -> str:
        nonlocal minted
        minted += 1
        return service.token("agent", subject="bob")

    async with talk(service) as session, proxy(random.Random(5), drops=0.15) as front:
        front.upstream = service.address
        async with AsyncClient(front.address, token) as reader:
            following = asyncio.create_task(follow(reader.events(session.id, after=0), 43))
            for n in range(40):
                await session.append([message("user", n)])
                await asyncio.sleep(0.02)
            assert await following == list(range(1, 44))
    assert front.dropped
    assert minted == front.dropped + 1


async def test_signals_reach_whoever_follows(service: Live) -> None:
    async with talk(service) as session, session.events() as feed:
        hearing = asyncio.create_task(_next(feed))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not hearing.done():
                await session.signal("typing", {"level": 1})
                await asyncio.sleep(0.05)
        assert (hearing.result().type, hearing.result().data) == ("typing", {"level": 1})


async def test_a_feed_that_is_left_while_somebody_waits_for_it_ends_for_them(service: Live) -> None:
    async with talk(service) as session:
        feed = session.events(after=0)
        following = asyncio.create_task(follow(feed, 99))
        await until(session, lambda _: feed.cursor == 3)
        await feed.aclose()
        assert await asyncio.wait_for(following, PATIENCE_SECONDS) == [1, 2, 3]


async def test_a_tenants_feed_tells_of_all_its_sessions(service: Live) -> None:
    created: set[str] = set()
    async with (
        AsyncClient(service.address, service.token()) as client,
        client.tenant_events(types="session.created") as feed,
    ):
        heard = asyncio.create_task(_next(feed))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not heard.done():
                created.add((await client.create()).id)
                await asyncio.sleep(0.1)
    assert heard.result().subject in created


async def _next(feed: AsyncFeed[Any]) -> Any:
    return await anext(feed)


async def test_the_blocking_twin_takes_part_too(service: Live) -> None:
    def run(address: str, token: str) -> list[str]:
        with Client(address, token) as client:
            session = client.session(client.create().id)
            with session.join(kind="agent", identity="bot") as me, me.floor() as floor:
                floor.say("hello")
                assert (me.about.identity, floor.lost, me.lost) == ("bot", False, None)
            with session.events(after=0) as feed:
                return [event.type for event in (next(feed) for _ in range(4)) if isinstance(event, Entry)]

    types = await asyncio.to_thread(run, service.address, service.token())
    assert types == ["state", "participant", "participant", "status"]


async def test_the_example_joins_catches_up_speaks_and_leaves(service: Live) -> None:
    async with talk(service) as session:
        env = {
            "PATH": os.environ["PATH"],
            "SESSIONMANAGER_URL": service.address,
            "SESSIONMANAGER_TOKEN": service.token("agent"),
        }
        command = [sys.executable, str(ROOT / "examples/agent_join.py"), session.id]
        ran = await asyncio.to_thread(
            subprocess.run, command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        assert "read 1 messages" in ran.stdout
        assert "spoke with floor 1" in ran.stdout
        said = [entry async for entry in session.history(type="message")]
        assert said[-1].content == "Yes, in two parts. Shall I set that up?"
        (bot,) = await session.participants()
        assert (bot.identity, bot.status) == ("support-bot", "left")
