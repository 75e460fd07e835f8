"""One socket of VoiceAI Connect against a base that notes everything: each message, in order and out of order."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from sessionmanager.bridges.audiocodes.app import make_app
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.carrier import Piece
from sessionmanager.bridges.media.formats import FORMATS
from sessionmanager.client.problems import Unreachable
from sessionmanager.errors import Erased, NotResumable, SessionManagerError, TierUnavailable, Unauthenticated
from tests.bridges.asgi_socket import AsgiSocket, Closed, connect, until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.vaic import CHUNK, ID, PATH, accepted, initiate, of, resume, settled

pytestmark = pytest.mark.unit


@pytest.fixture
async def vaic(bridge: ShamBridge) -> AsyncIterator[AsgiSocket]:
    async with connect(make_app(bridge), PATH) as socket:
        yield socket


# -- the beginning


async def test_a_call_is_accepted_in_the_best_format_of_those_that_are_offered(bridge: ShamBridge) -> None:
    async with connect(make_app(bridge), PATH) as vaic:
        await vaic.send(initiate(supportedMediaFormats=["raw/mulaw", "raw/opus", 7, "raw/lpcm16_24", "raw/lpcm16"]))
        assert await vaic.receive() == {"type": "session.accepted", "mediaFormat": "raw/lpcm16_24"}
    arrival = bridge.call.arrival
    assert (arrival.conversation, arrival.gateway, arrival.gateway_call_id) == (ID, "audiocodes", ID)
    assert (arrival.bot, arrival.caller, arrival.media_format) == ("support", "+12025550123", "raw/lpcm16_24")
    assert arrival.opening == "either"
    assert bridge.call.line.media == FORMATS["raw/lpcm16_24"]


async def test_nothing_in_common_is_said_and_the_socket_closed(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    await vaic.send(initiate(supportedMediaFormats=["raw/opus"]))
    answer = await vaic.receive()
    assert answer.pop("reason")
    assert answer == {"type": "session.error", "conversationId": ID}
    assert await vaic.closed() == 1000
    assert bridge.calls == []


async def test_a_socket_that_only_validates_makes_no_conversation(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    for _ in range(2):
        await vaic.send({"type": "connection.validate", "conversationId": "x"})
        assert await vaic.receive() == {"type": "connection.validated", "success": True}
    vaic.drop(1000)
    await vaic.end()
    assert bridge.tries == 0


async def test_a_validation_may_be_followed_by_the_call(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    await settled(vaic)
    await accepted(vaic, bridge)


async def test_an_id_that_no_session_can_have_gets_a_session_of_its_own(bridge: ShamBridge) -> None:
    for _ in range(2):
        async with connect(make_app(bridge), PATH) as vaic:
            await accepted(vaic, bridge, conversationId="a/b c")
    first, second = (call.arrival for call in bridge.calls)
    assert first.conversation == second.conversation
    assert first.conversation is not None
    assert first.conversation.startswith("audiocodes-")
    assert first.gateway_call_id == "a/b c"


@pytest.mark.parametrize("odd", [{"caller": 12025550123}, {"caller": None, "botName": ["x"]}, {"caller": "\n" * 9}])
async def test_an_odd_caller_does_not_cost_the_call(vaic: AsgiSocket, bridge: ShamBridge, odd: dict[str, Any]) -> None:
    call = await accepted(vaic, bridge, **odd)
    assert call.arrival.caller in (None, "12025550123")


async def test_a_socket_that_says_nothing_is_closed(bridge: ShamBridge) -> None:
    app = make_app(bridge, AudioCodesOptions(first_message_seconds=0.01))
    async with connect(app, PATH) as vaic:
        assert await vaic.closed() == 1000


# -- coming back


async def test_a_resume_is_accepted_with_the_format_of_before_and_then_resumed(
    vaic: AsgiSocket, bridge: ShamBridge
) -> None:
    bridge.sessions[ID] = "wav/mulaw"
    await vaic.send(resume(supportedMediaFormats=["raw/lpcm16"]))
    assert await vaic.receive() == {"type": "session.accepted", "mediaFormat": "wav/mulaw"}
    assert await vaic.receive() == {"type": "session.resumed", "conversationId": ID, "sessionId": ID}
    assert bridge.call.arrival.opening == "resume"
    assert bridge.call.arrival.media_format is None


async def test_whoever_asks_for_a_new_session_is_not_told_that_it_was_resumed(
    vaic: AsgiSocket, bridge: ShamBridge
) -> None:
    bridge.sessions[ID] = "raw/lpcm16"  # made before the call, by POST /sessions
    await accepted(vaic, bridge)
    await settled(vaic)


async def test_session_resumed_can_be_switched_off(bridge: ShamBridge) -> None:
    bridge.sessions[ID] = "raw/lpcm16"
    async with connect(make_app(bridge, AudioCodesOptions(says_resumed=False)), PATH) as vaic:
        await vaic.send(resume())
        assert (await vaic.receive())["type"] == "session.accepted"
        await settled(vaic)


async def test_a_resume_of_what_is_not_there_is_an_error_unless_it_is_allowed_to_begin_anew(
    vaic: AsgiSocket, bridge: ShamBridge
) -> None:
    await vaic.send(resume())
    assert await vaic.receive() == {
        "type": "session.error",
        "conversationId": ID,
        "reason": "conversation not found",
    }
    assert await vaic.closed() == 1000
    async with connect(make_app(bridge, AudioCodesOptions(resumes_unknown=True)), PATH) as other:
        await other.send(resume())
        assert await other.receive() == {"type": "session.accepted", "mediaFormat": "raw/lpcm16"}
        await settled(other)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotResumable("ended"), "conversation ended"),
        (NotResumable("expired"), "conversation expired"),
        (Erased(), "conversation not found"),
    ],
)
async def test_a_refusal_is_said_at_once(
    vaic: AsgiSocket, bridge: ShamBridge, error: SessionManagerError, reason: str
) -> None:
    bridge.errors = [error]
    await vaic.send(resume())
    assert (await vaic.receive())["reason"] == reason
    assert bridge.tries == 1


@pytest.mark.parametrize("message", [initiate(), resume()], ids=["initiate", "resume"])
async def test_an_outage_is_waited_for_and_never_an_error(
    vaic: AsgiSocket, bridge: ShamBridge, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bridge.sessions[ID] = "raw/lpcm16"
    bridge.errors = [TierUnavailable("warm"), Unreachable(), Unauthenticated()]
    await vaic.send(message)
    assert (await vaic.receive())["type"] == "session.accepted"
    assert bridge.tries == 4


async def test_an_outage_that_outlasts_patience_ends_in_a_close_that_asks_to_come_again(
    bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bridge.errors = [TierUnavailable("warm")] * 10_000
    async with connect(make_app(bridge, AudioCodesOptions(patience_seconds=0.3)), PATH) as vaic:
        await vaic.send(resume())
        with pytest.raises(Closed) as closed:
            await vaic.receive()
        assert closed.value.code == 1013


async def test_a_socket_that_goes_while_its_call_is_taken_leaves_nothing_behind(bridge: ShamBridge) -> None:
    bridge.gate.clear()
    async with connect(make_app(bridge), PATH) as vaic:
        await vaic.send(initiate())
        await until(lambda: bridge.tries == 1)
        vaic.drop()
        await vaic.end()
    assert bridge.calls == []


async def test_the_same_request_again_gets_the_same_answer_and_another_conversation_none(
    vaic: AsgiSocket, bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    await accepted(vaic, bridge)
    for message in (initiate(), resume()):
        await vaic.send(message)
        assert (await vaic.receive())["type"] == "session.accepted"
    await vaic.send(initiate(conversationId="another"))
    await settled(vaic)
    assert bridge.tries == 1


async def test_of_two_sockets_of_a_conversation_the_newer_wins(bridge: ShamBridge) -> None:
    app = make_app(bridge)
    async with connect(app, PATH) as old, connect(app, PATH) as new:
        first = await accepted(old, bridge)
        await first.line.play(Piece("u1", b"ab", "m1", 1))
        await new.send(resume())
        assert (await new.receive())["type"] == "session.accepted"
        seen = [(await old.receive())["type"] for _ in range(3)]
        assert seen == ["playStream.start", "playStream.chunk", "playStream.stop"]
        assert await old.closed() == 1001
        assert ("hang_up" in [told[0] for told in first.told]) is False
        assert bridge.call.left is False


async def test_the_end_of_a_socket_alone_is_no_hang_up(bridge: ShamBridge) -> None:
    async with connect(make_app(bridge), PATH) as vaic:
        call = await accepted(vaic, bridge)
    assert call.left
    assert call.told == []


# -- what cannot be read


@pytest.mark.parametrize("begun", [False, True], ids=["before", "within"])
async def test_garbage_is_ignored_wherever_it_comes(
    vaic: AsgiSocket, bridge: ShamBridge, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    if begun:
        await accepted(vaic, bridge)
    garbage: list[Any] = [
        b"\xff\x00\x01",
        b"",
        "",
        "hello",
        "{",
        "[]",
        "{}",
        '{"type": 7}',
        '{"type": "session.start"}',
        '{"type": "userStream.chunk", "audioChunk": "@@@"}',
        '{"type": "userStream.chunk"}',
        '{"type": "activities", "activities": 3}',
        '{"type": "session.resume"}',
        '{"type": "session.initiate", "conversationId": ""}',
        '{"type": "session.initiate", "conversationId": "\\u0000"}',
        '{"type": "session.initiate", "conversationId": "x", "supportedMediaFormats": "raw/lpcm16"}',
        "[" * 100_000,
        json.dumps({"type": "session.end", "conversationId": "x" * 2_000_000}),
    ]
    for one in garbage:
        await vaic.send(one)
    await settled(vaic)
    assert len(bridge.calls) == begun
    assert not begun or bridge.call.told == []


@pytest.mark.parametrize(
    "type_", ["userStream.start", "userStream.chunk", "userStream.stop", "session.end", "activities"]
)
async def test_what_belongs_to_a_conversation_is_ignored_before_there_is_one(
    vaic: AsgiSocket, bridge: ShamBridge, type_: str
) -> None:
    await vaic.send(of(type_, audioChunk=CHUNK, activities=[]))
    await settled(vaic)
    assert bridge.tries == 0
    await accepted(vaic, bridge)


# -- the door

TOKENS = ("a-token-of-the-carrier", "the-next-one-of-the-carrier")


async def test_only_one_of_our_tokens_opens_the_door(bridge: ShamBridge) -> None:
    app = make_app(bridge, AudioCodesOptions(tokens=TOKENS))
    for token in TOKENS:
        async with connect(app, PATH, {"Authorization": f"Bearer {token}"}) as vaic:
            await settled(vaic)
    for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKENS[0]}", f"Bearer {TOKENS[0]}x", TOKENS[0], "Bearer ü"):
        with pytest.raises(Closed) as refused:
            async with connect(app, PATH, {"Authorization": wrong}):
                pass
        assert refused.value.status == 401


async def test_the_address_answers_the_check_of_live_hub(bridge: ShamBridge) -> None:
    transport = httpx2.ASGITransport(make_app(bridge, AudioCodesOptions(tokens=TOKENS)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://bridge.test") as http:
        came = await http.get(PATH, headers={"Authorization": f"Bearer {TOKENS[1]}"})
        assert (came.status_code, came.json()) == (200, {"type": "ac-bot-api", "success": True})
        assert (await http.get(PATH)).status_code == 401


async def test_sockets_over_the_bound_are_told_to_come_again(bridge: ShamBridge) -> None:
    app = make_app(bridge, AudioCodesOptions(sockets_max=1))
    async with connect(app, PATH):
        with pytest.raises(Closed) as refused:
            async with connect(app, PATH):
                pass
        assert refused.value.status == 503
    async with connect(app, PATH) as again:
        await settled(again)


def test_tokens_are_in_no_repr_and_wrong_options_are_named() -> None:
    assert TOKENS[0] not in repr(AudioCodesOptions(tokens=TOKENS))
    for wrong in (
        {"tokens": ("short",)},
        {"media_formats": ("raw/opus",)},
        {"media_formats": ()},
        {"sockets_max": 0},
        {"resume_within_seconds": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AudioCodesOptions(**wrong)  # pyright: ignore[reportArgumentType]


async def test_a_fault_of_ours_closes_the_socket_so_that_the_call_comes_back(
    vaic: AsgiSocket, bridge: ShamBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bridge.errors = [RuntimeError("a mistake")]
    await vaic.send(initiate())
    with pytest.raises(Closed) as closed:
        await vaic.receive()
    assert closed.value.code == 1011


async def test_what_comes_faster_than_it_is_taken_waits_and_stays_in_order(bridge: ShamBridge) -> None:
    async with connect(make_app(bridge), PATH) as vaic:
        call = await accepted(vaic, bridge)
        await vaic.send(of("userStream.start"))
        for n in range(2_000):
            await vaic.send(of("userStream.chunk", audioChunk=base64.b64encode(n.to_bytes(2, "big")).decode()))
        await vaic.send(of("session.end"))
        await asyncio.wait_for(vaic.closed(), 20)
        assert call.heard == b"".join(n.to_bytes(2, "big") for n in range(2_000))
        assert call.told == [("hang_up", "ended")]


async def test_a_process_that_stops_closes_the_play_stream_and_sends_the_call_elsewhere(bridge: ShamBridge) -> None:
    app = make_app(bridge)
    async with connect(app, PATH) as vaic:
        call = await accepted(vaic, bridge)
        await call.line.play(Piece("u1", b"ab", "m1", 1))
        stream = (await vaic.receive())["streamId"]
        await vaic.receive()
        await app.state.sockets.drain()
        assert await vaic.receive() == {"type": "playStream.stop", "streamId": stream}
        assert await vaic.closed() == 1012
        assert call.told == []
        with pytest.raises(Closed) as refused:
            async with connect(app, PATH):
                pass
        assert refused.value.status == 503
