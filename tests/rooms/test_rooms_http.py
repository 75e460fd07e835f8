"""Rooms over HTTP: who may ask for what, and what is answered where LiveKit is away or is not set up at all."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest
from livekit import api

from sessionmanager.core.rooms.names import KIND
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.model.rooms.config import room_name
from sessionmanager.words import Key
from tests.support.server import OTHER, TENANT, Caller, Served, pointers, problem, served

pytestmark = pytest.mark.contract

API_KEY: Final = "devkey"
SECRET: Final = "a-secret-of-these-tests-of-32-bytes"
AWAY: Final = {
    "livekit_server_url": "ws://127.0.0.1:9",
    "livekit_public_url": "wss://rooms.example.org",
    "livekit_api_key": API_KEY,
    "livekit_api_secret": SECRET,
    "room_sync_seconds": "3600",
}
"""Nobody listens there."""
BODY_MAX: Final = 64 * 1024


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(**AWAY) as running:
        yield running


@pytest.fixture(scope="module")
def bare() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def agent(service: Served) -> Caller:
    return service.caller("agent")


def event(name: str, room: str | None, event_id: str = "EV_1") -> bytes:
    return json.dumps({"event": name, "id": event_id, **({} if room is None else {"room": {"name": room}})}).encode()


def tell(service: Served, body: bytes, *, secret: str = SECRET, of: bytes | None = None, seconds: int = 300) -> Any:
    """A webhook, signed as LiveKit signs. of: the body whose hash is signed."""
    hashed = base64.b64encode(hashlib.sha256(body if of is None else of).digest()).decode()
    token = api.AccessToken(API_KEY, secret).with_ttl(timedelta(seconds=seconds)).with_sha256(hashed).to_jwt()
    headers = {"Authorization": token, "Content-Type": "application/webhook+json"}
    return service.nobody().request("POST", "/livekit/webhook", content=body, headers=headers)


def metric(service: Served, name: str, **labels: str) -> float:
    """A counter's value, 0 where it was never counted."""
    said = ",".join(f'{label}="{value}"' for label, value in labels.items())
    for line in service.admin.get("/metrics").text.splitlines():
        if line.startswith(f"{name}{{{said}}} "):
            return float(line.rpartition(" ")[2])
    return 0.0


# -- without LiveKit


def test_without_livekit_there_are_no_rooms_and_all_else_goes_on(bare: Served) -> None:
    caller = bare.caller("agent")
    assert pointers(problem(caller.post("/sessions", {"id": "r", "room": True}), 422, "invalid")) == {"/room"}
    problem(caller.get("/sessions/r"), 404)
    assert caller.create("s")["room"] is None
    for answer in (
        caller.get("/sessions/s/room"),
        caller.post("/sessions/s/room"),
        caller.post("/sessions/s/room/sync"),
    ):
        problem(answer, 404, "not-found")
    joined = caller.post("/sessions/s/participants", {"kind": "client", "identity": "anna", "role": "manager"})
    assert joined.json()["livekit"] is None
    made = caller.post("/api/v1/create-session", {}).json()
    assert (made["livekit_url"], made["room_name"]) == (None, made["session_id"])
    assert made["access_token"] == made["session_token"] is not None
    problem(tell(bare, event("room_started", "x")), 404)


# -- a room that cannot be opened yet


def test_a_session_gets_its_room_although_livekit_is_away(service: Served, agent: Caller) -> None:
    name = room_name(Key(TENANT, "away"))
    assert agent.create("away", room=True, type="voice-vad")["room"]["name"] == name
    shown = agent.get("/sessions/away/room")
    assert shown.status_code == 200
    body = shown.json()
    assert (body["session_id"], body["room"]["sid"], body["room"]["sync_enabled"]) == ("away", None, True)
    assert body["config"]["turnDetection"] == "server"
    assert shown.headers["etag"] == f'"v{body["version"]}"'
    service.until(lambda: agent.read("away")["room"]["interrupted_at"] is not None, "an interruption")
    events = [line["data"]["event"] for line in agent.history("away", type="room")]
    assert events == ["room_state_change", "connection_interruption"]
    assert agent.say("away", "hello")["status"] == "active"


def test_opening_answers_202_while_livekit_is_away_and_is_one_wish_however_often_it_is_said(
    service: Served, agent: Caller
) -> None:
    agent.create("later")
    problem(agent.get("/sessions/later/room"), 404)
    first = agent.post("/sessions/later/room")
    again = agent.post("/sessions/later/room", {})
    assert (first.status_code, again.status_code) == (202, 202)
    asked = [line for line in agent.history("later", type="room") if line["data"].get("reason") == "asked"]
    assert len(asked) == 1
    off = agent.post("/sessions/later/room", {"sync_enabled": False}).json()
    assert off["room"]["sync_enabled"] is False
    agent.post("/sessions/later/end")
    problem(agent.post("/sessions/later/room"), 409, "illegal-transition")


def test_looking_now_tells_what_was_found_and_takes_a_word_of_the_callers_own(service: Served, agent: Caller) -> None:
    agent.create("look", room=True)
    found = agent.post("/sessions/look/room/sync", {"trigger": "a button"}).json()
    assert (found["is_valid"], found["inconsistencies"], found["needs_resync"]) == (False, ["connection"], True)
    assert (found["trigger"], found["sync_state"], found["room"]["sid"]) == ("a button", "syncing", None)
    assert pointers(problem(agent.post("/sessions/look/room/sync", {"trigger": "timer"}), 422)) == {"/trigger"}
    problem(agent.post("/sessions/look/room/sync", {"nothing": 1}), 422)
    agent.create("roomless")
    problem(agent.post("/sessions/roomless/room/sync"), 404)


def test_another_tenants_room_is_as_if_there_were_none(service: Served, agent: Caller) -> None:
    agent.create("mine", room=True)
    stranger = service.caller("agent", tenant=OTHER)
    for answer in (
        stranger.get("/sessions/mine/room"),
        stranger.post("/sessions/mine/room"),
        stranger.post("/sessions/mine/room/sync"),
    ):
        problem(answer, 404, "not-found")
    stranger.create("mine", room=True)
    assert stranger.read("mine")["room"]["name"] != agent.read("mine")["room"]["name"]
    found = agent.get("/lookup", params={"room": agent.read("mine")["room"]["name"]})
    assert found.status_code == 403
    bridge = service.caller("bridge")
    assert bridge.get("/lookup", params={"room": agent.read("mine")["room"]["name"]}).json()["id"] == "mine"


# -- credentials


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_joining_resuming_and_renewing_each_give_a_fresh_token_and_nothing_keeps_it(
    service: Served, agent: Caller
) -> None:
    agent.create("tokens", room=True)
    person = {"kind": "client", "identity": "anna"}
    joined = agent.post("/sessions/tokens/participants", person).json()
    pid = joined["participant"]["id"]
    renewed = agent.post(f"/sessions/tokens/participants/{pid}/token").json()
    resumed = agent.post("/sessions/tokens/resume", {"participant": person}).json()
    mine = service.nobody(joined["token"]).post(f"/sessions/tokens/participants/{pid}/token").json()
    for answer in (joined, renewed, resumed, mine):
        access = answer["livekit"]
        assert (access["url"], access["room"]) == ("wss://rooms.example.org", room_name(Key(TENANT, "tokens")))
        assert access["identity"] == "anna"
        said = claims(access["token"])
        assert (said["sub"], said["video"]["room"]) == ("anna", access["room"])
        assert said["attributes"]["participant_id"] == pid
        assert access["expires_at"].endswith("Z")
    everything = json.dumps([agent.history("tokens"), agent.read("tokens", entries=500)])
    assert "eyJ" not in everything, "a token was kept"


def test_a_repeat_of_a_join_gets_a_token_of_its_own(service: Served, agent: Caller) -> None:
    agent.create("again", room=True)
    body = {"kind": "client", "identity": "anna"}
    first, again = (agent.post("/sessions/again/participants", body, key="k") for _ in range(2))
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["livekit"]["room"] == again.json()["livekit"]["room"]


def test_who_rests_or_has_left_or_has_no_room_is_let_into_none(service: Served, agent: Caller) -> None:
    agent.create("roomless-2")
    joined = agent.post("/sessions/roomless-2/participants", {"kind": "client", "identity": "anna"})
    assert joined.json()["livekit"] is None
    agent.create("rests", room=True)
    agent.post("/sessions/rests/suspend")
    asleep = agent.post("/sessions/rests/participants", {"kind": "client", "identity": "anna"})
    assert asleep.json()["livekit"] is None


def test_only_an_operator_lets_somebody_manage_a_room(service: Served, agent: Caller) -> None:
    agent.create("managed", room=True)
    body = {"kind": "human", "identity": "boss", "role": "manager"}
    problem(agent.post("/sessions/managed/participants", body), 403, "forbidden")
    problem(agent.post("/sessions/managed/resume", {"participant": body}), 403, "forbidden")
    joined = service.caller("operator").post("/sessions/managed/participants", body)
    assert claims(joined.json()["livekit"]["token"])["video"]["roomAdmin"] is True
    mine = service.nobody(joined.json()["token"])
    pid = joined.json()["participant"]["id"]
    renewed = mine.post(f"/sessions/managed/participants/{pid}/token").json()
    assert claims(renewed["livekit"]["token"])["video"]["roomAdmin"] is True


def test_a_participant_may_look_at_its_own_room_and_open_none(service: Served, agent: Caller) -> None:
    agent.create("bound", room=True)
    joined = agent.post("/sessions/bound/participants", {"kind": "client", "identity": "anna"}).json()
    mine = service.nobody(joined["token"])
    assert mine.get("/sessions/bound/room").status_code == 200
    assert mine.post("/sessions/bound/room/sync").status_code == 200
    problem(mine.post("/sessions/bound/room"), 403, "forbidden")
    problem(service.caller("viewer").post("/sessions/bound/room/sync"), 403)


def test_robot_session_gets_the_token_of_the_room_and_its_address(service: Served) -> None:
    caller = service.caller("agent")
    made = caller.post("/api/v1/create-session", {"user_identity": "anna"}, key="robot").json()
    assert made["livekit_url"] == "wss://rooms.example.org"
    assert made["room_name"] == room_name(Key(TENANT, made["session_id"]))
    said = claims(made["access_token"])
    assert (said["sub"], said["video"]["room"]) == ("anna", made["room_name"])
    own = service.nobody(made["session_token"])
    assert own.get(f"/sessions/{made['session_id']}").json()["participants"][0]["status"] == "joining"


# -- webhooks


def test_a_webhook_of_a_session_s_room_is_heeded_once(service: Served, agent: Caller) -> None:
    agent.create("told", room=True)
    name = room_name(Key(TENANT, "told"))
    service.until(lambda: agent.read("told")["room"]["interrupted_at"] is not None, "a first look")
    body = event("participant_joined", name, "EV_told")
    before = metric(service, "sessionmanager_room_webhooks_total", outcome="repeated")
    assert tell(service, body).json() == {"outcome": "heeded"}
    assert tell(service, body).json() == {"outcome": "repeated"}
    assert metric(service, "sessionmanager_room_webhooks_total", outcome="repeated") == before + 1
    assert [one["status"] for one in agent.read("told")["participants"]] == [], "what it says is a hint, no more"


def test_a_room_that_is_no_session_s_makes_none_and_is_counted(service: Served, agent: Caller) -> None:
    before = metric(service, "sessionmanager_room_webhooks_total", outcome="unknown-room")
    assert tell(service, event("room_started", "somebody-elses", "EV_2")).json() == {"outcome": "unknown-room"}
    # A name that looks like a session's own is believed as little.
    forged = room_name(Key(TENANT, "never-was"))
    assert tell(service, event("room_started", forged, "EV_3")).json() == {"outcome": "unknown-room"}
    assert metric(service, "sessionmanager_room_webhooks_total", outcome="unknown-room") == before + 2
    problem(agent.get("/sessions/never-was"), 404)
    assert tell(service, event("egress_started", forged, "EV_4")).json() == {"outcome": "ignored"}
    assert tell(service, event("something_new", None, "EV_5")).json() == {"outcome": "ignored"}


def test_what_livekit_has_not_signed_is_refused_and_counted(service: Served) -> None:
    body = event("room_started", "x", "EV_6")
    before = metric(service, "sessionmanager_auth_refusals_total", reason="signature")
    problem(tell(service, body, secret="z" * 40), 401, "unauthenticated")
    problem(tell(service, body, of=b"another"), 401)
    problem(tell(service, body, seconds=-3_600), 401)
    headers = {"Content-Type": "application/json"}
    problem(service.nobody().request("POST", "/livekit/webhook", content=body, headers=headers), 401)
    own = service.admin.request("POST", "/livekit/webhook", content=body, headers=headers)
    problem(own, 401)
    assert metric(service, "sessionmanager_auth_refusals_total", reason="signature") == before + 5
    problem(tell(service, b"[]"), 400, "malformed")


def test_ten_megabytes_are_refused_before_they_are_read(service: Served) -> None:
    refused = problem(tell(service, b"x" * 10_000_000), 413, "too-large")
    assert refused["limit_bytes"] == BODY_MAX
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b"x" * 10_000

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    answer = service.raw("POST", b"/livekit/webhook", headers=headers, chunks=pieces())
    problem(answer, 413, "too-large")
    assert taken < 20
    assert tell(service, b'{"event":"x","pad":"' + b"x" * 60_000 + b'"}').json() == {"outcome": "ignored"}


# -- erasure


def test_an_erased_session_leaves_no_room_behind_that_could_be_found(service: Served) -> None:
    caller = service.admin
    caller.create("gone", room=True)
    name = room_name(Key(TENANT, "gone"))
    service.until(lambda: caller.read("gone")["room"]["interrupted_at"] is not None, "a first look")
    warm = service.service.api.warm
    assert service.run(warm.get_record(ALL_TENANTS, KIND, name)) is not None
    assert caller.delete("/sessions/gone").status_code == 202
    problem(caller.get("/sessions/gone/room"), 410, "erased")
    problem(caller.post("/sessions/gone/room"), 410)
    # LiveKit is away: its room cannot be closed, and a late webhook brings nothing back.
    answer: httpx2.Response = tell(service, event("participant_joined", name, "EV_late"))
    assert answer.json()["outcome"] in ("heeded", "unknown-room")
    problem(caller.get("/sessions/gone"), 410)
