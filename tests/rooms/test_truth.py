"""Session and room agree, whatever becomes of webhooks, of LiveKit's API, and of LiveKit itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.model.entry import decode_entry
from sessionmanager.model.fold import replay
from sessionmanager.words import Key
from tests.services.own import OwnServer
from tests.support.rooms import Joiner, LiveKitAddress, Session, joined, livekit_address, roomy, until
from tests.support.server import TENANT
from tests.support.services import owned, service_url
from tests.support.toxiproxy import proxied

pytestmark = pytest.mark.fault

PEOPLE = ("anna", "bert", "cleo", "dora")
MOVES = 14


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with owned("livekit", tmp_path) as running:
        yield running


@pytest.fixture
def livekit(server: OwnServer) -> LiveKitAddress:
    return livekit_address(server.url)


class Crowd:
    """People who join and leave as a seed says."""

    def __init__(self, session: Session, rng: random.Random) -> None:
        self.session = session
        self.rng = rng
        self.inside: dict[str, Joiner] = {}

    async def move(self) -> None:
        name = self.rng.choice(PEOPLE)
        if name in self.inside:
            await self.inside.pop(name).room.disconnect()
            return
        joiner = Joiner((await self.session.attach(name))["livekit"])
        await joiner.connect()
        self.inside[name] = joiner

    async def leave(self) -> None:
        for joiner in self.inside.values():
            await joiner.room.disconnect()


async def truth(livekit: LiveKitAddress, room: str) -> dict[str, str]:
    """Who is in the room, as LiveKit itself lists it: identity → sid."""
    from livekit import api

    async with api.LiveKitAPI(livekit.http, livekit.key, livekit.secret) as calls:
        listed = await calls.room.list_participants(api.ListParticipantsRequest(room=room))
    return {one.identity: one.sid for one in listed.participants if one.state == one.ACTIVE}


async def agrees(session: Session, livekit: LiveKitAddress) -> bool:
    head = await session.read()
    seen = {one["identity"]: one["room_sid"] for one in head["participants"] if one["room_sid"]}
    statuses = {one["identity"]: one["status"] for one in head["participants"]}
    there = await truth(livekit, head["room"]["name"])
    ended = all(status == "attached" for name, status in statuses.items() if name in there)
    return seen == there and ended and head["room"]["sync_state"] == "active"


def check_log(lines: list[dict[str, Any]]) -> None:
    """Nobody leaves who was not there, nobody comes who is there already under this connection; what was corrected is
    told, and the counts go up one by one."""
    inside: dict[str, str | None] = {}
    attempts = 0
    for line in lines:
        data = line.get("data", {})
        if line["type"] == "participant" and data.get("participant") is not None:
            person = data["participant"]
            before, after = inside.get(person["identity"]), person.get("room_sid")
            if data.get("reason") in ("room-left", "room-lost"):
                assert before is not None, f"{person['identity']} left and was not there"
                assert after is None
            inside[person["identity"]] = after
        if line["type"] == "room":
            room = data["room"]
            assert room["sync_attempts"] in (attempts, attempts + 1)
            if room["sync_attempts"] > attempts:
                assert data["corrections"], f"a correction that does not say what: {data}"
                assert data["event"] in ("session_inconsistency", "session_state_sync", "connection_interruption")
            attempts = room["sync_attempts"]
    assert sum(sid is not None for sid in inside.values()) >= 0


@pytest.mark.parametrize("seed", range(2))
async def test_with_webhooks_lost_doubled_and_late_and_the_api_cut_session_and_room_agree_in_the_end(
    livekit: LiveKitAddress, seed: int
) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(service_url("toxiproxy"), livekit.http))
        # The service reaches LiveKit through the proxy, participants do not.
        through = livekit._replace(ws=proxy.url(livekit.ws))
        more = {"livekit_public_url": livekit.ws, "livekit_timeout_seconds": "2"}
        service, relay = await stack.enter_async_context(roomy(through, webhooks=True, share=0.3, seed=seed, **more))
        assert relay is not None
        made = await service.http.post("/sessions", json={"id": "call", "room": True})
        assert made.status_code == 201, made.text
        session = Session(service, "call")
        await session.until_open()
        crowd = Crowd(session, random.Random(seed))
        for move in range(MOVES):
            if move == MOVES // 3:
                await proxy.timeout()  # nothing comes any more, and nobody hangs up
            if move == 2 * MOVES // 3:
                await proxy.heal()
            await crowd.move()

        async def agree() -> bool:
            return await agrees(session, livekit)

        await until(agree, "agreement")
        assert relay.came > MOVES / 2
        await crowd.leave()
        await session.until_in()
        check_log(await session.entries())
        assert set(relay.answers) == {200}


async def test_a_livekit_that_is_killed_costs_the_session_nothing_and_everybody_comes_back(
    server: OwnServer, livekit: LiveKitAddress
) -> None:
    async with roomy(livekit, webhooks=True, livekit_timeout_seconds="2") as (service, _):
        await service.http.post("/sessions", json={"id": "call", "room": True, "type": "voice-vad"})
        session = Session(service, "call")
        before = await session.until_open()
        anna = await session.attach("anna")
        bot = await session.attach("bot", kind="agent", role="bot", lease_seconds=None)
        async with joined(anna["livekit"]), joined(bot["livekit"]):
            await session.until_in("anna", "bot")
            await session.post("/activate")
            await server.kill()
            await session.until_open("error")
            # The conversation goes on meanwhile.
            await service.say("call", "still here")
            head = await session.read()
            assert head["status"] == "active"
            assert {one["identity"]: one["status"] for one in head["participants"]} == {
                "anna": "attached",
                "bot": "attached",
            }, "nobody is given up for want of a list"
            await server.restart()
            after = await session.until_open()
            assert after["sid"] not in (None, before["sid"])
            assert after["name"] == before["name"]
        names = [(one["data"]["event"], one["data"].get("reason")) for one in await session.entries("room")]
        for told in (
            ("connection_interruption", "unreachable"),
            ("session_inconsistency", "unreachable"),
            ("alert", "unreachable"),
            ("connection_interruption", "room-lost"),
        ):
            assert names.count(told) == 1, names
        await _come_back(session, {"anna": anna, "bot": bot})
        check_log(await session.entries())


async def _come_back(session: Session, joins: Mapping[str, Mapping[str, Any]]) -> None:
    """With fresh tokens of the same participants, and so of their roles."""
    async with AsyncExitStack() as stack:
        for name, joined_as in joins.items():
            pid = joined_as["participant"]["id"]
            made = await session.post(f"/participants/{pid}/token", status=201)
            assert made["livekit"]["identity"] == name
            await stack.enter_async_context(joined(made["livekit"]))
        await session.until_in(*joins)
        people = await session.people()
        assert {name: (people[name]["status"], people[name]["epoch"]) for name in joins} == dict.fromkeys(
            joins, ("attached", 0)
        )


async def test_without_any_webhook_looking_alone_finds_who_comes_and_goes(livekit: LiveKitAddress) -> None:
    async with roomy(livekit) as (service, _):
        await service.http.post("/sessions", json={"id": "call", "room": True})
        session = Session(service, "call")
        await session.until_open()
        access = await session.attach("anna", lease_seconds=None)
        async with joined(access["livekit"]):
            await session.until_in("anna")
        await session.until_in()
        await session.until_status("anna", "disconnected")
        found = [
            one["data"]["inconsistencies"] for one in await session.entries("room") if "inconsistencies" in one["data"]
        ]
        assert ["participant_unknown:anna"] in found
        assert ["participant_missing:anna"] in found


async def test_the_log_of_a_session_with_a_room_makes_the_head_that_readers_get(livekit: LiveKitAddress) -> None:
    async with roomy(livekit, webhooks=True) as (service, _):
        await service.http.post("/sessions", json={"id": "call", "room": True, "type": "voice-ptt"})
        session = Session(service, "call")
        await session.until_open()
        async with joined((await session.attach("anna"))["livekit"]):
            await session.until_in("anna")
        await session.until_in()
        await session.post("/end")
        await session.until_open("idle")
        key = Key(TENANT, "call")
        stored = await service.service.core.sessions.view(key, lines=500)
        lines = [line.data for line in stored.lines]
        made = replay(key, [decode_entry(line) for line in lines], [len(line) for line in lines])
        assert made.detail.room == stored.stored.head.detail.room
        assert made.detail.participants == stored.stored.head.detail.participants
