"""Media Streams and ConversationRelay against a base that notes everything: in order, out of order, and broken."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from sessionmanager.bridges.carrier import Noticed, NotSupported, Piece, Token
from sessionmanager.bridges.media.formats import RAW_MULAW
from sessionmanager.bridges.twilio.app import make_app
from sessionmanager.bridges.twilio.desk import Next
from sessionmanager.bridges.twilio.marks import MARKS_MAX, Marks
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.client.problems import Unreachable
from sessionmanager.errors import NotResumable, TierUnavailable
from tests.bridges.asgi_socket import AsgiSocket, Closed, connect, until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.sham_desk import ShamDesk
from tests.bridges.twilio_caller import (
    CALL,
    MEDIA_PATH,
    PATIENT,
    QUICK,
    RELAY,
    RELAY_PATH,
    SOUND,
    STREAM,
    begin,
    dtmf,
    mark,
    media,
    set_up,
    start,
    stop,
    taken,
)

pytestmark = pytest.mark.unit

# -- Media Streams


async def test_a_stream_is_a_call_of_the_session_that_our_twiml_named(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge, session_id="call-4711", caller="+12025550123", callee="+1", bot="support")
    arrival = call.arrival
    assert (arrival.conversation, arrival.gateway_call_id, arrival.connection) == ("call-4711", CALL, STREAM)
    assert (arrival.gateway, arrival.opening, arrival.media_format) == ("twilio", "either", "raw/mulaw")
    assert (arrival.caller, arrival.callee, arrival.bot) == ("+12025550123", "+1", "support")
    assert call.line.media == RAW_MULAW
    assert call.line.marks


@pytest.mark.parametrize("given", [{}, {"session_id": ""}])
async def test_without_a_name_the_session_is_called_as_the_call(
    twilio: AsgiSocket, bridge: ShamBridge, given: dict[str, str]
) -> None:
    assert (await taken(twilio, bridge, **given)).arrival.conversation == CALL


async def test_nothing_is_ever_answered_to_a_start(bridge: ShamBridge) -> None:
    bridge.sessions[CALL] = "raw/mulaw"
    async with connect(make_app(bridge, QUICK), MEDIA_PATH) as twilio:
        call = await taken(twilio, bridge)
        assert call.resumed
        await call.line.clear()
        assert await twilio.receive() == {"event": "clear", "streamSid": STREAM}


async def test_what_is_heard_is_the_inbound_track_of_this_stream(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge)
    for message in (media(SOUND), media(SOUND, track="outbound"), media(SOUND, stream="MZother"), media(SOUND)):
        await twilio.send(message)
    await twilio.send(dtmf("5", n=7))
    await twilio.send(dtmf("#", n=8))
    await until(lambda: len(call.told) == 2)
    assert call.heard == SOUND * 2
    assert call.told == [("press", "5", f"tw-{STREAM}-7"), ("press", "#", f"tw-{STREAM}-8")]


async def test_only_the_three_shapes_that_twilio_takes_are_sent(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge)
    await call.line.play(Piece("u1", bytes(9_000), "m1", 1125))
    await call.line.finish("u1")
    await call.line.notice(Noticed("said", "hello"))
    await call.line.show(Token("u1", "hello", True))
    await call.line.clear()
    sent = [await twilio.receive() for _ in range(5)]
    assert [set(one) for one in sent] == [{"event", "streamSid", "media"}] * 3 + [
        {"event", "streamSid", "mark"},
        {"event", "streamSid"},
    ]
    assert {one["streamSid"] for one in sent} == {STREAM}
    assert b"".join(base64.b64decode(one["media"]["payload"]) for one in sent[:3]) == bytes(9_000)
    assert sent[3]["mark"] == {"name": "m1"}


async def test_marks_that_a_clear_flushes_back_were_not_heard(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge)
    for name in ("m1", "m2", "m3"):
        await call.line.play(Piece("u1", SOUND, name, 20))
    await twilio.send(mark("m1"))
    await until(lambda: call.told == [("played", "m1")])
    await call.line.clear()
    await call.line.play(Piece("u2", SOUND, "m4", 20))
    for name in ("m2", "m3", "m4", "never-sent", "m1"):
        await twilio.send(mark(name))
    await twilio.send(dtmf("1"))
    await until(lambda: ("press", "1", f"tw-{STREAM}-3") in call.told)
    assert call.told[:2] == [("played", "m1"), ("played", "m4")]


def test_marks_of_a_carrier_that_returns_none_are_bounded() -> None:
    marks = Marks()
    for n in range(MARKS_MAX + 10):
        marks.sent(str(n))
    assert marks.waiting == MARKS_MAX
    assert not marks.came("0")
    assert marks.came(str(MARKS_MAX))


async def test_a_stream_of_another_encoding_is_refused(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    odd = start()
    odd["start"]["mediaFormat"] = {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}
    await twilio.send(odd)
    assert await twilio.closed() == 1008
    assert bridge.tries == 0


async def test_a_media_stream_cannot_press_keys_and_says_so(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge)
    with pytest.raises(NotSupported):
        await call.line.send_digits("1")


# -- how a stream ends


async def test_a_socket_that_breaks_is_no_hang_up(twilio: AsgiSocket, bridge: ShamBridge) -> None:
    call = await taken(twilio, bridge)
    twilio.drop(1006)
    await twilio.end()
    assert call.left
    assert call.told == []


async def test_a_stream_that_stops_and_is_not_taken_up_again_is_the_end_of_the_call(
    twilio: AsgiSocket, bridge: ShamBridge
) -> None:
    call = await taken(twilio, bridge)
    await twilio.send(stop())
    assert await twilio.closed() == 1000
    await until(lambda: call.left)
    assert call.told == [("hang_up", "stopped")]


async def test_a_stream_that_stops_and_is_taken_up_again_ends_nothing(bridge: ShamBridge) -> None:
    app = make_app(bridge, PATIENT)
    async with connect(app, MEDIA_PATH) as old, connect(app, MEDIA_PATH) as new:
        first = await taken(old, bridge)
        await old.send(stop())
        assert await old.closed() == 1000
        second = await taken(new, bridge, stream="MZnew")
        await until(lambda: first.left)
        assert first.told == []
        assert second.resumed
        assert second.left is False


async def test_of_two_streams_of_a_call_the_newer_wins_and_the_older_ones_stop_ends_nothing(
    bridge: ShamBridge, desk: ShamDesk
) -> None:
    app = make_app(bridge, QUICK, desk=desk)
    async with connect(app, MEDIA_PATH) as old, connect(app, MEDIA_PATH) as new:
        first = await taken(old, bridge)
        second = await taken(new, bridge, stream="MZnew")
        assert await old.closed() == 1001
        await old.send(stop())
        await until(lambda: first.left)
        await new.send(media(SOUND, stream="MZnew"))
        await until(lambda: bool(second.heard))
        assert first.told == second.told == []
        assert desk.plans == {}


async def test_the_bot_hangs_up_once_what_it_said_was_heard(bridge: ShamBridge, desk: ShamDesk) -> None:
    async with connect(make_app(bridge, PATIENT, desk=desk), MEDIA_PATH) as twilio:
        call = await taken(twilio, bridge)
        await call.line.play(Piece("u1", SOUND, "m1", 20))
        await call.line.end("done")
        call.finish("ended-by-bot")
        await until(lambda: desk.plans == {CALL: Next(do="hang_up")})
        assert (await twilio.receive())["event"] == "media"
        assert (await twilio.receive())["event"] == "mark"
        await asyncio.sleep(0)
        assert not twilio.task.done()
        await twilio.send(mark("m1"))
        with pytest.raises(Closed) as closed:
            await twilio.receive()
        assert closed.value.code == 1000
        assert call.told == [("played", "m1")]


async def test_a_hang_up_whose_marks_never_come_back_is_bounded(
    twilio: AsgiSocket, bridge: ShamBridge, desk: ShamDesk
) -> None:
    call = await taken(twilio, bridge)
    await call.line.play(Piece("u1", SOUND, "m1", 20))
    await call.line.transfer("+12025550177", "asked for a person")
    assert await twilio.closed() == 1000
    assert desk.plans == {CALL: Next(do="dial", target="+12025550177")}
    assert call.told == []


async def test_a_desk_that_is_away_keeps_nobody_on_the_line(
    twilio: AsgiSocket, bridge: ShamBridge, desk: ShamDesk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    desk.away = True
    call = await taken(twilio, bridge)
    call.finish("session-ended")
    assert await twilio.closed() == 1000


async def test_a_lost_model_and_an_outage_ask_twilio_to_come_again(
    bridge: ShamBridge, desk: ShamDesk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    app = make_app(bridge, TwilioOptions(patience_seconds=0.2), desk=desk)
    async with connect(app, MEDIA_PATH) as twilio:
        (await taken(twilio, bridge)).finish("model-lost")
        assert await twilio.closed() == 1013
    bridge.errors = [TierUnavailable("warm"), *[Unreachable()] * 10_000]
    async with connect(app, MEDIA_PATH) as twilio:
        await begin(twilio)
        assert await twilio.closed() == 1013
    assert desk.plans == {}


async def test_a_refused_call_is_hung_up_and_not_sent_round(
    twilio: AsgiSocket, bridge: ShamBridge, desk: ShamDesk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bridge.errors = [NotResumable("ended")]
    await begin(twilio)
    assert await twilio.closed() == 1000
    assert desk.plans == {CALL: Next(do="hang_up")}


# -- ConversationRelay


async def test_a_relay_is_a_call_of_text(relay: AsgiSocket, bridge: ShamBridge) -> None:
    call = await set_up(relay, bridge, customParameters={"session_id": "call-4711", "greets": "yes"})
    arrival = call.arrival
    assert (arrival.conversation, arrival.gateway_call_id, arrival.connection) == ("call-4711", CALL, RELAY)
    assert (arrival.caller, arrival.callee, arrival.direction) == ("+12025550123", "+12025550199", "inbound")
    assert arrival.greets
    assert call.line.media is None


async def test_prompts_keys_and_interruptions_are_told(relay: AsgiSocket, bridge: ShamBridge) -> None:
    call = await set_up(relay, bridge, direction="outbound-api", parentCallSid="CAparent")
    assert call.arrival.direction == "outbound"
    assert call.arrival.metadata == {"twilio_parent_call_sid": "CAparent"}
    for message in (
        {"type": "prompt", "voicePrompt": "my bal", "lang": "en-US", "last": False},
        {"type": "prompt", "voicePrompt": "my balance", "lang": "en-US", "last": True},
        {"type": "prompt", "voicePrompt": "  ", "last": True},
        {"type": "interrupt", "utteranceUntilInterrupt": "You have", "durationUntilInterruptMs": "460"},
        {"type": "interrupt", "utteranceUntilInterrupt": "", "durationUntilInterruptMs": 0},
        {"type": "dtmf", "digit": "7"},
        {"type": "info", "name": "agentSpeaking", "value": "on"},
        {"type": "setup"},
        {"type": "prompt", "voicePrompt": "please", "last": True},
    ):
        await relay.send(message)
    await until(lambda: len(call.told) == 6)
    assert call.told == [
        ("say", "my bal", None, False),
        ("say", "my balance", f"tw-{RELAY}-p1", True),
        ("interrupted", "You have"),
        ("interrupted", ""),
        ("press", "7", f"tw-{RELAY}-k1"),
        ("say", "please", f"tw-{RELAY}-p3", True),
    ]


async def test_texts_and_keys_go_out_and_the_end_hands_over(bridge: ShamBridge, desk: ShamDesk) -> None:
    async with connect(make_app(bridge, PATIENT, desk=desk), RELAY_PATH) as relay:
        call = await set_up(relay, bridge)
        await call.line.show(Token("u1", "Good ", False))
        await call.line.show(Token("u1", "day", True))
        await call.line.send_digits("12")
        await call.line.clear()
        await call.line.transfer("sip:desk@example.com", "asked")
        await call.line.end("done")
        call.finish("ended-by-bot")
        sent = [await relay.receive() for _ in range(4)]
        assert sent[:3] == [
            {"type": "text", "token": "Good ", "last": False},
            {"type": "text", "token": "day", "last": True},
            {"type": "sendDigits", "digits": "12"},
        ]
        assert sent[3]["type"] == "end"
        assert "sip:desk@example.com" in sent[3]["handoffData"]
        relay.drop(1000)
        await relay.end()
        assert call.told == []


async def test_a_relay_that_closes_well_is_over_unless_somebody_takes_the_call_up(
    relay: AsgiSocket, bridge: ShamBridge
) -> None:
    call = await set_up(relay, bridge)
    relay.drop(1000)
    await relay.end()
    assert call.told == [("hang_up", "stopped")]


async def test_a_relay_that_breaks_may_come_back(relay: AsgiSocket, bridge: ShamBridge) -> None:
    call = await set_up(relay, bridge)
    relay.drop(1006)
    await relay.end()
    assert call.told == []
