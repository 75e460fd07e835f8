"""A worker of `livekit-agents` as a process, on a LiveKit server of its own: visits, deaths and returns."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from livekit import api, rtc

from sessionmanager.bridges.livekit import Dispatcher, DispatchOptions
from sessionmanager.client import AsyncClient
from tests.support.live import Live, live
from tests.support.rooms import LiveKitAddress, livekit_address, until
from tests.support.services import owned

pytestmark = pytest.mark.server

WORKER = Path(__file__).parent / "livekit_worker.py"
START_SECONDS = 90.0


class Bench(NamedTuple):
    service: Live
    client: AsyncClient
    address: LiveKitAddress
    livekit: api.LiveKitAPI
    session: str
    room: str

    async def said(self) -> list[tuple[str | None, Any]]:
        return [(one.role, one.content) async for one in self.client.history(self.session, type="message")]

    async def until_said(self, role: str, text: str, times: int = 1) -> None:
        async def look() -> bool:
            return (await self.said()).count((role, text)) >= times

        await until(look, f"{role}: {text}")

    async def agents(self) -> list[str]:
        try:
            found = await self.livekit.room.list_participants(api.ListParticipantsRequest(room=self.room))
        except api.ServerError as error:
            if error.code != "not_found":
                raise
            return []
        return [one.identity for one in found.participants if one.kind == api.ParticipantInfo.Kind.AGENT]

    async def room_sid(self) -> str | None:
        """Of the room that has the session's name now; each one that LiveKit makes has another."""
        found = await self.livekit.room.list_rooms(api.ListRoomsRequest(names=[self.room]))
        return found.rooms[0].sid if found.rooms else None

    async def until_agents(self, count: int) -> None:
        async def look() -> bool:
            return len(await self.agents()) == count

        await until(look, f"{count} agents in the room")


@asynccontextmanager
async def opened(folder: Path, *, departure_seconds: float) -> AsyncGenerator[Bench]:
    """A session with its room. departure_seconds: how long the room stays after the last user."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(owned("livekit", folder))
        address = livekit_address(server.url)
        settings = address.settings(room_departure_seconds=str(departure_seconds))
        service = await stack.enter_async_context(live(**settings))
        client = await stack.enter_async_context(AsyncClient(service.address, service.token()))
        livekit = await stack.enter_async_context(api.LiveKitAPI(address.http, address.key, address.secret))
        made = await client.create(room=True)
        assert made.room is not None
        yield Bench(service, client, address, livekit, made.id, made.room.name)


@asynccontextmanager
async def worker(bench: Bench, name: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    given = {
        "LIVEKIT_URL": bench.address.ws,
        "LIVEKIT_API_KEY": bench.address.key,
        "LIVEKIT_API_SECRET": bench.address.secret,
        "SESSIONMANAGER_URL": bench.service.address,
        "SESSIONMANAGER_TOKEN": bench.service.token("agent"),
        "NAME": name,
    }
    quiet = asyncio.subprocess.DEVNULL
    command = (sys.executable, str(WORKER))
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **given}, stdout=asyncio.subprocess.PIPE, stderr=quiet
    )
    try:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert said == b"registered\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def visit(bench: Bench, identity: str = "caller") -> AsyncGenerator[rtc.Room]:
    """A user: it joins the session, and by what that answers its room."""
    answer = await bench.client.attach(bench.session, kind="client", identity=identity)
    assert answer.livekit is not None
    room = rtc.Room()
    room.register_text_stream_handler("lk.transcription", lambda *_: None)
    await room.connect(answer.livekit.url, answer.livekit.token)
    try:
        yield room
    finally:
        await room.disconnect()
        await bench.client.leave(bench.session, answer.participant.id)


@asynccontextmanager
async def dispatching(bench: Bench) -> AsyncGenerator[Dispatcher]:
    options = DispatchOptions(look_seconds=0.1, arrive_seconds=25.0)
    dispatcher = Dispatcher(bench.client, bench.livekit, "support", options)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        running.cancel()
        await asyncio.wait([running])


async def ask(room: rtc.Room, text: str) -> None:
    """Once the agent listens: what is sent before is nobody's."""

    async def listening() -> bool:
        states = [one.attributes.get("lk.agent.state") for one in room.remote_participants.values()]
        return "listening" in states

    await until(listening, "an agent that listens")
    await room.local_participant.send_text(text, topic="lk.chat")


async def test_a_user_who_comes_back_after_the_agent_died_gets_another_that_knows_and_does_not_greet(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, departure_seconds=600) as bench, dispatching(bench) as dispatcher:
        async with worker(bench, "The first") as first:
            async with visit(bench) as room:
                await bench.until_said("assistant", "The first speaks.")
                await ask(room, "Can I pay in two parts?")
                await bench.until_said("assistant", "The first speaks.", times=2)
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
        await bench.until_agents(0)
        async with worker(bench, "The second"), visit(bench) as room:
            await ask(room, "Are you there?")
            await bench.until_said("assistant", "The second speaks.")
            assert await bench.agents() == ["support-bot"]
        assert await bench.said() == [
            ("assistant", "The first speaks."),
            ("user", "Can I pay in two parts?"),
            ("assistant", "The first speaks."),
            ("user", "Are you there?"),
            ("assistant", "The second speaks."),
        ]
        assert dispatcher.asked == 2
        people = await bench.client.participants(bench.session)
        assert {(one.kind, one.identity) for one in people} == {("agent", "support-bot"), ("client", "caller")}


async def test_who_comes_back_in_time_finds_the_agent_and_after_that_the_room_is_closed_with_the_agent_in_it(
    tmp_path: Path,
) -> None:
    """The time is kept with the room: no process of an agent's is needed for it."""
    async with (
        opened(tmp_path, departure_seconds=10) as bench,
        dispatching(bench) as dispatcher,
        worker(bench, "The agent"),
    ):
        async with visit(bench):
            await bench.until_said("assistant", "The agent speaks.")
        assert await bench.agents() == ["support-bot"]
        first = await bench.room_sid()
        async with visit(bench) as room:
            await ask(room, "Me again.")
            await bench.until_said("assistant", "The agent speaks.", times=2)
        assert dispatcher.asked == 1
        assert await bench.room_sid() == first

        async def closed() -> bool:
            # Not whether there is none: the service opens one anew as soon as it looks.
            return await bench.room_sid() != first

        await until(closed, "the end of the room")

        async def left() -> bool:
            people = await bench.client.participants(bench.session)
            return [one.status for one in people if one.kind == "agent"] == ["left"]

        await until(left, "the agent's leaving")
        greetings = [one async for one in bench.client.history(bench.session, type="custom.greeting")]
        assert len(greetings) == 1
        assert (await bench.client.get(bench.session)).status == "active"
