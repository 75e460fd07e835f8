"""A call at VoiceAI Connect while it lasts: sound both ways, activities, texts, and how it is hung up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.bridges.audiocodes.app import make_app
from sessionmanager.bridges.audiocodes.options import AudioCodesOptions
from sessionmanager.bridges.carrier import LineGone, Noticed, Piece, Token
from sessionmanager.bridges.media.formats import FORMATS
from sessionmanager.bridges.media.wav import header
from tests.bridges.asgi_socket import AsgiSocket, Closed, connect, until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.vaic import CHUNK, PATH, SOUND, accepted, activity, initiate, of, resume, settled

pytestmark = pytest.mark.unit


@pytest.fixture
async def vaic(bridge: ShamBridge) -> AsyncIterator[AsgiSocket]:
    async with connect(make_app(bridge), PATH) as socket:
        yield socket


# -- sound


async def test_sound_is_heard_between_start_and_stop_alone(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    await vaic.send(of("userStream.chunk", audioChunk=CHUNK))
    await vaic.send(of("userStream.start"))
    assert await vaic.receive() == {"type": "userStream.started"}
    await vaic.send(of("userStream.chunk", audioChunk=CHUNK))
    await vaic.send(of("userStream.stop"))
    assert await vaic.receive() == {"type": "userStream.stopped"}
    await vaic.send(of("userStream.chunk", audioChunk=CHUNK))
    await settled(vaic)
    assert call.heard == SOUND


async def test_a_stream_that_is_started_twice_goes_on(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    for _ in range(2):
        await vaic.send(of("userStream.start"))
        assert await vaic.receive() == {"type": "userStream.started"}
        await vaic.send(of("userStream.chunk", audioChunk=CHUNK))
    await settled(vaic)
    assert call.heard == 2 * SOUND


async def test_in_agent_assist_each_participant_is_answered_and_one_is_heard(
    vaic: AsgiSocket, bridge: ShamBridge
) -> None:
    call = await accepted(vaic, bridge)
    for whose in ("caller", "callee"):
        await vaic.send(of("userStream.start", participant=whose))
        assert await vaic.receive() == {"type": "userStream.started", "participant": whose}
        await vaic.send(of("userStream.chunk", participant=whose, audioChunk=base64.b64encode(whose.encode()).decode()))
    await settled(vaic)
    assert call.heard == b"caller"


async def test_headers_of_wav_are_taken_off_and_put_on_for_each_stream(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    media = FORMATS["wav/lpcm16_8"]
    call = await accepted(vaic, bridge, supportedMediaFormats=[media.name])
    assert call.line.media == FORMATS["raw/lpcm16_8"]
    for _ in range(2):
        await vaic.send(of("userStream.start"))
        await vaic.receive()
        await vaic.send(of("userStream.chunk", audioChunk=base64.b64encode(header(media) + b"abcd").decode()))
    await settled(vaic)
    assert call.heard == b"abcdabcd"
    for utterance in ("u1", "u2"):
        await call.line.play(Piece(utterance, b"wxyz", "m", 1))
        await call.line.play(Piece(utterance, b"next", "m", 1))
        await call.line.finish(utterance)
    sent = [await vaic.receive() for _ in range(8)]
    chunks = [base64.b64decode(one["audioChunk"]) for one in sent if one["type"] == "playStream.chunk"]
    assert chunks == [header(media) + b"wxyz", b"next"] * 2


async def test_each_utterance_is_a_play_stream_and_only_one_is_open(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    for utterance in ("u1", "u2"):
        await call.line.play(Piece(utterance, b"ab", "m", 1))
    await call.line.finish("u1")
    seen = [await vaic.receive() for _ in range(5)]
    await call.line.clear()
    await call.line.clear()
    await call.line.play(Piece("u2", b"ab", "m", 1))
    seen += [await vaic.receive() for _ in range(3)]
    first, second, third = (seen[n]["streamId"] for n in (0, 3, 6))
    assert len({first, second, third}) == 3
    assert [(one["type"].partition(".")[2], one["streamId"]) for one in seen] == [
        ("start", first), ("chunk", first), ("stop", first), ("start", second), ("chunk", second), ("stop", second),
        ("start", third), ("chunk", third),
    ]  # fmt: skip
    assert seen[0]["mediaFormat"] == "raw/lpcm16"


async def test_streams_of_two_sockets_have_no_name_in_common(bridge: ShamBridge) -> None:
    names = set[str]()
    for _ in range(2):
        async with connect(make_app(bridge), PATH) as vaic:
            call = await accepted(vaic, bridge)
            await call.line.play(Piece("u1", b"ab", "m", 1))
            while (message := await vaic.receive())["type"] != "playStream.start":
                pass
            names.add(message["streamId"])
    assert len(names) == 2


async def test_a_long_piece_is_sent_in_chunks_that_can_be_cut(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    sound = bytes(5) * 10_001
    await call.line.play(Piece("u1", sound, "m", 1))
    await call.line.finish("u1")
    got = bytearray()
    while (message := await vaic.receive())["type"] != "playStream.stop":
        got += base64.b64decode(message.get("audioChunk", ""))
        assert len(message.get("audioChunk", "")) < 32_000
    assert got == sound


async def test_what_is_learnt_of_the_callers_speech_is_told(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    for noticed in (Noticed("started"), Noticed("partial", "my"), Noticed("stopped"), Noticed("said", "my balance")):
        await call.line.notice(noticed)
    assert [await vaic.receive() for _ in range(5)] == [
        {"type": "userStream.speech.started"},
        {"type": "userStream.speech.hypothesis", "alternatives": [{"text": "my"}]},
        {"type": "userStream.speech.stopped"},
        {"type": "userStream.speech.recognition", "alternatives": [{"text": "my balance", "confidence": 1.0}]},
        {"type": "userStream.speech.committed"},
    ]


async def test_a_line_whose_socket_is_gone_says_so(bridge: ShamBridge) -> None:
    async with connect(make_app(bridge), PATH) as vaic:
        call = await accepted(vaic, bridge)
    with pytest.raises(LineGone):
        await call.line.play(Piece("u1", b"ab", "m", 1))


# -- activities


async def test_activities_become_what_they_mean_once_each(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    start = {"name": "start", "id": "a1", "parameters": {"callee": "support", "participants": ["caller"]}}
    for message in (
        activity(**start),
        activity(**start),
        activity(name="DTMF", id="a2", value="1#"),
        activity(name="dtmf", value=5),
        activity(name="dtmf", id="a3", value="x"),
        activity(name="noUserInput", id="a4", value=2),
        activity(name="hold", id="a5"),
        activity(name="UnHold", id="a6"),
        of("activities", activities=[{"type": "message", "text": "hello", "id": "a7"}, {"type": 9}, 3]),
        of("playStream.mark.reached", whatever=1),
    ):
        await vaic.send(message)
    await settled(vaic)
    assert call.told == [
        ("happened", "audiocodes", {"name": "start", "parameters": start["parameters"]}, "ac-a1"),
        ("press", "1#", "ac-a2"),
        ("press", "5", None),
        ("happened", "audiocodes", {"name": "noUserInput", "value": 2}, "ac-a4"),
        ("hold",),
        ("unhold",),
        ("say", "hello", "ac-a7", True),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (of("session.end", reasonCode="client-disconnected", reason="Client Side"), "client-disconnected"),
        (of("session.end"), "ended"),
        (of("session.end", reasonCode={"a": 1}), "ended"),
        (activity(name="hangup", id="a1"), "hangup"),
    ],
)
async def test_the_end_of_the_call_is_told_and_the_socket_closed(
    vaic: AsgiSocket, bridge: ShamBridge, message: dict[str, Any], reason: str
) -> None:
    call = await accepted(vaic, bridge)
    await vaic.send(message)
    assert await vaic.closed() == 1000
    assert call.told == [("hang_up", reason)]
    await until(lambda: call.left)


async def test_the_bot_hangs_up_transfers_and_presses_keys_by_activities(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    await call.line.play(Piece("u1", b"ab", "m", 1))
    seen = [await vaic.receive() for _ in range(2)]
    await call.line.send_digits("12#")
    seen.append(await vaic.receive())
    await call.line.transfer("+12025550199", "asked for a person")
    await call.line.end("done")
    call.finish("ended-by-bot")
    seen += [await vaic.receive() for _ in range(3)]
    assert [one["type"] for one in seen[:2]] == ["playStream.start", "playStream.chunk"]
    assert seen[2]["activities"] == [{"type": "event", "name": "sendDtmf", "value": "12#"}]
    assert seen[3]["type"] == "playStream.stop"
    params = {"transferTarget": "+12025550199", "handoverReason": "asked for a person"}
    assert seen[4]["activities"] == [{"type": "event", "name": "transfer", "activityParams": params}]
    hangup = {"type": "event", "name": "hangup", "activityParams": {"hangupReason": "done"}}
    assert seen[5]["activities"] == [hangup]
    await vaic.send(of("session.end", reasonCode="bot-disconnected"))
    assert await vaic.closed() == 1000
    assert call.told == [("hang_up", "bot-disconnected")]


async def test_a_carrier_that_does_not_answer_a_hang_up_is_closed(bridge: ShamBridge) -> None:
    async with connect(make_app(bridge, AudioCodesOptions(hang_up_seconds=0.01)), PATH) as vaic:
        call = await accepted(vaic, bridge)
        call.finish("session-ended")
        assert (await vaic.receive())["activities"][0]["name"] == "hangup"
        assert await vaic.closed() == 1000


async def test_a_lost_model_sends_the_call_to_another_replica(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    call.finish("model-lost")
    with pytest.raises(Closed) as closed:
        await vaic.receive()
    assert closed.value.code == 1013
    assert call.told == []


# -- texts in place of sound


async def test_a_call_without_audio_messages_is_one_of_text_also_after_a_resume(bridge: ShamBridge) -> None:
    app = make_app(bridge)
    for message in (initiate(expectAudioMessages=False), resume()):
        async with connect(app, PATH) as vaic:
            await vaic.send(message)
            assert (await vaic.receive())["type"] == "session.accepted"
            line = bridge.call.line
            assert line.media is None
            for token in (Token("u1", "Good ", False), Token("u1", "day", True), Token("u2", " ", True)):
                await line.show(token)
            while (sent := await vaic.receive())["type"] != "activities":
                pass
            assert sent["activities"] == [{"type": "message", "text": "Good day"}]


async def test_what_came_before_a_socket_broke_is_heard(vaic: AsgiSocket, bridge: ShamBridge) -> None:
    call = await accepted(vaic, bridge)
    await vaic.send(of("userStream.start"))
    assert await vaic.receive() == {"type": "userStream.started"}
    sending = [vaic.send(of("userStream.chunk", audioChunk=CHUNK)) for _ in range(20)]
    await asyncio.gather(*sending)
    vaic.drop()
    await vaic.end()
    assert call.heard == 20 * SOUND
