"""Who gets an agent, decided on what LiveKit says: a scripted one, and the real service's log and feed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from livekit import api
from livekit.protocol import agent as agent_protocol
from livekit.protocol import models

from sessionmanager.bridges.livekit import Dispatcher, DispatchOptions
from sessionmanager.bridges.livekit.dispatching import CLAIM
from sessionmanager.client import AsyncClient
from sessionmanager.wire.answers import Session
from sessionmanager.wire.rooms import Room
from tests.support.live import Live, live
from tests.support.rooms import until

pytestmark = pytest.mark.contract

QUICK = DispatchOptions(arrive_seconds=0.2, look_seconds=0.01, metadata={"desk": 7})


class ScriptedLiveKit:
    """One room. comes: whether an agent that is asked for is there at the next look. fails: every request does.
    on_its_way: a job runs; died: it began an hour ago."""

    def __init__(self, *, comes: bool = True) -> None:
        self.comes = comes
        self.there = False
        self.on_its_way = False
        self.died = False
        self.opened = True
        self.fails = False
        self.looks = 0
        self.asked: list[Any] = []

    @property
    def room(self) -> ScriptedLiveKit:
        return self

    @property
    def agent_dispatch(self) -> ScriptedLiveKit:
        return self

    def _answer(self) -> None:
        if self.fails:
            raise api.ServerError("unavailable", "down", status=503)
        if not self.opened:
            raise api.ServerError("not_found", "no such room", status=404)

    async def list_participants(self, request: Any, /) -> Any:
        self._answer()
        self.looks += 1
        kinds = models.ParticipantInfo.Kind
        people = [models.ParticipantInfo(identity="caller", kind=kinds.STANDARD)]
        if self.there:
            people.append(models.ParticipantInfo(identity="agent-1", kind=kinds.AGENT))
        return api.ListParticipantsResponse(participants=people)

    async def list_dispatch(self, room_name: str, /) -> Any:
        self._answer()
        status = agent_protocol.JobStatus.JS_RUNNING if self.on_its_way else agent_protocol.JobStatus.JS_SUCCESS
        started = time.time_ns() - (3_600 * 10**9 if self.died else 0)
        jobs = [agent_protocol.Job(state=agent_protocol.JobState(status=status, started_at=started))]
        return [api.AgentDispatch(agent_name="support", state=api.AgentDispatchState(jobs=jobs))]

    async def create_dispatch(self, req: Any, /) -> Any:
        if self.fails:
            self._answer()
        self.asked.append(req)
        self.opened = True
        self.there = self.comes or self.there
        return api.AgentDispatch()


class Roomed(AsyncClient):
    """Every session has a room."""

    room: str | None = "room-1"

    async def get(self, id: str, **options: Any) -> Session:
        found = await super().get(id, **options)
        return msgspec.structs.replace(found, room=None if self.room is None else Room(name=self.room))


@pytest.fixture
async def service() -> AsyncGenerator[Live]:
    async with live() as running:
        yield running


@pytest.fixture
async def client(service: Live) -> AsyncGenerator[Roomed]:
    async with Roomed(service.address, service.token("operator", "agent")) as one:
        yield one


def asked_for(livekit: ScriptedLiveKit) -> list[tuple[str, str, str]]:
    return [(one.agent_name, one.room, one.metadata) for one in livekit.asked]


async def test_whoever_comes_to_a_room_without_an_agent_gets_one(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    dispatcher = Dispatcher(client, livekit, "support", QUICK)
    assert await dispatcher.ensure(made.id)
    assert asked_for(livekit) == [("support", "room-1", f'{{"desk": 7, "session_id": "{made.id}"}}')]
    assert await dispatcher.ensure(made.id)
    assert len(livekit.asked) == dispatcher.asked == 1


async def test_an_agent_that_is_there_is_enough(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    livekit.there = True
    assert await Dispatcher(client, livekit, "support", QUICK).ensure(made.id)
    assert livekit.asked == []


async def test_an_agent_on_its_way_is_waited_for(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    livekit.on_its_way = True
    patient = DispatchOptions(arrive_seconds=60.0, look_seconds=0.01)
    waiting = asyncio.create_task(Dispatcher(client, livekit, "support", patient).ensure(made.id))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    livekit.there = True
    assert await waiting
    assert livekit.asked == []


async def test_a_job_whose_worker_died_is_no_agent_on_its_way(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    livekit.on_its_way = livekit.died = True
    assert await Dispatcher(client, livekit, "support", QUICK).ensure(made.id)
    assert len(livekit.asked) == 1


async def test_of_many_that_look_at_the_same_time_one_asks(client: Roomed) -> None:
    """While its agent is on its way, which takes longer than all of them need to look."""
    made, livekit = await client.create(), ScriptedLiveKit(comes=False)
    patient = DispatchOptions(arrive_seconds=60.0, look_seconds=0.01)
    many = [Dispatcher(client, livekit, "support", patient) for _ in range(8)]
    waiting = asyncio.gather(*[one.ensure(made.id) for one in many])

    async def looked() -> bool:
        return livekit.looks > 10 * len(many)

    await until(looked, "looks of all of them")
    livekit.there = True
    assert await waiting == [True] * len(many)
    assert len(livekit.asked) == 1


async def test_an_agent_that_does_not_come_is_asked_for_again_and_not_for_ever(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit(comes=False)
    assert not await Dispatcher(client, livekit, "support", QUICK).ensure(made.id)
    assert 1 < len(livekit.asked) <= QUICK.attempts_max


async def test_who_died_after_its_claim_is_followed_by_another_that_asks(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    await client.patch(made.id, {"metadata": {CLAIM: {"at": time.time(), "by": "somebody"}}}, version=None)
    assert await Dispatcher(client, livekit, "support", QUICK).ensure(made.id)
    assert len(livekit.asked) == 1


async def test_a_room_that_is_not_open_is_opened_by_the_dispatch(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    livekit.opened = False
    assert await Dispatcher(client, livekit, "support", QUICK).ensure(made.id)
    assert len(livekit.asked) == 1


async def test_a_session_without_a_room_or_at_its_end_gets_none(client: Roomed) -> None:
    made, livekit = await client.create(), ScriptedLiveKit()
    dispatcher = Dispatcher(client, livekit, "support", QUICK)
    client.room = None
    assert not await dispatcher.ensure(made.id)
    client.room = "room-1"
    await client.end(made.id)
    assert not await dispatcher.ensure(made.id)
    assert livekit.asked == []


async def test_the_feed_tells_of_users_and_of_nobody_else(client: Roomed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sessionmanager.bridges.livekit")
    made, other, livekit = await client.create(), await client.create(), ScriptedLiveKit()
    await client.attach(made.id, kind="bridge", identity="bridge-1")
    dispatcher = Dispatcher(client, livekit, "support", QUICK)
    running = asyncio.create_task(dispatcher.run())
    try:
        livekit.fails = True

        async def asked() -> bool:
            # Until it listens, arrivals are not told, and at first LiveKit is down: whoever comes back is told again.
            user = await client.attach(made.id, kind="client", identity="caller")
            await client.leave(made.id, user.participant.id)
            livekit.fails = False
            return bool(livekit.asked)

        await until(asked, "an agent that was asked for")
        await client.attach(other.id, kind="bridge", identity="bridge-1")
        await client.attach(other.id, kind="service", identity="service-1")
        livekit.there = False

        async def asked_again() -> bool:
            user = await client.attach(made.id, kind="human", identity="person")
            await client.leave(made.id, user.participant.id)
            return len(livekit.asked) > 1

        await until(asked_again, "an agent for a person")
        assert {one.metadata for one in livekit.asked} == {f'{{"desk": 7, "session_id": "{made.id}"}}'}
        assert CLAIM not in (await client.get(other.id)).metadata
    finally:
        running.cancel()
        await asyncio.wait([running])
