"""Participants over HTTP: joining, coming back, leases, tokens that end with a stay; and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.server import Caller, Served, problem

pytestmark = pytest.mark.contract


def join(caller: Caller, session: str, identity: str, kind: str = "agent", **more: Any) -> dict[str, Any]:
    answer = caller.post(f"/sessions/{session}/participants", {"kind": kind, "identity": identity, **more})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def participant(caller: Caller, session: str, pid: str) -> dict[str, Any]:
    return caller.get(f"/sessions/{session}/participants/{pid}").json()


def speech(number: int | None, text: str = "Hello") -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "message", "role": "assistant", "content": text}
    return {"entries": [entry if number is None else {**entry, "floor": number}]}


# -- joining


def test_whoever_joins_gets_a_token_that_speaks_for_it_alone(service: Served, admin: Caller) -> None:
    admin.create("j1")
    admin.create("j2")
    first = join(admin, "j1", "anna", metadata={"n": 1}, role="support")
    assert first["participant"].items() >= {"identity": "anna", "role": "support", "status": "attached"}.items()
    guest = service.nobody(first["token"])
    guest.say("j1", "hello")
    last = admin.get("/sessions/j1?entries=1").json()["entries"][0]
    assert last["actor"] == first["participant"]["id"]
    problem(guest.get("/sessions/j2"), 404, "not-found")
    other = join(admin, "j1", "ben")["participant"]["id"]
    problem(guest.delete(f"/sessions/j1/participants/{other}"), 403, "forbidden")
    problem(guest.post(f"/sessions/j1/participants/{other}/heartbeat"), 403, "forbidden")


def test_the_same_identity_again_is_told_apart_from_a_second_one(admin: Caller) -> None:
    admin.create("j3")
    first = join(admin, "j3", "clara")
    again = admin.post("/sessions/j3/participants", {"kind": "agent", "identity": "clara"})
    assert again.status_code == 200
    assert again.json()["participant"]["id"] == first["participant"]["id"]
    problem(admin.post("/sessions/j3/participants", {"kind": "human", "identity": "clara"}), 409, "already-exists")
    assert len(admin.get("/sessions/j3/participants").json()["items"]) == 1
    assert [item["id"] for item in admin.get("/sessions?participant=clara").json()["items"]] == ["j3"]


def test_a_keyed_repeat_of_a_join_is_the_same_participant_with_a_new_token(admin: Caller) -> None:
    admin.create("j4")
    body = {"kind": "agent", "identity": "anna"}
    first = admin.post("/sessions/j4/participants", body, key="k")
    again = admin.post("/sessions/j4/participants", body, key="k")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["participant"] == first.json()["participant"]
    assert again.json()["version"] == first.json()["version"]
    assert again.json()["token"] != first.json()["token"]


def test_whoever_was_taken_out_is_out_at_once_on_every_route(service: Served, admin: Caller) -> None:
    admin.create("j5")
    made = join(admin, "j5", "anna")
    pid, guest = made["participant"]["id"], service.nobody(made["token"])
    assert guest.get("/sessions/j5").status_code == 200
    assert admin.delete(f"/sessions/j5/participants/{pid}?reason=rude").status_code == 200
    for answer in (
        guest.get("/sessions/j5"),
        guest.get("/sessions/j5/entries"),
        guest.get("/sessions/j5/context?for=raw"),
        guest.get("/sessions/j5/events"),
        guest.post("/sessions/j5/entries", speech(None)),
        guest.post("/sessions/j5/floor", {}),
        guest.post(f"/sessions/j5/participants/{pid}/heartbeat"),
        guest.post(f"/sessions/j5/participants/{pid}/token"),
    ):
        problem(answer, 401, "unauthenticated")
    back = join(admin, "j5", "anna")
    assert (back["participant"]["id"], back["participant"]["epoch"]) == (pid, 1)
    problem(guest.get("/sessions/j5"), 401, "unauthenticated")
    assert service.nobody(back["token"]).get("/sessions/j5").status_code == 200
    events = [entry["data"]["event"] for entry in entries(admin, "j5", "participant")]
    assert events == ["joined", "left", "reattached"]


def entries(caller: Caller, session: str, of_type: str) -> list[dict[str, Any]]:
    return caller.get(f"/sessions/{session}/entries?type={of_type}").json()["items"]


def test_a_suspend_detaches_everybody_and_a_resume_brings_one_back_in_its_own_commit(
    service: Served, admin: Caller
) -> None:
    admin.create("j6")
    made = join(admin, "j6", "bridge-1", kind="bridge")
    admin.post("/sessions/j6/suspend")
    problem(service.nobody(made["token"]).get("/sessions/j6"), 401, "unauthenticated")
    before = admin.read("j6")["version"]
    resumed = admin.post(
        "/sessions/j6/resume", {"participant": {"kind": "bridge", "identity": "bridge-1", "lease_seconds": 30}}
    ).json()
    assert resumed["session"]["version"] == before + 1
    assert resumed["participant"]["id"] == made["participant"]["id"]
    service.nobody(resumed["token"]).say("j6", "I am back")


def test_a_missed_lease_is_told_and_news_attaches_again_under_the_same_token(service: Served, admin: Caller) -> None:
    admin.create("j7")
    made = join(admin, "j7", "anna", lease_seconds=5)
    pid = made["participant"]["id"]
    service.until(lambda: participant(admin, "j7", pid)["status"] == "disconnected", "the end of its lease")
    guest = service.nobody(made["token"])
    back = guest.post(f"/sessions/j7/participants/{pid}/heartbeat").json()
    assert (back["status"], back["epoch"]) == ("attached", 0)
    events = [entry["data"]["event"] for entry in entries(admin, "j7", "participant")]
    assert events == ["joined", "disconnected", "reattached"]


def test_a_heartbeat_is_no_commit(service: Served, admin: Caller) -> None:
    admin.create("j8")
    made = join(admin, "j8", "anna")
    pid = made["participant"]["id"]
    before = admin.read("j8")["version"]
    for _ in range(3):
        assert admin.post(f"/sessions/j8/participants/{pid}/heartbeat").status_code == 200
    assert admin.read("j8")["version"] == before


def test_what_was_missed_since_a_version_is_exactly_that(service: Served, admin: Caller) -> None:
    admin.create("j9")
    made = join(admin, "j9", "anna")
    guest = service.nobody(made["token"])
    guest.say("j9", "one")
    seen = guest.read("j9")["version"]
    path = f"/sessions/j9/participants/{made['participant']['id']}"
    patched = guest.request("PATCH", path, json={"last_seen_version": seen})
    assert patched.json()["last_seen_version"] == seen
    admin.say("j9", "two")
    admin.say("j9", "three")
    missed = admin.post("/sessions/j9/resume", {"replay": "since", "since_version": seen}).json()["entries"]
    assert [entry["content"] for entry in missed if entry["type"] == "message"] == ["two", "three"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/kind"),
        ({"kind": "agent"}, "/identity"),
        ({"kind": "robot", "identity": "a"}, "/kind"),
        ({"kind": "agent", "identity": ""}, "/identity"),
        ({"kind": "agent", "identity": "a\n"}, "/identity"),
        ({"kind": "agent", "identity": "a", "lease_seconds": 0}, "/lease_seconds"),
        ({"kind": "agent", "identity": "a", "lease_seconds": 10**9}, "/lease_seconds"),
        ({"kind": "agent", "identity": "a", "metadata": {"a": "x" * 5_000}}, "/metadata"),
        ({"kind": "agent", "identity": "a", "token_seconds": 0}, "/token_seconds"),
        ({"kind": "agent", "identity": "a", "status": "left"}, "/status"),
        ({"kind": "agent", "identity": "a", "epoch": 7}, "/epoch"),
    ],
)
def test_a_join_that_cannot_be_names_the_field(admin: Caller, body: dict[str, Any], pointer: str) -> None:
    document = problem(admin.post("/sessions/j9/participants", body), 422, "invalid")
    assert pointer in {error["pointer"] for error in document["errors"]}


# -- the floor


def test_only_the_newest_number_speaks_where_the_floor_is_required(service: Served, admin: Caller) -> None:
    admin.create("f1", floor="required")
    assert admin.read("f1")["floor"]["required"] is True
    one, two = (join(admin, "f1", name) for name in ("one", "two"))
    first, second = service.nobody(one["token"]), service.nobody(two["token"])
    problem(first.post("/sessions/f1/entries", speech(None)), 409, "floor-lost")
    number = first.post("/sessions/f1/floor", {}).json()["floor"]
    assert first.post("/sessions/f1/entries", speech(number)).status_code == 201
    refused = problem(second.post("/sessions/f1/floor", {}), 409, "floor-taken")
    assert (refused["holder"], refused["number"]) == (one["participant"]["id"], number)
    problem(second.post("/sessions/f1/entries", speech(number)), 409, "floor-lost")
    newer = second.post("/sessions/f1/floor", {"policy": "interrupt"}).json()["floor"]
    assert newer > number
    lost = problem(first.post("/sessions/f1/entries", speech(number)), 409, "floor-lost")
    assert lost["number"] == newer
    said = admin.post("/sessions/f1/entries", {"entries": [{"type": "message", "role": "user", "content": "hi"}]})
    assert said.status_code == 201, "who is heard needs no floor"


def test_a_batch_with_an_old_number_adds_nothing(service: Served, admin: Caller) -> None:
    admin.create("f2")
    guest = service.nobody(join(admin, "f2", "one")["token"])
    number = guest.post("/sessions/f2/floor", {"lease_seconds": 1}).json()["floor"]
    service.until(lambda: admin.read("f2")["floor"]["holder"] is None, "the end of its lease")
    before = admin.read("f2")["entry_count"]
    batch = {"entries": [{"type": "message", "role": "user", "content": "hi"}, *speech(number)["entries"]]}
    problem(guest.post("/sessions/f2/entries", batch), 409, "floor-lost")
    assert admin.read("f2")["entry_count"] == before


def test_who_queues_is_served_in_turn(service: Served, admin: Caller) -> None:
    admin.create("f3")
    one, two = (join(admin, "f3", name) for name in ("one", "two"))
    first, second = service.nobody(one["token"]), service.nobody(two["token"])
    first.post("/sessions/f3/floor", {})
    waiting = second.post("/sessions/f3/floor", {"policy": "queue"})
    assert (waiting.status_code, waiting.json()["position"]) == (202, 1)
    assert first.delete("/sessions/f3/floor").status_code == 200
    floor = admin.read("f3")["floor"]
    assert (floor["holder"], floor["number"], floor["queue"]) == (two["participant"]["id"], 2, [])


def test_an_operator_takes_over_and_the_bot_waits_until_the_floor_is_given_back(service: Served, admin: Caller) -> None:
    admin.create("f4")
    bot, human = join(admin, "f4", "bot"), join(admin, "f4", "olga")
    speaker, operator = service.nobody(bot["token"]), service.caller("operator")
    speaker.post("/sessions/f4/floor", {})
    body = {"participant": human["participant"]["id"], "policy": "interrupt", "takeover": True}
    problem(service.caller("agent").post("/sessions/f4/floor", body), 403, "forbidden")
    assert operator.post("/sessions/f4/floor", body).status_code == 200
    problem(speaker.post("/sessions/f4/floor", {"policy": "interrupt"}), 409, "floor-taken")
    problem(speaker.post("/sessions/f4/entries", speech(None)), 409, "floor-lost")
    operator.delete(f"/sessions/f4/floor?participant={human['participant']['id']}")
    number = speaker.post("/sessions/f4/floor", {}).json()["floor"]
    assert speaker.post("/sessions/f4/entries", speech(number)).status_code == 201


def test_a_hand_over_is_claimed_by_a_human_and_one_that_nobody_claims_expires(service: Served, admin: Caller) -> None:
    admin.create("f5")
    bot = service.nobody(join(admin, "f5", "bot")["token"])
    bot.post("/sessions/f5/floor", {"lease_seconds": 600})
    bot.post("/sessions/f5/floor", {"hand_over": "human", "hand_over_seconds": 1})
    service.until(lambda: admin.read("f5")["floor"]["offer"] is None, "the end of the offer")
    assert admin.read("f5")["floor"]["number"] == 1, "and the bot has it still"
    bot.post("/sessions/f5/floor", {"hand_over": "human", "hand_over_seconds": 600})
    person = service.nobody(join(admin, "f5", "olga", kind="human")["token"])
    assert person.post("/sessions/f5/floor", {}).json()["floor"] == 2


def test_a_repeat_of_a_claim_answers_the_same_bytes(service: Served, admin: Caller) -> None:
    admin.create("f6")
    guest = service.nobody(join(admin, "f6", "one")["token"])
    first = guest.post("/sessions/f6/floor", {}, key="claim")
    guest.delete("/sessions/f6/floor")
    again = guest.post("/sessions/f6/floor", {}, key="claim")
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


def test_who_asks_for_the_floor_says_for_whom(admin: Caller) -> None:
    admin.create("f7")
    document = problem(admin.post("/sessions/f7/floor", {}), 422, "invalid")
    assert document["errors"][0]["pointer"] == "/participant"
    problem(admin.post("/sessions/f7/floor", {"participant": "par_nobody"}), 404, "not-found")
