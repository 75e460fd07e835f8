"""Services over HTTP: registering, joining, losing; API keys in the place of tokens; robot-session's own shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.server import OTHER, Caller, Served, pointers, problem, served
from tests.support.sham_service import Sham, sham_service

pytestmark = pytest.mark.contract

QUICK: Final = {"service_retry_seconds": "0.2", "service_health_seconds": "0.2", "service_types": "tts:optional:join=5"}


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(**QUICK) as running:
        yield running


@pytest.fixture
def sham() -> Iterator[Sham]:
    with sham_service() as running:
        yield running


def register(caller: Caller, sham: Sham, service_id: str, **more: Any) -> dict[str, Any]:
    made = caller.post("/services", {"id": service_id, "endpoint": sham.endpoint, **more})
    assert made.status_code == 201, made.text
    return made.json()


def is_at(caller: Caller, session: str, status: str) -> bool:
    return caller.read(session)["status"] == status


@pytest.fixture
def robot(service: Served) -> Caller:
    """A service's own token."""
    return service.caller("service", subject="robot")


# -- the registry


def test_a_service_registers_itself_and_is_listed(service: Served, robot: Caller, sham: Sham) -> None:
    made = robot.post(
        "/services",
        {
            "id": "reg-1",
            "type": "reg",
            "endpoint": sham.endpoint + "/",
            "capabilities": ["de"],
            "metadata": {"v": 1.10},
        },
    )
    assert (made.status_code, made.headers["location"]) == (201, "/services/reg-1")
    assert made.json()["endpoint"] == sham.endpoint
    assert b'"v":1.1' in made.content
    assert robot.post("/services", {"id": "reg-1", "endpoint": sham.endpoint}).status_code == 200
    (listed,) = robot.get("/services", params={"type": "reg-1"}).json()["items"]
    assert listed.keys() == made.json().keys()
    assert robot.delete("/services/reg-1").status_code == 204
    problem(robot.delete("/services/reg-1"), 404, "not-found")
    problem(robot.post("/services/reg-1/heartbeat"), 404, "not-found")


def test_a_service_speaks_for_itself_alone(service: Served, robot: Caller, sham: Sham) -> None:
    register(robot, sham, "own-1")
    other = service.caller("service", subject="mallory")
    problem(other.post("/services", {"id": "own-1", "endpoint": sham.endpoint}), 409, "already-exists")
    problem(other.post("/services/own-1/heartbeat", {"load": 1}), 404, "not-found")
    problem(other.delete("/services/own-1"), 404, "not-found")
    beat = robot.post("/services/own-1/heartbeat", {"load": 0.5})
    assert (beat.status_code, beat.json()["status"], beat.json()["load"]) == (200, "ready", 0.5)
    assert service.caller("operator").delete("/services/own-1").status_code == 204


def test_another_tenants_services_are_as_if_they_never_were(service: Served, robot: Caller, sham: Sham) -> None:
    register(robot, sham, "ten-1")
    theirs = service.caller(tenant=OTHER)
    assert "ten-1" not in theirs.get("/services").text
    problem(theirs.delete("/services/ten-1"), 404, "not-found")
    register(theirs, sham, "ten-1")
    assert theirs.delete("/services/ten-1").status_code == 204
    assert robot.post("/services/ten-1/heartbeat").status_code == 200
    robot.delete("/services/ten-1")


def test_the_list_goes_on_by_cursor_and_filters(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="listed")
    for i in range(7):
        register(caller, sham, f"l-{i}", type="even" if i % 2 == 0 else "odd")
    assert [one["id"] for one in caller.pages("/services", limit=3)] == [f"l-{i}" for i in range(7)]
    assert [one["id"] for one in caller.pages("/services", limit=2, type="odd")] == ["l-1", "l-3", "l-5"]
    cursor = caller.get("/services", params={"limit": 1}).json()["next_cursor"]
    problem(caller.get("/services", params={"cursor": cursor, "type": "odd"}), 400, "malformed")


def test_a_repeat_under_the_same_key_begins_no_new_life(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="repeats")
    body = {"id": "asr-1", "endpoint": sham.endpoint}
    first = caller.post("/services", body, key="k")
    caller.post("/services/asr-1/heartbeat")
    again = caller.post("/services", body, key="k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["registered_at"] == first.json()["registered_at"]
    problem(caller.post("/services", {**body, "type": "x"}, key="k"), 422, "key-reused")
    assert [caller.delete("/services/asr-1", key="d").status_code for _ in range(2)] == [204, 204]


@pytest.mark.parametrize(
    "endpoint",
    ["http://169.254.169.254/latest", "https://8.8.8.8", "http://[::ffff:10.0.0.1]:80", "http://0x0a000001",
     "http://user:secret@127.0.0.1:9", "ftp://127.0.0.1", "http://127.0.0.1/../x", "http://no.such.name.invalid",
     "http://127.0.0.1:9?token=1"],
)  # fmt: skip
def test_an_endpoint_where_nothing_may_be_sent_is_refused_at_once(service: Served, endpoint: str) -> None:
    for path, name in (("/services", "id"), ("/api/v1/microservices/register", "service_id")):
        answer = service.admin.post(path, {name: "evil", "endpoint": endpoint})
        assert pointers(problem(answer, 422, "invalid")) == {"/endpoint"}
        assert "secret" not in answer.text
    assert "evil" not in service.admin.get("/services").text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/id"),
        ({"id": "x"}, "/endpoint"),
        ({"id": "../x", "endpoint": "http://127.0.0.1"}, "/id"),
        ({"id": "x", "endpoint": "http://127.0.0.1", "capabilities": [""]}, "/capabilities/0"),
        ({"id": "x", "endpoint": "http://127.0.0.1", "metadata": {"a": "x" * 5_000}}, "/metadata"),
        ({"id": "x", "endpoint": "http://127.0.0.1", "token": "x"}, "/token"),
    ],
)
def test_a_wrong_member_is_named(service: Served, body: Any, pointer: str) -> None:
    assert pointer in pointers(problem(service.admin.post("/services", body), 422, "invalid"))


# -- sessions


def test_a_session_waits_is_ready_and_becomes_active(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="way")
    register(caller, sham, "asr-1", type="asr")
    made = caller.create("call", required_services=["asr"])
    assert (made["status"], made["required_services"]) == ("waiting_for_services", ["asr"])
    service.until(lambda: is_at(caller, "call", "ready"), "ready")
    seen = caller.read("call")
    assert (seen["registered_services"], seen["ready_services"]) == (["asr-1"], ["asr-1"])
    joined = caller.post("/sessions/call/participants", {"kind": "client", "identity": "anna"})
    assert joined.status_code == 201
    service.until(lambda: is_at(caller, "call", "active"), "active")


def test_the_token_that_a_service_is_given_is_good_for_its_session_alone(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="bound")
    register(caller, sham, "asr-1", type="asr")
    sham.join = (202, {})
    caller.create("call", required_services=["asr"])
    caller.create("other")
    service.until(lambda: len(sham.joins) == 1, "told")
    told = sham.joins[0]
    bound = service.nobody(told["token"])
    assert bound.read("call")["id"] == "call"
    problem(bound.get("/sessions/other"), 404, "not-found")
    problem(bound.get("/services"), 403, "forbidden")
    here = f"/sessions/call/participants/{told['participant_id']}"
    assert bound.post(f"{here}/heartbeat").json()["status"] == "attached"
    service.until(lambda: is_at(caller, "call", "ready"), "ready")
    renewed = bound.post(f"{here}/token", {})
    assert renewed.status_code == 201
    assert service.nobody(renewed.json()["token"]).say("call", "I listen")["status"] == "active"
    log = json.dumps(caller.history("call")) + caller.get("/sessions/call").text + caller.get("/services").text
    for token in (told["token"], renewed.json()["token"]):
        assert token not in log
        assert token.split(".")[2] not in log
    assert caller.delete(here).status_code == 200
    problem(bound.get("/sessions/call"), 401, "unauthenticated")


def test_one_that_lies_about_its_identity_is_given_no_seat(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="liars")
    sham.join = (200, {"success": True, "service_id": "somebody-else"})
    register(caller, sham, "asr-1", type="asr")
    caller.create("call", required_services=["asr"])
    service.until(lambda: caller.read("call")["error_count"] > 0, "refused")
    assert caller.read("call")["ready_services"] == []
    problem(service.nobody(sham.joins[0]["token"]).get("/sessions/call"), 401, "unauthenticated")
    sham.health = (200, {"service_id": "somebody-else"})
    service.until(lambda: caller.get("/services").json()["items"][0]["reason"] == "identity", "seen through")


def test_a_failed_one_is_tried_again_until_it_joins(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="again")
    sham.join = (500, {})
    register(caller, sham, "asr-1", type="asr")
    caller.create("call", required_services=["asr"])
    service.until(lambda: len(sham.joins) >= 2, "tried twice")
    sham.join = (200, {})
    service.until(lambda: is_at(caller, "call", "ready"), "ready")
    names = [one.headers["Idempotency-Key"] for one in sham.asked if one.path == "/join-room"]
    assert len(set(names)) == len(names)


def test_a_dead_one_is_replaced_by_another_instance(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="dead")
    with sham_service() as other:
        both = {"asr-1": sham, "asr-2": other}
        for name, one in both.items():
            register(caller, one, name, type="asr")
        caller.create("call", required_services=["asr"])
        service.until(lambda: is_at(caller, "call", "ready"), "ready")
        (first,) = caller.read("call")["ready_services"]
        seen = {"status": "ready"}
        service.until(lambda: len(caller.get("/services", params=seen).json()["items"]) == 2, "seen")
        both[first].health = (500, {})
        service.until(lambda: caller.read("call")["ready_services"] not in ([], [first]), "replaced")
    types = [entry["data"]["event"] for entry in caller.history("call") if entry["type"] == "service"]
    assert types[:3] == ["required", "asked", "ready"]
    assert types[3:] == ["disconnected", "asked", "ready"]


def test_a_session_goes_on_without_an_optional_one(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="optional")
    register(caller, sham, "asr-1", type="asr")
    caller.create("call", required_services=["asr", "tts"])
    service.until(lambda: is_at(caller, "call", "ready"), "ready")
    seats = {seat["type"]: seat for seat in caller.read("call")["services"]}
    assert (seats["tts"]["optional"], seats["tts"]["join_seconds"], seats["tts"]["reason"]) == (True, 5, "no-instance")
    assert caller.read("call")["error_count"] == 0


def test_whoever_waits_is_answered_when_all_have_joined(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="waits")
    register(caller, sham, "asr-1", type="asr")
    made = caller.post("/sessions", {"id": "call", "required_services": ["asr"]}, params={"wait_seconds": 10})
    assert (made.status_code, made.json()["status"]) == (201, "ready")
    assert caller.post("/sessions", {"id": "plain"}, params={"wait_seconds": 10}).json()["status"] == "initiated"


def test_whoever_waits_in_vain_is_told_what_is_missing_and_finds_the_session_later(service: Served) -> None:
    caller = service.caller(tenant="vain")
    body = {"id": "call", "required_services": ["asr"]}
    answer = caller.post("/sessions", body, params={"wait_seconds": 0.1}, key="k")
    document = problem(answer, 504, "join-timeout")
    assert (document["id"], document["services"]) == ("call", ["asr"])
    assert caller.read("call")["status"] == "waiting_for_services"
    problem(caller.post("/sessions", body, params={"wait_seconds": 0.1}, key="k"), 504, "join-timeout")
    for seconds in (-1, 121, "x"):
        problem(caller.post("/sessions", body, params={"wait_seconds": seconds}), 400, "malformed")


def test_kinds_that_are_asked_for_are_bounded_and_named(service: Served) -> None:
    wrong = {"required_services": [f"s{i}" for i in range(33)]}
    assert "/required_services" in pointers(problem(service.admin.post("/sessions", wrong), 422, "invalid"))
    document = problem(service.admin.post("/sessions", {"required_services": ["ok", ""]}), 422, "invalid")
    assert pointers(document) == {"/required_services/1"}


def test_the_feed_of_the_tenant_has_the_events_of_the_log(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="events")
    register(caller, sham, "asr-1", type="asr")
    caller.create("call", required_services=["asr"])
    service.until(lambda: is_at(caller, "call", "ready"), "ready")
    ready = [entry for entry in caller.history("call") if entry["type"] == "service"][-1]
    assert (ready["data"]["event"], ready["data"]["seat"]["service"]) == ("ready", "asr-1")
    last = caller.history("call")[-1]
    assert (last["type"], last["status"], last["actor"]) == ("status", "ready", "system:services")


# -- robot-session


def test_robot_sessions_calls_answer_in_their_own_shapes(service: Served, sham: Sham) -> None:
    caller = service.caller("agent", "service", tenant="robots")
    body = {"service_id": "asr", "endpoint": sham.endpoint, "metadata": {"capabilities": "de, en", "version": "1"}}
    made = caller.post("/api/v1/microservices/register", body)
    assert made.status_code == 200
    assert made.json() == {
        "service_id": "asr",
        "endpoint": sham.endpoint,
        "status": "Registered",
        "registered_at": made.json()["registered_at"],
        "metadata": body["metadata"],
        "success": True,
    }
    (listed,) = caller.get("/services").json()["items"]
    assert (listed["type"], listed["capabilities"]) == ("asr", ["de", "en"])
    asked = {"required_services": ["asr"], "user_identity": "anna", "metadata": {"room": "7"}}
    session = caller.post("/api/v1/create-session", asked).json()
    assert session["status"] == "WaitingForServices"
    assert (session["room_name"], session["livekit_url"]) == (session["session_id"], None)
    assert (session["required_services"], session["metadata"]) == (["asr"], {"room": "7"})
    client = service.nobody(session["access_token"])
    name = session["session_id"]
    service.until(lambda: is_at(client, name, "ready"), "ready")
    (anna,) = [one for one in client.read(name)["participants"] if one["kind"] == "client"]
    assert (anna["identity"], anna["status"]) == ("anna", "joining")
    assert client.post(f"/sessions/{name}/participants/{anna['id']}/heartbeat").json()["status"] == "attached"
    service.until(lambda: is_at(client, name, "active"), "active")
    assert session["access_token"] not in json.dumps(caller.history(name))


def test_robot_session_needs_no_body_and_no_services(service: Served) -> None:
    made = service.caller("agent", tenant="bare").post("/api/v1/create-session")
    assert (made.status_code, made.json()["status"], made.json()["required_services"]) == (200, "Creating", [])
    assert made.headers["cache-control"] == "no-store"


def test_a_repeat_of_create_session_is_the_same_session_with_a_new_token(service: Served) -> None:
    caller = service.caller("agent", tenant="twice")
    first, again = (caller.post("/api/v1/create-session", {}, key="k") for _ in range(2))
    assert first.json()["session_id"] == again.json()["session_id"]
    assert first.json()["access_token"] != again.json()["access_token"]
    assert again.headers["idempotency-replayed"] == "true"


def test_create_session_waits_where_it_is_asked_to(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="patient")
    register(caller, sham, "asr")
    path = "/api/v1/create-session"
    made = caller.post(path, {"required_services": ["asr"]}, params={"wait_seconds": 10})
    assert (made.json()["status"], made.json()["ready_microservices"]) == ("Ready", ["asr"])
    late = caller.post(path, {"required_services": ["tts2"]}, params={"wait_seconds": 0.1})
    assert problem(late, 504, "join-timeout")["services"] == ["tts2"]


# -- API keys


def key_of(caller: Caller, *roles: str, **more: Any) -> dict[str, Any]:
    made = caller.post("/api-keys", {"name": "bot", "roles": list(roles), **more})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    return made.json()


def test_a_key_stands_in_for_a_token_until_it_is_revoked(service: Served) -> None:
    key = key_of(service.admin, "agent", subject="robot")
    bearer = {"X-Api-Key": key["key"]}
    nobody = service.nobody()
    made = nobody.post("/sessions", {"id": "by-key"}, headers=bearer)
    assert made.status_code == 201
    assert service.admin.history("by-key")[0]["actor"] == "robot"
    listed = service.admin.get("/api-keys")
    assert key["key"] not in listed.text
    assert {one["id"] for one in listed.json()["items"]} >= {key["id"]}
    assert service.admin.delete(f"/api-keys/{key['id']}").status_code == 204
    problem(nobody.get("/sessions", headers=bearer), 401, "unauthenticated")
    problem(service.admin.delete(f"/api-keys/{key['id']}"), 404, "not-found")


def test_a_key_and_a_token_at_once_are_refused_and_so_are_two_keys(service: Served) -> None:
    key = key_of(service.admin, "viewer")["key"]
    problem(service.admin.get("/sessions", headers={"X-Api-Key": key}), 401, "unauthenticated")
    pairs = [(b"x-api-key", key.encode()), (b"x-api-key", key.encode())]
    problem(service.raw("GET", b"/sessions", headers=pairs), 400, "malformed")
    for bad in ("", "x", key[:-1], "smk_" + "0" * 96, "\xff"):
        answer = service.raw("GET", b"/sessions", headers=[(b"x-api-key", bad.encode("latin-1"))])
        problem(answer, 401, "unauthenticated")


def test_nobody_makes_a_key_above_themselves_or_sees_anothers(service: Served) -> None:
    operator = service.caller("operator")
    problem(operator.post("/api-keys", {"name": "x", "roles": ["admin"]}), 403, "forbidden")
    problem(service.admin.post("/api-keys", {"name": "x", "roles": ["participant"]}), 422, "invalid")
    key = key_of(operator, "service")
    theirs = service.caller(tenant=OTHER)
    assert key["id"] not in theirs.get("/api-keys").text
    problem(theirs.delete(f"/api-keys/{key['id']}"), 404, "not-found")
    by_key = service.nobody()
    problem(by_key.post("/api-keys", {"name": "y", "roles": ["service"]}, headers={"X-Api-Key": key["key"]}), 403)


def test_a_repeat_makes_another_key_since_none_is_kept(service: Served) -> None:
    body = {"name": "twice", "roles": ["viewer"]}
    first, again = (service.admin.post("/api-keys", body, key="key-twice") for _ in range(2))
    assert first.json()["key"] != again.json()["key"]
    assert again.headers["idempotency-replayed"] == "true"


def test_keys_and_services_leave_their_lines_in_the_audit(service: Served, sham: Sham) -> None:
    caller = service.caller(tenant="audited")
    key = key_of(caller, "service")
    caller.delete(f"/api-keys/{key['id']}")
    register(caller, sham, "a-1")
    caller.delete("/services/a-1")
    actions = [line["action"] for line in caller.get("/audit").json()["items"]]
    assert actions == ["service.remove", "service.register", "api_key.revoke", "api_key.make"]
    assert key["key"] not in caller.get("/audit").text
