"""The room service over a real LiveKit: what each call does, what is no failure, and a LiveKit that does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.core.rooms.livekit import FAILURES_MAX, LiveKit, RoomLimits
from sessionmanager.errors import UpstreamFailed
from sessionmanager.model.rooms.config import room_name
from sessionmanager.words import Key
from tests.contracts.rooms import RoomServiceContract
from tests.services.own import OwnServer
from tests.support.rooms import LiveKitAddress, joined, livekit_address, until
from tests.support.services import owned

pytestmark = pytest.mark.server

KEY = Key("acme", "call-1")
NAME = room_name(KEY)


class Heard:
    """What the service tells metrics."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def livekit(self, operation: str, outcome: str, seconds: float) -> None:
        self.calls.append((operation, outcome))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with owned("livekit", tmp_path) as running:
        yield running


@pytest.fixture
def address(server: OwnServer) -> LiveKitAddress:
    return livekit_address(server.url)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def service(address: LiveKitAddress, heard: Heard) -> AsyncIterator[LiveKit]:
    made = LiveKit(
        address.ws,
        address.key,
        address.secret,
        limits=RoomLimits(60, 30, 3),
        timeout_seconds=10.0,
        observer=heard,
    )
    yield made
    await made.aclose()


class TestLiveKit(RoomServiceContract):
    @pytest.fixture
    def rooms(self, service: LiveKit) -> LiveKit:
        return service


def access(address: LiveKitAddress, identity: str) -> dict[str, str]:
    made = RoomTokens(address.http, address.key, address.secret, 600).mint(KEY, "par_1", identity, "client", "client")
    assert made.url == address.ws, "participants connect by WebSocket"
    return {"url": made.url, "token": made.token}


async def test_a_room_is_made_with_the_time_outs_and_the_bound_of_the_settings(
    service: LiveKit, address: LiveKitAddress
) -> None:
    from livekit import api

    await service.open(NAME, "{}")
    async with api.LiveKitAPI(address.http, address.key, address.secret) as calls:
        (room,) = (await calls.room.list_rooms(api.ListRoomsRequest(names=[NAME]))).rooms
    assert (room.empty_timeout, room.departure_timeout, room.max_participants) == (60, 30, 3)


async def test_a_look_sees_who_is_there_by_which_token_and_whether_the_microphone_is_open(
    service: LiveKit, address: LiveKitAddress
) -> None:
    await service.open(NAME, "{}")
    async with joined(access(address, "anna")) as anna:
        (person,) = (await service.look(NAME)).people
        assert (person.identity, person.kind, person.active, person.hidden, person.counts, person.bound) == (
            ("anna", "standard", True, False, True, "par_1")
        )
        assert (person.microphone, person.attributes["session_id"]) == ("none", "call-1")
        await anna.open_microphone()

        async def is_open() -> bool:
            return (await service.look(NAME)).people[0].microphone == "open"

        await until(is_open, "an open microphone")
        (person,) = (await service.look(NAME)).people
        await service.mute(NAME, "anna", person.microphone_sid)

        async def is_muted() -> bool:
            return (await service.look(NAME)).people[0].microphone == "muted"

        await until(is_muted, "a muted microphone")


async def test_whoever_is_in_the_room_sees_its_metadata_hears_what_it_is_told_and_is_taken_out(
    service: LiveKit, address: LiveKitAddress
) -> None:
    await service.open(NAME, "{}")
    async with joined(access(address, "anna")) as anna:
        await service.configure(NAME, json.dumps({"turnDetection": "server"}))

        async def is_seen() -> bool:
            return "server" in anna.room.metadata

        await until(is_seen, "the metadata")

        async def is_heard() -> bool:
            await service.tell(NAME, "topic", b"payload")
            return ("topic", b"payload") in anna.heard

        await until(is_heard, "a packet")
        await service.remove(NAME, "anna")

        async def is_out() -> bool:
            return not anna.room.isconnected() and (await service.look(NAME)).people == ()

        await until(is_out, "the end of it")


async def test_deleting_disconnects_everybody_and_the_next_room_of_the_name_is_another(
    service: LiveKit, address: LiveKitAddress
) -> None:
    first = await service.open(NAME, "{}")
    async with joined(access(address, "anna")) as anna:
        await service.delete(NAME)

        async def is_out() -> bool:
            return not anna.room.isconnected()

        await until(is_out, "the end of it")
        assert (await service.look(NAME)).sid is None
    again = await service.open(NAME, "{}")
    assert again.sid not in (None, first.sid)


async def test_what_is_for_somebody_who_is_gone_is_no_failure_and_counted_as_such(
    service: LiveKit, heard: Heard
) -> None:
    for _ in range(FAILURES_MAX):
        await service.delete(NAME)
        await service.mute(NAME, "nobody", "TR_x")
        await service.tell(NAME, "topic", b"nobody hears")
    assert {outcome for _, outcome in heard.calls} == {"gone"}


async def test_a_wrong_key_is_refused_and_shows_no_secret(address: LiveKitAddress, heard: Heard) -> None:
    service = LiveKit(
        address.ws, address.key, "x" * 40, limits=RoomLimits(60, 30, 0), timeout_seconds=10.0, observer=heard
    )
    for _ in range(FAILURES_MAX + 1):  # it answers, and so it is asked again
        with pytest.raises(UpstreamFailed) as refused:
            await service.look(NAME)
        assert "401" in str(refused.value)
        assert "x" * 40 not in f"{refused.value!r} {service!r}"
    assert {outcome for _, outcome in heard.calls} <= {"refused", "cancelled"}
    await service.aclose()


async def test_one_that_is_frozen_ends_each_call_in_time_and_is_then_left_alone(
    server: OwnServer, address: LiveKitAddress, heard: Heard
) -> None:
    service = LiveKit(
        address.ws, address.key, address.secret, limits=RoomLimits(60, 30, 0), timeout_seconds=0.3, observer=heard
    )
    await service.open(NAME, "{}")
    server.freeze()
    for _ in range(FAILURES_MAX):
        with pytest.raises(UpstreamFailed):
            await service.delete(NAME)
    with pytest.raises(UpstreamFailed, match="asked again soon"):
        await service.delete(NAME)
    assert heard.calls[-1] == ("delete_room", "open")
    server.thaw()

    async def is_well() -> bool:
        try:
            await service.look(NAME)  # the room may be gone: what was asked before may be done now
        except UpstreamFailed:
            return False
        return True

    await until(is_well, "an answer")
    await service.aclose()


async def test_one_that_is_gone_is_unreachable_and_found_again(server: OwnServer, service: LiveKit) -> None:
    await service.open(NAME, "{}")
    await server.kill()
    with pytest.raises(UpstreamFailed, match="could not be reached"):
        await service.look(NAME)
    await server.restart()
    assert (await service.look(NAME)).sid is None, "it keeps nothing over a restart"
    await asyncio.gather(*(service.open(NAME, "{}") for _ in range(5)))
    assert (await service.look(NAME)).sid is not None
