"""The simulated Twilio refuses what the real one refuses, and signs as the real one signs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessionmanager.simulate.calling.caller import GaveUp, Refused
from sessionmanager.simulate.twilio.phone import TwilioOptions, dial
from sessionmanager.simulate.twilio.rules import from_relay, from_stream, signature, sound_of
from tests.bridges.serving import serving

pytestmark = pytest.mark.unit

SID = "MZ1"
MEDIA = {"event": "media", "streamSid": SID, "media": {"payload": "/////w=="}}
MARK = {"event": "mark", "streamSid": SID, "mark": {"name": "m1"}}
CLEAR = {"event": "clear", "streamSid": SID}
TOKEN = "12345678901234567890123456789012"


def test_it_signs_as_twilios_own_package() -> None:
    assert signature("wss://voice.example.com/twilio/media", {}, TOKEN) == "fhjjjkV1F9lPmcYCG6YdDwerOY0="
    form = {
        "CallSid": "CA00000000000000000000000000000001",
        "From": "+12025550123",
        "To": "+12025550199",
        "CallStatus": "ringing",
    }
    assert signature("https://voice.example.com/twilio/voice?x=1", form, TOKEN) == "ZNsHSSAKAyAdADMLPn8tcjETPfk="


@pytest.mark.parametrize("message", [MEDIA, MARK, CLEAR])
def test_the_three_shapes_of_a_stream_pass(message: dict[str, Any]) -> None:
    assert from_stream(json.dumps(message), SID) == message


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00", "", "[]", "{}", '{"event": "connected"}', '{"event": "session.accepted"}',
        *(json.dumps(one) for one in (
            {**MEDIA, "streamSid": "MZ2"}, {**MEDIA, "sequenceNumber": "1"}, {"event": "media", "media": {}},
            {**MEDIA, "media": {"payload": "AA==", "track": "outbound"}}, {**MEDIA, "media": {"payload": 7}},
            {**MARK, "mark": "m1"}, {**CLEAR, "clear": {}},
        )),
    ],
)  # fmt: skip
def test_any_other_frame_to_a_stream_is_refused(frame: str | bytes) -> None:
    with pytest.raises(Refused, match="3195"):
        from_stream(frame, SID)


@pytest.mark.parametrize("payload", ["", "@@", "UklGRg=="])
def test_a_payload_that_is_no_raw_sound_is_refused(payload: str) -> None:
    with pytest.raises(Refused, match="payload"):
        sound_of({**MEDIA, "media": {"payload": payload}})


@pytest.mark.parametrize(
    "message",
    [
        {"type": "text", "token": "a", "last": True}, {"type": "play", "source": "https://x", "loop": 1},
        {"type": "sendDigits", "digits": "1"}, {"type": "language", "ttsLanguage": "de-DE"}, {"type": "end"},
        {"type": "end", "handoffData": "x"},
    ],
)  # fmt: skip
def test_the_shapes_of_a_relay_pass_until_its_end(message: dict[str, Any]) -> None:
    assert from_relay(json.dumps(message), ended=False) == message
    with pytest.raises(Refused, match="after end"):
        from_relay(json.dumps(message), ended=True)


@pytest.mark.parametrize(
    "frame", [b"\x00", "{", '{"type": "media"}', '{"type": "text"}', '{"type": "text", "token": 1}',
              '{"type": "text", "token": "a", "more": 1}', '{"type": "end", "handoffData": {}}'],
)  # fmt: skip
def test_any_other_frame_to_a_relay_is_refused(frame: str | bytes) -> None:
    with pytest.raises(Refused):
        from_relay(frame, ended=False)


def answering(text: str, *, status: int = 200, media: str = "application/xml") -> Starlette:
    """A bridge whose every webhook answers this."""

    async def voice(_: Request) -> Response:
        return Response(text, status, media_type=media)

    return Starlette(routes=[Route("/{path:path}", voice, methods=["POST"])])


@pytest.mark.parametrize(
    ("app", "error", "said"),
    [
        (answering("<Response>"), Refused, "12100"),
        (answering("<Answer />"), Refused, "12100"),
        (answering("<Response />", media="text/plain"), Refused, "text/plain"),
        (answering("", status=403), Refused, "403"),
        (answering("", status=503), GaveUp, "does not answer"),
        (answering("<Response />"), GaveUp, "no more TwiML"),
        (answering("<Response><Hangup /></Response>"), GaveUp, "hangup"),
        (answering("<Response><Dial><Sip>sip:a@b</Sip></Dial></Response>"), GaveUp, "dial: sip:a@b"),
        (answering('<Response><Connect><Stream url="wss://x/?a=b" /></Connect></Response>'), Refused, "31920"),
        (answering("<Response><Connect><Room /></Connect></Response>"), Refused, "Room"),
    ],
)
async def test_twiml_that_connects_nothing_is_told(app: Starlette, error: type[Exception], said: str) -> None:
    async with serving(app) as served:
        with pytest.raises(error, match=said):
            async with dial(f"{served.url}/twilio/voice", TwilioOptions(give_up_seconds=0.3, again_seconds=0.02)):
                pass
