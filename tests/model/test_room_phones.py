"""Callers by SIP in a room, as calls of its session."""

from __future__ import annotations

from typing import Any, Final

import pytest
from msgspec import Raw

from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.model.head import Call, Detail, Head, Profile, Pulse
from sessionmanager.model.rooms.looking import Person, Seen
from sessionmanager.model.rooms.phones import Due, due
from sessionmanager.words import Instant, Key

pytestmark = pytest.mark.unit

NOW: Final[Instant] = "2026-11-21T12:00:00.000Z"
SOON: Final[Instant] = "2026-11-21T12:00:05.000Z"
ATTRIBUTES: Final = {
    "sip.callID": "SCL_1",
    "sip.callStatus": "active",
    "sip.ruleID": "SDR_1",
    "sip.phoneNumber": "+12025550123",
    "sip.trunkPhoneNumber": "+12025550100",
}


def head(*calls: Call) -> Head:
    pulse = Pulse(version=1, status="active", updated_at=NOW, last_activity=NOW)
    profile = Profile(id="call-1", created_at=NOW)
    return Head(key=Key("acme", "call-1"), rev=1, pulse=pulse, profile=profile, detail=Detail(calls=calls))


def call(state: Any = "active", **more: Any) -> Call:
    seat = {"livekit_participant": Raw(b'"PA_1"')}
    given = {"id": "id of SCL_1", "gateway": "livekit", "direction": "inbound", "started_at": NOW, "news_at": NOW}
    return Call(**{**given, "state": state, "metadata": seat, **more})


def caller(kind: str = "sip", **attributes: str) -> Person:
    return Person("sip_+12025550123", "PA_1", kind=kind, attributes={**ATTRIBUTES, **attributes})


def found(head: Head, *people: Person, at: Instant = SOON) -> list[Due]:
    return list(due(head, Seen(at, "RM_1", people=people), lambda name: f"id of {name}", at))


def test_a_caller_is_a_call_with_both_numbers_and_the_state_that_livekit_tells() -> None:
    (made,) = found(head(), caller())
    assert made == Due(
        "id of SCL_1",
        wanted=NewCall(
            id="id of SCL_1",
            gateway="livekit",
            gateway_call_id="SCL_1",
            direction="inbound",
            state="active",
            caller="+12025550123",
            callee="+12025550100",
            metadata={"livekit_participant": Raw(b'"PA_1"')},
        ),
    )


def test_somebody_who_was_dialed_is_the_callee() -> None:
    attributes = {name: value for name, value in ATTRIBUTES.items() if name != "sip.ruleID"}
    (made,) = found(head(), caller()._replace(attributes={**attributes, "sip.callStatus": "dialing"}))
    assert made.wanted is not None
    assert (made.wanted.direction, made.wanted.state) == ("outbound", "initializing")
    assert (made.wanted.caller, made.wanted.callee) == ("+12025550100", "+12025550123")


@pytest.mark.parametrize(
    ("before", "status", "after"),
    [
        ("initializing", "ringing", "ringing"),
        ("ringing", "active", "active"),
        ("ringing", "automation", "active"),
        ("active", "hangup", "ended"),
        ("active", "active", None),
        ("active", "ringing", None),
        ("ended", "active", None),
        ("on_hold", "active", None),
    ],
)
def test_what_livekit_tells_is_reported_and_nothing_goes_back(before: Any, status: str, after: Any) -> None:
    reported = found(head(call(before)), caller(**{"sip.callStatus": status}))
    assert reported == ([Due("id of SCL_1", report=Report(state=after))] if after else [])


def test_a_caller_who_is_gone_has_hung_up() -> None:
    assert found(head(call())) == [Due("id of SCL_1", report=Report(state="ended"))]
    assert found(head(call("ended"))) == []
    assert found(head(call()), at=NOW) == [], "opened since the look began"


def test_calls_that_others_opened_are_theirs() -> None:
    assert found(head(call(metadata={}), call(gateway="sip", id="b"))) == []


def test_a_call_that_goes_on_is_heard_of_now_and_then_and_others_in_the_room_are_no_calls() -> None:
    later = "2026-11-21T12:01:00.000Z"
    assert found(head(call()), caller(), at=later) == [Due("id of SCL_1", report=Report())]
    assert found(head(), caller("standard"), caller("agent")) == []
