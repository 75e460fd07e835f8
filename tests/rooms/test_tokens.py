"""Tokens for rooms, tried by joining a real LiveKit: each role may do what its row of the table says, and no other
token gets anybody anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.model.rooms.config import room_name
from sessionmanager.model.rooms.grants import BY_KIND, GRANTS, RoomRole, role_of
from sessionmanager.words import Key
from tests.support.rooms import (
    CONNECT_TRIES,
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    Joiner,
    LiveKitAddress,
    joined,
    livekit_address,
    until,
)
from tests.support.services import owned

pytestmark = pytest.mark.server

KEY = Key("acme", "call-1")
OTHER = Key("acme", "call-2")
SHORT_SECONDS = 1
LOOKS = 20
REFUSED_SECONDS = 3.0
"""The SDK waits for an answer that never comes where something is not allowed."""
KINDS: dict[RoomRole, tuple[Any, str]] = {
    "client": ("client", "client"),
    "agent": ("agent", "bot"),
    "service": ("service", "asr"),
    "manager": ("human", "manager"),
    "viewer": ("client", "viewer"),
}
"""As what a participant joins a session, so that it gets this row."""


@pytest.fixture
async def livekit(tmp_path: Path) -> AsyncIterator[LiveKitAddress]:
    async with owned("livekit", tmp_path) as server:
        yield livekit_address(server.url)


def access(livekit: LiveKitAddress, role: RoomRole, identity: str, key: Key = KEY) -> dict[str, str]:
    kind, word = KINDS[role]
    made = RoomTokens(livekit.ws, livekit.key, livekit.secret, 600).mint(key, "par_1", identity, kind, word)
    return {"url": made.url, "token": made.token}


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


@asynccontextmanager
async def calls_by(livekit: LiveKitAddress, token: str) -> AsyncIterator[Any]:
    """LiveKit's room service as whoever has this token may use it."""
    from livekit import api

    async with api.LiveKitAPI.with_token(token, livekit.http) as made:
        yield made.room


def test_the_table_has_a_row_for_every_role_and_every_kind_of_participant() -> None:
    assert set(GRANTS) == set(get_args(RoomRole)) == set(KINDS)
    assert {role_of(kind, word) for kind, word in KINDS.values()} == set(GRANTS)
    assert role_of("service", "manager") == "service", "a type of service is no role"
    assert role_of("agent", "viewer") == "agent"
    assert set(BY_KIND.values()) <= set(GRANTS)


@pytest.mark.parametrize("role", get_args(RoomRole))
def test_a_token_names_one_room_and_one_identity_and_nothing_of_the_whole_server(role: RoomRole) -> None:
    nowhere = LiveKitAddress("ws://127.0.0.1:1", "", "key", "s" * 32, 0)
    said = claims(access(nowhere, role, "anna")["token"])
    video = said["video"]
    assert (said["sub"], video["room"], video["roomJoin"]) == ("anna", room_name(KEY), True)
    assert said["attributes"] == {"session_id": "call-1", "participant_id": "par_1"}
    granted = {name for name, value in video.items() if value is True}
    assert granted <= {"roomJoin", "roomAdmin", "canPublish", "canSubscribe", "canPublishData", "hidden",
                       "canUpdateOwnMetadata"}  # fmt: skip
    assert said["exp"] - said["nbf"] == 600


@pytest.mark.parametrize("role", get_args(RoomRole))
async def test_each_role_may_do_in_the_room_what_its_row_says(livekit: LiveKitAddress, role: RoomRole) -> None:
    grants = GRANTS[role]
    async with (
        joined(access(livekit, "client", "witness")) as witness,
        joined(access(livekit, role, "one")) as one,
    ):
        assert await _publishes(one, grants.publish) == grants.publish
        assert await _comes(_is_heard(one, witness), grants.data) == grants.data
        await witness.open_microphone()
        assert await _comes(_hears(one), grants.subscribe) == grants.subscribe
        assert await _comes(_sees(witness), not grants.hidden) != grants.hidden
        assert await _is_admin(livekit, one) == grants.admin
        assert await _renames_itself(one, grants.own_metadata) == grants.own_metadata


async def _publishes(one: Joiner, expected: bool) -> bool:
    from livekit import rtc

    try:
        async with asyncio.timeout(PATIENCE_SECONDS if expected else REFUSED_SECONDS):
            await one.open_microphone()
    except (rtc.participant.PublishTrackError, TimeoutError):
        return False
    return True


async def _comes(look: Callable[[], Awaitable[bool]], expected: bool) -> bool:
    """What is expected is waited for; what is not has had its time."""
    if expected:
        return await until(look, "what the row says")
    for _ in range(LOOKS):
        if await look():
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


def _is_heard(one: Joiner, by: Joiner) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        await one.say("hello", topic="data")
        return any(topic == "data" for topic, _ in by.heard)

    return look


def _hears(one: Joiner) -> Callable[[], Awaitable[bool]]:
    """Whether it gets the witness's microphone."""

    async def look() -> bool:
        person = one.room.remote_participants.get("witness")
        return person is not None and any(track.track is not None for track in person.track_publications.values())

    return look


def _sees(witness: Joiner) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return "one" in witness.room.remote_participants

    return look


async def _is_admin(livekit: LiveKitAddress, one: Joiner) -> bool:
    """It may see who is in its own room; nobody may see another, or make one."""
    from livekit import api

    async with calls_by(livekit, one.access["token"]) as calls:
        for asked in (
            calls.list_participants(api.ListParticipantsRequest(room=room_name(OTHER))),
            calls.list_rooms(api.ListRoomsRequest()),
            calls.create_room(api.CreateRoomRequest(name=room_name(OTHER))),
            calls.delete_room(api.DeleteRoomRequest(room=room_name(KEY))),
        ):
            with pytest.raises(api.ServerError):
                await asked
        try:
            await calls.list_participants(api.ListParticipantsRequest(room=room_name(KEY)))
        except api.ServerError:
            return False
    return True


async def _renames_itself(one: Joiner, expected: bool) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS if expected else REFUSED_SECONDS):
            await one.room.local_participant.set_metadata("mine")
    except Exception:  # the SDK tells what the server refused by plain exceptions
        return False

    async def look() -> bool:
        return one.room.local_participant.metadata == "mine"

    return await _comes(look, expected)


# -- tokens that are good for nothing


async def test_a_token_that_has_run_out_or_was_touched_lets_nobody_in(livekit: LiveKitAddress) -> None:
    from livekit import api

    good = access(livekit, "client", "anna")
    head, body, signature = good["token"].split(".")
    said = claims(good["token"])
    said["video"]["roomAdmin"] = True
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    grants = api.VideoGrants(room_join=True, room=room_name(KEY))
    old = api.AccessToken(livekit.key, livekit.secret).with_identity("anna").with_grants(grants)
    another = RoomTokens(livekit.ws, livekit.key, "y" * 40, 600).mint(KEY, "par_1", "anna", "client", "client")
    for token in (
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.{signature[::-1]}",
        old.with_ttl(timedelta(seconds=-3_600)).to_jwt(),
        another.token,
        "",
    ):
        assert not await _lets_in(livekit, token, tries=1)
    assert await _lets_in(livekit, good["token"])


async def test_a_token_of_one_room_is_of_no_use_for_another(livekit: LiveKitAddress) -> None:
    """The room is the token's, whatever the caller asks for."""
    async with (
        joined(access(livekit, "client", "anna", OTHER)) as anna,
        joined(access(livekit, "client", "witness")) as witness,
    ):
        assert anna.room.name == room_name(OTHER)
        assert set(witness.room.remote_participants) == set()
        async with calls_by(livekit, access(livekit, "manager", "boss", OTHER)["token"]) as calls:
            from livekit import api

            with pytest.raises(api.ServerError):
                await calls.remove_participant(api.RoomParticipantIdentity(room=room_name(KEY), identity="witness"))


async def test_whoever_is_in_stays_when_the_token_runs_out_and_comes_back_by_a_fresh_one(
    livekit: LiveKitAddress,
) -> None:
    tokens = RoomTokens(livekit.ws, livekit.key, livekit.secret, SHORT_SECONDS)
    made = tokens.mint(KEY, "par_1", "anna", "client", "client")
    async with joined({"url": made.url, "token": made.token}) as anna:
        ends_at = claims(made.token)["exp"]

        async def is_over() -> bool:
            return time.time() > ends_at + 1

        await until(is_over, "the end of the token")
        assert anna.room.isconnected()
    fresh = tokens.mint(KEY, "par_1", "anna", "client", "client")
    assert await _lets_in(livekit, fresh.token)


async def _lets_in(livekit: LiveKitAddress, token: str, tries: int = CONNECT_TRIES) -> bool:
    from livekit import rtc

    joiner = Joiner({"url": livekit.ws, "token": token})
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await joiner.connect(tries)
    except (rtc.ConnectError, TimeoutError):
        return False
    await joiner.room.disconnect()
    return True
