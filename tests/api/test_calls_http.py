"""Calls over HTTP: opened and found, reported on, ended; which session a tenant's policy chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.gateways import ANNA, DESK, ended, events, opened, told
from tests.support.server import Caller, Served, problem

pytestmark = pytest.mark.contract


# -- opening


def test_a_call_nobody_knows_makes_its_session_in_one_commit(admin: Caller) -> None:
    made = opened(
        admin, gateway_call_id="a1", caller=ANNA, callee=DESK, metadata={"trunk": 3}, session={"labels": ["vip"]}
    )
    assert (made["session_made"], made["version"]) == (True, 1)
    call = made["call"]
    wanted = {"gateway": "sip", "gateway_call_id": "a1", "direction": "inbound", "state": "initializing"}
    assert call.items() >= {**wanted, "caller": ANNA, "callee": DESK, "metadata": {"trunk": 3}}.items()
    session = admin.read(made["session_id"])
    assert (session["status"], session["caller"], session["labels"], session["version"]) == ("active", ANNA, ["vip"], 1)
    assert [one["id"] for one in session["calls"]] == [call["id"]]
    assert events(admin, made["session_id"]) == ["opened"]


def test_the_same_call_again_is_found_and_changes_nothing(admin: Caller) -> None:
    made = opened(admin, gateway_call_id="a2", caller=ANNA)
    found = opened(admin, 200, gateway_call_id="a2", caller="+4930123456", state="ringing")
    assert (found["session_id"], found["session_made"], found["call"]) == (made["session_id"], False, made["call"])
    other = opened(admin, gateway="twilio", gateway_call_id="a2")
    assert other["call"]["id"] != made["call"]["id"]
    in_session = admin.post(f"/sessions/{made['session_id']}/calls", {"gateway": "sip", "gateway_call_id": "a2"})
    assert (in_session.status_code, in_session.json()["call"]) == (200, made["call"])


def test_of_many_who_report_a_call_at_once_one_makes_it(service: Served, admin: Caller) -> None:
    async def all_at_once() -> list[Any]:
        body = {"gateway": "webrtc", "gateway_call_id": "rush", "caller": ANNA}
        return await asyncio.gather(*(admin.send("POST", "/calls", json=body) for _ in range(20)))

    answers = service.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({(answer.json()["session_id"], answer.json()["call"]["id"]) for answer in answers}) == 1
    session = admin.read(answers[0].json()["session_id"])
    assert len(session["calls"]) == 1
    assert events(admin, session["id"]) == ["opened"]


def test_a_call_can_be_opened_in_a_session_that_is_named(admin: Caller) -> None:
    made = opened(admin, gateway="audiocodes", gateway_call_id="conv-9", session_id="conv-9")
    assert (made["session_id"], made["session_made"]) == ("conv-9", True)
    second = opened(admin, gateway="twilio", gateway_call_id="CA9", session_id="conv-9")
    assert (second["session_id"], second["session_made"]) == ("conv-9", False)
    third = admin.post("/sessions/conv-9/calls", {"gateway": "livekit", "gateway_call_id": "SCL_9"})
    assert third.status_code == 201
    assert third.headers["location"] == f"/calls/{third.json()['call']['id']}"
    assert [one["gateway"] for one in admin.get("/sessions/conv-9/calls").json()["items"]] == [
        "audiocodes",
        "twilio",
        "livekit",
    ]
    admin.post("/sessions/conv-9/end")
    problem(
        admin.post("/calls", {"gateway": "sip", "gateway_call_id": "n", "session_id": "conv-9"}), 409, "not-resumable"
    )
    problem(admin.post("/sessions/conv-9/calls", {"gateway": "sip", "gateway_call_id": "m"}), 409, "illegal-transition")
    assert opened(admin, gateway_call_id="m")["session_made"], "what the ended session refused is not lost to others"


def test_a_call_of_another_session_is_not_opened_twice(admin: Caller) -> None:
    made = opened(admin, gateway_call_id="a3")
    admin.create("elsewhere")
    refused = admin.post("/sessions/elsewhere/calls", {"gateway": "sip", "gateway_call_id": "a3"})
    problem(refused, 409, "already-exists")
    assert admin.read("elsewhere")["calls"] == []
    problem(admin.post("/sessions/nowhere/calls", {"gateway": "sip", "gateway_call_id": "a4"}), 404, "not-found")
    assert admin.get(f"/calls/{made['call']['id']}").json()["session_id"] == made["session_id"]


def test_a_gateway_without_ids_is_known_by_its_idempotency_key(admin: Caller) -> None:
    body = {"gateway": "webrtc", "caller": ANNA}
    first = admin.post("/calls", body, key="peer-1")
    again = admin.post("/calls", body, key="peer-1")
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (201, 201, "true")
    assert first.json()["call"] == again.json()["call"]
    assert admin.post("/calls", body).json()["call"]["id"] != first.json()["call"]["id"]
    problem(admin.post("/calls", {**body, "caller": DESK}, key="peer-1"), 422, "key-reused")


def test_a_repeat_under_a_key_tells_what_the_first_request_did(admin: Caller) -> None:
    body = {"gateway": "sip", "gateway_call_id": "k1"}
    first, found = admin.post("/calls", body, key="k-1"), admin.post("/calls", body, key="k-2")
    session, cid = first.json()["session_id"], first.json()["call"]["id"]
    again_in = admin.post(f"/sessions/{session}/calls", body, key="k-3")
    admin.post(f"/sessions/{session}/calls/{cid}/end")
    for key, before, path in (
        ("k-1", first, "/calls"),
        ("k-2", found, "/calls"),
        ("k-3", again_in, f"/sessions/{session}/calls"),
    ):
        repeat = admin.post(path, body, key=key)
        assert (repeat.status_code, repeat.headers["etag"]) == (before.status_code, before.headers["etag"])
        assert repeat.json()["session_made"] == before.json()["session_made"]
        assert (repeat.headers["idempotency-replayed"], repeat.json()["call"]["state"]) == ("true", "ended")
    assert (first.status_code, found.status_code, again_in.status_code) == (201, 200, 200)
    problem(admin.post("/calls", {**body, "gateway_call_id": "k2"}, key="k-1"), 422, "key-reused")


def test_a_session_holds_so_many_live_calls_and_no_more(admin: Caller) -> None:
    admin.create("crowd")
    for number in range(16):
        assert (
            admin.post("/sessions/crowd/calls", {"gateway": "sip", "gateway_call_id": f"c{number}"}).status_code == 201
        )
    problem(admin.post("/sessions/crowd/calls", {"gateway": "sip", "gateway_call_id": "c16"}), 409, "full")


def test_opening_a_call_wakes_a_session_that_sleeps(admin: Caller) -> None:
    admin.create("sleeper")
    admin.say("sleeper", "hello")
    admin.post("/sessions/sleeper/suspend")
    admin.post("/sessions/sleeper/calls", {"gateway": "sip", "gateway_call_id": "wake"})
    assert admin.read("sleeper")["status"] == "active"


# -- reports


def test_a_call_goes_its_way_and_says_how_long_each_part_took(admin: Caller) -> None:
    call = opened(admin, gateway_call_id="b1", caller=ANNA, started_at="2026-11-21T10:00:00Z")
    for state, at in (
        ("ringing", "2026-11-21T10:00:01.000Z"),
        ("active", "2026-11-21T10:00:06.250Z"),
        ("on_hold", "2026-11-21T10:01:00.000Z"),
        ("active", "2026-11-21T10:01:30.000Z"),
    ):
        assert told(admin, call, state=state, at=at)["state"] == state
    done = ended(admin, call, at="2026-11-21T10:03:06.750Z", ended_by="caller", sip_code=200, metadata={"rated": True})
    assert (done["setup_seconds"], done["ring_seconds"]) == (6.25, 5.25)
    assert (done["talk_seconds"], done["hold_seconds"]) == (180.5, 30.0)
    assert (done["end_reason"], done["ended_by"], done["sip_code"], done["estimated"]) == (
        "normal",
        "caller",
        200,
        False,
    )
    assert done["settled_at"] > done["ended_at"] == "2026-11-21T10:03:06.750Z"
    assert events(admin, call["session_id"]) == ["opened", "ringing", "answered", "held", "taken_back", "ended"]


def test_what_is_known_is_no_change_and_what_goes_back_is_refused(admin: Caller) -> None:
    call = opened(admin, gateway_call_id="b2", state="ringing")
    version = admin.read(call["session_id"])["version"]
    told(admin, call, state="ringing")
    assert admin.read(call["session_id"])["version"] == version
    told(admin, call, state="active")
    refused = problem(admin.patch(f"/calls/{call['call']['id']}", {"state": "ringing"}), 409, "illegal-transition")
    assert (refused["from"], refused["allowed"]) == ("active", ["on_hold", "ended"])
    first = ended(admin, call, reason="transferred", ended_by="callee")
    second = ended(admin, call, reason="normal", ended_by="caller", metadata={"price": "0.02"})
    assert second == {**first, "metadata": {"price": "0.02"}}
    problem(admin.patch(f"/calls/{call['call']['id']}", {"state": "active"}), 409, "illegal-transition")


def test_metadata_is_merged_and_bounded(admin: Caller) -> None:
    call = opened(admin, gateway_call_id="b3", metadata={"a": 1, "b": {"c": [1.50]}})
    assert told(admin, call, metadata={"a": None, "d": "x"})["metadata"] == {"b": {"c": [1.5]}, "d": "x"}
    problem(admin.patch(f"/calls/{call['call']['id']}", {"metadata": {"big": "x" * 4_100}}), 422, "invalid")
    for name in range(3):
        told(admin, call, metadata={f"k{name}": "x" * 1_200})
    over = problem(admin.patch(f"/calls/{call['call']['id']}", {"metadata": {"k4": "x" * 1_200}}), 422, "invalid")
    assert over["errors"][0]["pointer"] == "/metadata"


def test_an_end_needs_no_body_and_a_reason_no_state_but_ended(admin: Caller) -> None:
    call = opened(admin, gateway_call_id="b4")
    at = f"/calls/{call['call']['id']}"
    wrong = problem(admin.patch(at, {"state": "active", "sip_code": 200, "end_reason": "busy"}), 422, "invalid")
    assert {error["pointer"] for error in wrong["errors"]} == {"/sip_code", "/end_reason"}
    done = admin.post(f"/sessions/{call['session_id']}{at}/end")
    assert (done.json()["end_reason"], done.json()["talk_seconds"]) == ("canceled", 0.0)
    busy = opened(admin, gateway_call_id="b5")
    assert told(admin, busy, state="ended", sip_code=486)["end_reason"] == "busy"


def test_a_call_that_the_head_has_forgotten_can_be_read_and_not_changed(admin: Caller) -> None:
    calls = [opened(admin, gateway_call_id=f"old-{n}", session_id="much-called") for n in range(2)]
    for call in calls:
        ended(admin, call)
    for n in range(2, 18):
        ended(admin, opened(admin, gateway_call_id=f"old-{n}", session_id="much-called"))
    assert len(admin.read("much-called")["calls"]) == 16
    oldest = f"/calls/{calls[0]['call']['id']}"
    assert admin.get(oldest).json()["state"] == "ended"
    assert ended(admin, calls[0])["id"] == calls[0]["call"]["id"]
    problem(admin.patch(oldest, {"metadata": {"late": 1}}), 409, "illegal-transition")
    assert opened(admin, 200, gateway_call_id="old-0")["session_id"] == "much-called"
    again = {"gateway": "sip", "gateway_call_id": "old-0"}
    for path in ("/calls", "/sessions/much-called/calls"):
        assert admin.post(path, again, key=f"again {path}".replace(" ", "-")).status_code == 200
    assert len(list(admin.pages("/calls", session="much-called", limit=7))) == 18


def test_a_call_that_never_was_is_not_found(admin: Caller) -> None:
    problem(admin.get("/calls/call_none"), 404, "not-found")
    problem(admin.patch("/calls/call_none", {"state": "active"}), 404, "not-found")
    admin.create("b6")
    problem(admin.patch("/sessions/b6/calls/call_none", {"state": "active"}), 404, "not-found")
    problem(admin.post("/sessions/b6/calls/call_none/end"), 404, "not-found")


# -- who may


def test_gateways_report_operators_hang_up_and_viewers_look(service: Served, admin: Caller) -> None:
    bridge, operator, viewer = (service.caller(role) for role in ("bridge", "operator", "viewer"))
    call = opened(bridge, gateway_call_id="r1")
    at = f"/calls/{call['call']['id']}"
    problem(operator.post("/calls", {"gateway": "sip"}), 403, "forbidden")
    problem(service.caller("agent").post("/calls", {"gateway": "sip"}), 403, "forbidden")
    problem(viewer.patch(at, {"state": "active"}), 403, "forbidden")
    assert viewer.get(at).status_code == viewer.get("/calls").status_code == 200
    problem(service.caller(tenant="umbrella").get(at), 404, "not-found")
    assert operator.post(f"/sessions/{call['session_id']}{at}/end").status_code == 200


# -- the tenant's policy


def policy(service: Served, tenant: str, value: Any) -> Caller:
    caller = service.caller(tenant=tenant)
    assert caller.put(f"/tenants/{tenant}/settings", {"resume_policy": value}).status_code == 200
    return caller


def test_a_new_call_is_a_new_conversation_unless_the_tenant_says_otherwise(service: Served) -> None:
    caller = policy(service, "t-new", None)
    first, second = (opened(caller, gateway_call_id=f"n{n}", caller=ANNA) for n in range(2))
    assert first["session_id"] != second["session_id"]


def test_always_goes_on_with_the_callers_last_open_session(service: Served) -> None:
    caller = policy(service, "t-always", "always")
    first = opened(caller, gateway_call_id="n1", caller=ANNA)
    caller.say(first["session_id"], "hello")
    ended(caller, first)
    caller.post(f"/sessions/{first['session_id']}/suspend")
    second = opened(caller, gateway="twilio", gateway_call_id="n2", caller="sip:+1-202-555-0123@gw.example.com")
    assert (second["session_id"], second["session_made"]) == (first["session_id"], False)
    session = caller.read(first["session_id"])
    assert (session["status"], session["resumed_count"]) == ("active", 1)
    assert opened(caller, gateway_call_id="n3", caller=DESK)["session_made"]
    caller.post(f"/sessions/{first['session_id']}/end")
    assert opened(caller, gateway_call_id="n4", caller=ANNA)["session_made"]


def test_who_hides_is_nobody_elses_past(service: Served) -> None:
    caller = policy(service, "t-hidden", "always")
    for number, name in enumerate(("anonymous", "Anonymous", "unknown", "sip:anonymous@anonymous.invalid", None)):
        for again in range(2):
            assert opened(caller, gateway_call_id=f"h{number}-{again}", caller=name)["session_made"]


def test_outbound_calls_go_on_with_whom_they_call(service: Served) -> None:
    caller = policy(service, "t-out", "always")
    first = opened(caller, gateway_call_id="o1", direction="outbound", caller=DESK, callee=ANNA)
    assert opened(caller, gateway_call_id="o2", direction="outbound", caller=DESK, callee="+493012345")["session_made"]
    again = opened(caller, gateway_call_id="o3", direction="outbound", caller=DESK, callee=ANNA)
    assert again["session_id"] == first["session_id"]


def test_within_a_time_a_call_goes_on_and_after_it_not(service: Served) -> None:
    caller = policy(service, "t-within", {"resume_within": 3600})
    first = opened(caller, gateway_call_id="w1", caller=ANNA)
    assert opened(caller, gateway_call_id="w2", caller=ANNA)["session_id"] == first["session_id"]
    policy(service, "t-within", {"resume_within": 1e-9})
    assert opened(caller, gateway_call_id="w3", caller=ANNA)["session_made"]
