"""What Twilio asks over HTTP around a call: TwiML, the way back after a dropped socket, and the record of the call."""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest

from sessionmanager.bridges.twilio.app import BODY_BYTES_MAX, make_app
from sessionmanager.bridges.twilio.desk import CallFacts, Next
from sessionmanager.bridges.twilio.live import LiveCalls
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.bridges.twilio.relay import handoff_data
from sessionmanager.bridges.twilio.signature import sign
from sessionmanager.bridges.twilio.twiml import dial
from sessionmanager.bridges.twilio.webhooks import Addresses, Webhooks
from tests.bridges.asgi_socket import connect, until
from tests.bridges.sham_bridge import ShamBridge
from tests.bridges.sham_desk import ShamDesk
from tests.bridges.twilio_caller import CALL, MEDIA_PATH, begin

pytestmark = pytest.mark.unit

PUBLIC = "https://voice.example.com/calls"
TOKEN = "12345678901234567890123456789012"
RINGING = {
    "AccountSid": "AC1",
    "CallSid": CALL,
    "From": "+12025550123",
    "To": "+12025550199",
    "CallStatus": "ringing",
    "Direction": "inbound",
}
LIVE = {**RINGING, "CallStatus": "in-progress"}


class Twilio:
    """Sends forms to an application, signed or not."""

    def __init__(self, options: TwilioOptions | None = None, desk: ShamDesk | None = None) -> None:
        self.bridge = ShamBridge()
        self.desk = desk or ShamDesk()
        self.app = make_app(self.bridge, options or TwilioOptions(public_url=PUBLIC), desk=self.desk)

    async def post(self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Any:
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://inner.test") as http:
            return await http.post(path, data=dict(form), headers=dict(headers or {}))

    async def ask(self, path: str, form: Mapping[str, str]) -> ElementTree.Element:
        came = await self.post(path, form)
        assert came.status_code == 200, came.text
        assert came.headers["content-type"].startswith("application/xml")
        return ElementTree.fromstring(came.text)


def connection(answer: ElementTree.Element) -> tuple[str, dict[str, str], dict[str, str], dict[str, str]]:
    """The element that connects: its name, attributes, parameters, and the query of `action`."""
    found = answer.find("Connect")
    assert found is not None, ElementTree.tostring(answer)
    action = urlsplit(found.attrib["action"])
    assert f"{action.scheme}://{action.netloc}{action.path}" == f"{PUBLIC}/twilio/after"
    inner = found[0]
    parameters = {one.attrib["name"]: one.attrib["value"] for one in inner.findall("Parameter")}
    return inner.tag, dict(inner.attrib), parameters, dict(parse_qsl(action.query))


def after(**query: Any) -> str:
    return "/twilio/after?" + urlencode(query)


async def test_a_call_is_connected_to_a_stream_of_its_session() -> None:
    twilio = Twilio()
    tag, attributes, parameters, query = connection(await twilio.ask("/twilio/voice", RINGING))
    assert tag == "Stream"
    assert attributes == {
        "name": "session-of-01",
        "url": "wss://voice.example.com/calls/twilio/media",
        "statusCallback": f"{PUBLIC}/twilio/stream",
    }
    assert parameters == {
        "session_id": "session-of-01",
        "caller": "+12025550123",
        "callee": "+12025550199",
        "direction": "inbound",
    }
    assert (query["session"], query["tries"]) == ("session-of-01", "0")
    assert twilio.desk.reports[0].state == "ringing"


async def test_a_call_may_be_connected_to_a_relay_that_greets_once() -> None:
    options = TwilioOptions(
        public_url=PUBLIC,
        serves="relay",
        greeting='Hello & "welcome"',
        relay={"voice": "en-US-1", "interruptible": "any"},
    )
    twilio = Twilio(options)
    tag, attributes, parameters, query = connection(await twilio.ask("/twilio/voice", RINGING))
    assert tag == "ConversationRelay"
    assert attributes == {
        "url": "wss://voice.example.com/calls/twilio/relay",
        "voice": "en-US-1",
        "interruptible": "any",
        "welcomeGreeting": 'Hello & "welcome"',
    }
    assert parameters == {"session_id": "session-of-01", "greets": "yes"}
    again = await twilio.ask(after(**query), {**LIVE, "SessionStatus": "failed", "ErrorCode": "64105"})
    _, attributes, parameters, _ = connection(again)
    assert "welcomeGreeting" not in attributes
    assert parameters == {"session_id": "session-of-01"}


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_a_service_that_is_away_costs_no_call(caplog: pytest.LogCaptureFixture, how: str) -> None:
    caplog.set_level(logging.CRITICAL)
    twilio = Twilio(TwilioOptions(public_url=PUBLIC, desk_seconds=0.05))
    setattr(twilio.desk, how, True)
    _, _, parameters, query = connection(await twilio.ask("/twilio/voice", RINGING))
    assert parameters["session_id"] == CALL
    _, _, parameters, _ = connection(await twilio.ask(after(**query), LIVE))
    assert parameters["session_id"] == CALL
    assert (await twilio.post("/twilio/status", {**RINGING, "CallStatus": "completed"})).status_code == 204


async def test_a_dropped_socket_joins_the_same_session_again_a_bounded_number_of_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    twilio = Twilio(TwilioOptions(public_url=PUBLIC, reconnects_max=3))
    answer = await twilio.ask("/twilio/voice", RINGING)
    for n in range(3):
        _, _, parameters, query = connection(answer)
        assert parameters["session_id"] == "session-of-01"
        assert query["tries"] == str(n)
        answer = await twilio.ask(after(**query), LIVE)
    _, _, _, query = connection(answer)
    assert (await twilio.ask(after(**query), LIVE)).find("Hangup") is not None
    assert (twilio.desk.reports[-1].state, twilio.desk.reports[-1].end_reason) == ("ended", "failed")


async def test_drops_that_lie_far_apart_are_not_counted_together() -> None:
    now = [1_000_000.0]
    options = TwilioOptions(public_url=PUBLIC, reconnects_max=1, reconnects_within_seconds=60)
    twilio = Twilio()
    webhooks = Webhooks(twilio.desk, LiveCalls(), options, lambda: now[0])
    query: dict[str, str] = {"session": "s1", "tries": "0", "since": "0"}
    for _ in range(5):
        now[0] += 61
        text = await webhooks.after(LIVE, query, Addresses.at(f"{PUBLIC}/twilio"))
        _, _, _, query = connection(ElementTree.fromstring(text))
        assert query["tries"] == "1"


@pytest.mark.parametrize("odd", [{}, {"tries": "-1", "since": "x"}, {"tries": "9" * 40, "session": "../../etc"}])
async def test_an_odd_query_still_leads_back_to_the_call(odd: dict[str, str]) -> None:
    tag, _, parameters, query = connection(await Twilio().ask(after(**odd), LIVE))
    assert tag == "Stream"
    assert re.fullmatch(rf"{CALL}|twilio-[0-9a-f]+", parameters["session_id"])
    assert query["tries"] == "1"


@pytest.mark.parametrize(
    ("form", "tag"),
    [
        ({"HandoffData": handoff_data(Next(do="hang_up"))}, "Hangup"),
        ({"HandoffData": handoff_data(Next(do="dial", target="+12025550177"))}, "Dial"),
        ({"HandoffData": "somebody else's"}, "Hangup"),
        ({"HandoffData": '{"sessionmanager": {"do": "dial", "target": 7}}'}, "Hangup"),
        ({"SessionStatus": "ended"}, "Hangup"),
    ],
)
async def test_what_the_bot_handed_over_is_done(form: dict[str, str], tag: str) -> None:
    assert (await Twilio().ask(after(), {**LIVE, **form}))[0].tag == tag


async def test_what_the_bot_planned_is_done_on_any_replica() -> None:
    desk = ShamDesk()
    for next, tag in ((Next(do="hang_up"), "Hangup"), (Next(do="dial", target="sip:desk@example.com"), "Dial")):
        desk.plans[CALL] = next
        answer = await Twilio(desk=desk).ask(after(session="s1"), LIVE)
        assert answer[0].tag == tag
    assert ElementTree.tostring(answer) == b"<Response><Dial><Sip>sip:desk@example.com</Sip></Dial></Response>"


def test_a_target_cannot_write_twiml_of_its_own() -> None:
    assert "<Play>" not in dial("</Dial><Play>http://example.com</Play>")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("completed", "normal"),
        ("busy", "busy"),
        ("no-answer", "no_answer"),
        ("canceled", "canceled"),
        ("failed", "failed"),
        ("unheard-of", "failed"),
    ],
)
@pytest.mark.parametrize("path", ["/twilio/status", "/twilio/after"])
async def test_the_end_of_a_call_is_on_record_with_its_reason(status: str, reason: str, path: str) -> None:
    twilio = Twilio()
    came = await twilio.post(path, {**RINGING, "CallStatus": status})
    assert (came.status_code, came.text) in ((204, ""), (200, "<Response />"))
    assert (twilio.desk.reports[-1].state, twilio.desk.reports[-1].end_reason) == ("ended", reason)


@pytest.mark.parametrize(
    ("status", "state"),
    [("queued", "initializing"), ("initiated", "initializing"), ("ringing", "ringing"), ("in-progress", "active")],
)
async def test_states_on_the_way_are_on_record(status: str, state: str) -> None:
    twilio = Twilio()
    parent = {"ParentCallSid": "CAparent", "Direction": "outbound-dial"}
    await twilio.post("/twilio/status", {**RINGING, "CallStatus": status, **parent})
    assert twilio.desk.reports == [
        CallFacts(
            call_sid=CALL,
            state=state,  # pyright: ignore[reportArgumentType]
            direction="outbound",
            caller="+12025550123",
            callee="+12025550199",
            metadata={"twilio_parent_call_sid": "CAparent"},
        )
    ]


async def test_the_end_of_a_call_that_is_held_here_is_told_at_once() -> None:
    twilio = Twilio(TwilioOptions(public_url=PUBLIC, action_seconds=20))
    async with connect(twilio.app, MEDIA_PATH) as socket:
        await begin(socket)
        await until(lambda: bool(twilio.bridge.calls))
        await twilio.post("/twilio/status", {**RINGING, "CallStatus": "completed"})
        await until(lambda: twilio.bridge.call.left)
        assert twilio.bridge.call.told == [("hang_up", "normal")]


async def test_a_conference_that_puts_a_call_on_hold_is_told() -> None:
    twilio = Twilio()
    async with connect(twilio.app, MEDIA_PATH) as socket:
        await begin(socket)
        await until(lambda: bool(twilio.bridge.calls))
        for event in ("participant-hold", "participant-unhold", "participant-speech-start"):
            await twilio.post("/twilio/status", {"CallSid": CALL, "StatusCallbackEvent": event})
    assert twilio.bridge.call.told == [("hold",), ("unhold",)]
    assert [report.state for report in twilio.desk.reports] == ["on_hold", "active", "active"]


async def test_a_stream_that_failed_is_worth_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    twilio = Twilio()
    with caplog.at_level(logging.WARNING):
        for event in ("stream-started", "stream-stopped", "stream-error"):
            form = {"CallSid": CALL, "StreamEvent": event, "StreamError": "31924"}
            assert (await twilio.post("/twilio/stream", form)).status_code == 204
    assert [record.getMessage() for record in caplog.records] == ["a stream of Twilio failed: 31924"]
    caplog.clear()


# -- who may ask

PATHS = ["/twilio/voice", "/twilio/after?session=s1&tries=0", "/twilio/status", "/twilio/stream"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_webhook_must_be_signed(path: str) -> None:
    twilio = Twilio(TwilioOptions(public_url=PUBLIC, auth_tokens=("the-old-token-of-the-account", TOKEN)))
    form = list(LIVE.items())
    good = {"X-Twilio-Signature": sign(PUBLIC + path, form, TOKEN)}
    assert (await twilio.post(path, LIVE, good)).status_code < 300
    assert (await twilio.post(path, LIVE)).status_code == 403
    assert (await twilio.post(path, {**LIVE, "From": "+1"}, good)).status_code == 403
    assert (await twilio.post(path + "&x=1" if "?" in path else path + "?x=1", LIVE, good)).status_code == 403
    assert len(twilio.desk.reports) <= 1


async def test_what_is_no_form_of_a_call_is_refused() -> None:
    twilio = Twilio()
    for form in ({}, {"CallSid": ""}, {"CallSid": "x" * 500}, {"CallSid": "a\nb"}):
        assert (await twilio.post("/twilio/voice", form)).status_code in (400, 415)
    transport = httpx2.ASGITransport(twilio.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://inner.test") as http:
        plain = {"content-type": "application/x-www-form-urlencoded"}
        for body, headers, status in (
            (b'{"CallSid": "CA1"}', {"content-type": "application/json"}, 415),
            (b"CallSid=\xff\xfe", plain, 400),
            (b"&".join(b"a%d=1" % n for n in range(500)), plain, 400),
            (b"CallSid=" + b"x" * (BODY_BYTES_MAX + 1), plain, 413),
        ):
            came = await http.post("/twilio/voice", content=body, headers=headers)
            assert came.status_code == status, body[:30]
        assert (await http.get("/twilio/voice")).status_code == 405


def test_secrets_are_in_no_repr_and_wrong_options_are_named() -> None:
    options = TwilioOptions(auth_tokens=(TOKEN,), shared_keys={"SK1": "a-secret-of-the-key"})
    assert TOKEN not in repr(options)
    assert "a-secret" not in repr(options)
    wrongs: list[dict[str, Any]] = [
        {"public_url": "voice.example.com"},
        {"public_url": "https://voice.example.com?a=b"},
        {"auth_tokens": ("",)},
        {"serves": "both"},
        {"relay": {"url": "wss://elsewhere"}},
        {"relay": {'x="': "1"}},
        {"drain_seconds": 0},
        {"reconnects_max": -1},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TwilioOptions(**wrong)
