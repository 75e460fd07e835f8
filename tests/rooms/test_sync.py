"""A session and its room at a real LiveKit, both ways: what changes in one is soon so in the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc

from sessionmanager.client import AsyncClient
from sessionmanager.model.rooms.config import config_of, room_name
from sessionmanager.words import Key
from tests.support.live import Live
from tests.support.rooms import Joiner, LiveKitAddress, Session, joined, livekit_address, roomy, until
from tests.support.server import TENANT
from tests.support.services import owned

pytestmark = pytest.mark.server

KEY = Key(TENANT, "call")
NAME = room_name(KEY)


@pytest.fixture
async def livekit(tmp_path: Path) -> AsyncIterator[LiveKitAddress]:
    async with owned("livekit", tmp_path) as server:
        yield livekit_address(server.url)


@pytest.fixture
async def service(livekit: LiveKitAddress) -> AsyncIterator[Live]:
    async with roomy(livekit, webhooks=True) as (running, _):
        yield running


async def session_with_room(service: Live, **fields: Any) -> Session:
    made = await service.http.post("/sessions", json={"id": "call", "room": True, **fields})
    assert made.status_code == 201, made.text
    session = Session(service, "call")
    await session.until_open()
    return session


async def rooms_at(livekit: LiveKitAddress) -> dict[str, Any]:
    from livekit import api

    async with api.LiveKitAPI(livekit.http, livekit.key, livekit.secret) as calls:
        return {room.name: room for room in (await calls.room.list_rooms(api.ListRoomsRequest())).rooms}


async def test_a_patch_of_the_type_reaches_everybody_in_the_room(service: Live) -> None:
    session = await session_with_room(service, type="voice-vad")
    async with joined((await session.attach("anna"))["livekit"]) as anna:
        assert json.loads(anna.room.metadata) == config_of(KEY, "voice-vad")
        await service.http.patch("/sessions/call", json={"type": "text"}, headers={"If-Match": "*"})

        async def is_seen() -> bool:
            return json.loads(anna.room.metadata)["turnDetection"] == "none"

        await until(is_seen, "the metadata")
        packet = json.loads(await anna.until_heard("sessionmanager.sync", lambda data: b"turn_detection" in data))
        assert packet["type"] == "session_inconsistency"
        assert packet["payload"]["corrections"]["sessionType"] == "text"
        assert packet["payload"]["roomState"]["turnDetection"] == "none"


async def test_metadata_that_somebody_else_spoiled_is_mended_and_theirs_is_kept(
    service: Live, livekit: LiveKitAddress
) -> None:
    from livekit import api

    session = await session_with_room(service, type="voice-ptt")
    async with api.LiveKitAPI(livekit.http, livekit.key, livekit.secret) as calls:
        theirs = json.dumps({"turnDetection": "server", "theme": "dark"})
        await calls.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=NAME, metadata=theirs))
    found = await session.post("/room/sync", {"trigger": "test"})
    said = json.loads((await rooms_at(livekit))[NAME].metadata)
    assert said == {**config_of(KEY, "voice-ptt"), "theme": "dark"}
    room = (await session.read())["room"]
    assert (room["sync_attempts"] >= 1, room["inconsistency_detected"]) == (True, True)
    assert (await session.post("/room/sync"))["is_valid"]
    assert found["sync_state"] == "active"


async def test_whoever_leaves_the_session_is_taken_out_of_the_room_and_stays_out(service: Live) -> None:
    session = await session_with_room(service)
    attached = await session.attach("anna")
    async with joined(attached["livekit"]) as anna:
        await session.until_in("anna")
        left = await service.http.delete(f"/sessions/call/participants/{attached['participant']['id']}")
        assert left.status_code == 200

        async def is_out() -> bool:
            return not anna.room.isconnected()

        await until(is_out, "the end of it")
    again = Joiner(attached["livekit"])
    with suppress(rtc.ConnectError):  # the token is still good at LiveKit; it may be out before it is in
        await again.connect(tries=1)

    async def is_out_again() -> bool:
        return not again.room.isconnected()

    await until(is_out_again, "the end of it")
    assert (await session.people())["anna"]["status"] == "left"
    # A new join is a new life, with a token of its own.
    async with joined((await session.attach("anna"))["livekit"]):
        await session.until_in("anna")


async def test_a_session_that_rests_closes_its_room_and_resume_opens_it_before_it_answers(
    service: Live, livekit: LiveKitAddress
) -> None:
    session = await session_with_room(service)
    async with joined((await session.attach("anna"))["livekit"]) as anna:
        await session.until_in("anna")
        await session.post("/suspend")

        async def is_out() -> bool:
            return not anna.room.isconnected()

        await until(is_out, "the end of it")
    await session.until_open("idle")
    assert NAME not in await rooms_at(livekit)
    resumed = await session.post("/resume", {"participant": {"kind": "client", "identity": "anna"}})
    assert NAME in await rooms_at(livekit)
    async with joined(resumed["livekit"]):
        await session.until_in("anna")


async def test_a_missing_microphone_is_told_to_the_room_and_forgiven_once_it_is_there(service: Live) -> None:
    session = await session_with_room(service, type="voice-vad")
    async with joined((await session.attach("anna"))["livekit"]) as anna:
        await anna.until_heard("sessionmanager.sync", lambda data: b"microphone_missing:anna" in data)
        room = (await session.read())["room"]
        assert room["inconsistencies"] == ["microphone_missing:anna"]
        await anna.open_microphone(muted=True)

        async def is_well() -> bool:
            return (await session.read())["room"]["inconsistencies"] == []

        await until(is_well, "a microphone")


async def test_an_open_microphone_in_a_text_session_is_muted(service: Live) -> None:
    session = await session_with_room(service, type="text")
    async with joined((await session.attach("anna"))["livekit"]) as anna:
        await session.until_in("anna")
        await anna.open_microphone()

        async def is_muted() -> bool:
            return all(track.muted for track in anna.room.local_participant.track_publications.values())

        await until(is_muted, "a muted microphone")
        found = [one["data"].get("corrections", {}) for one in await session.entries("room")]
        assert any(one.get("muted") == ["anna"] for one in found)


async def test_with_sync_off_nothing_is_mended_until_somebody_asks(service: Live, livekit: LiveKitAddress) -> None:
    from livekit import api

    session = await session_with_room(service, type="voice-ptt")
    await session.post("/room", {"sync_enabled": False})
    before = (await session.read())["version"]
    async with api.LiveKitAPI(livekit.http, livekit.key, livekit.secret) as calls:
        await calls.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=NAME, metadata="{}"))
    async with joined((await session.attach("anna"))["livekit"]):
        found = await session.post("/room/sync")
        assert {"turn_detection", "participant_unknown:anna"} <= set(found["inconsistencies"])
    assert (await session.read())["version"] > before
    # The room is closed at the end all the same.
    await session.post("/end")
    await session.until_open("idle")
    assert NAME not in await rooms_at(livekit)


async def test_an_erased_session_takes_its_room_with_it(service: Live, livekit: LiveKitAddress) -> None:
    session = await session_with_room(service)
    async with joined((await session.attach("anna"))["livekit"]) as anna:
        await session.until_in("anna")
        assert (await service.http.delete("/sessions/call")).status_code == 202

        async def is_out() -> bool:
            return not anna.room.isconnected() and NAME not in await rooms_at(livekit)

        await until(is_out, "the end of it")
    assert (await service.http.get("/sessions/call")).status_code == 410


async def test_the_client_opens_a_room_looks_at_it_and_gets_fresh_tokens(service: Live) -> None:
    async with AsyncClient(service.address, service.token()) as client:
        session = client.session((await client.create(type="voice-ptt")).id)
        opened = await session.open_room()
        assert opened.room.sid is not None
        assert (opened.config.turn_detection, opened.config.room_id) == ("client", opened.room.name)
        async with session.join(kind="client", identity="anna") as me:
            first, second = me.joined.livekit, await me.room_access()
            assert first is not None
            assert second is not None
            assert first.room == second.room == opened.room.name
            async with joined({"url": second.url, "token": second.token}):

                async def is_in() -> bool:
                    await session.sync_room(trigger="test")
                    return any(one.room_sid for one in (await session.get()).participants)

                await until(is_in, "anna in the room")
        assert (await session.room()).room.name == opened.room.name
