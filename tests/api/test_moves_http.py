"""Moves over HTTP: every transition from every status, to cold and back, and not a word lost on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessionmanager.model.states import TRANSITIONS
from tests.support.server import Caller, Served, problem, served

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(tail_entries_max="8", tail_entries_kept="2") as running:
        yield running


MOVES = ("suspend", "activate", "end", "fail", "resume", "append")
WAYS: dict[str, tuple[str, ...]] = {
    "initiated": (),
    "active": ("activate",),
    "dormant": ("suspend",),
    "ended": ("end",),
    "error": ("fail",),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("status", list(WAYS))
def test_every_move_from_every_status_does_what_the_table_says(admin: Caller, status: str, move: str) -> None:
    session = admin.post("/sessions").json()["id"]
    for step in WAYS[status]:
        assert admin.post(f"/sessions/{session}/{step}").status_code == 200
    before = admin.read(session)
    assert before["status"] == status
    entry = {"entries": [{"type": "message", "role": "user", "content": "x"}]}
    path = f"/sessions/{session}/{'entries' if move == 'append' else move}"
    answer = admin.post(path, entry if move == "append" else {})
    table: Any = TRANSITIONS
    after = table[move].get(status)
    if after is not None:
        assert answer.status_code in (200, 201), answer.text
        assert admin.read(session)["status"] == after
        return
    if move == "resume":
        problem(answer, 409, "not-resumable")
    else:
        refused = problem(answer, 409, "illegal-transition")
        assert refused["from"] == status
        assert set(refused["allowed"]) == {name for name, rows in table.items() if status in rows}
    assert admin.read(session) == before


def test_ends_say_when_and_why(admin: Caller) -> None:
    admin.create("bye")
    admin.post("/sessions/bye/end", {"reason": "caller hung up"})
    ended = admin.read("bye")
    assert (ended["status"], ended["end_reason"]) == ("ended", "caller hung up")
    assert ended["ended_at"] == ended["last_activity"]
    admin.create("ouch")
    admin.post("/sessions/ouch/fail", {"error": "no model"})
    failed = admin.read("ouch")
    assert (failed["status"], failed["error_count"], failed["last_error"]) == ("error", 1, "no model")
    assert failed["end_reason"] == "error"


def test_a_move_holds_a_precondition_where_one_is_given(admin: Caller) -> None:
    admin.create("moved")
    admin.say("moved", "hi")
    stale = problem(admin.post("/sessions/moved/suspend", {}, if_match=1), 412, "version-conflict")
    assert stale["version"] == 2
    assert admin.post("/sessions/moved/suspend", {}, if_match=2).json()["status"] == "dormant"
    assert admin.post("/sessions/moved/activate", {}, if_match="*").json()["status"] == "active"


@pytest.mark.parametrize("move", ["suspend", "activate", "end", "fail"])
def test_a_repeated_move_gets_the_very_bytes_of_the_first_answer(admin: Caller, move: str) -> None:
    session = admin.post("/sessions").json()["id"]
    first, again = (admin.post(f"/sessions/{session}/{move}", {}, key="m") for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json().keys() == {"id", "version", "status"}


# -- archive


def test_an_archive_is_accepted_and_moves_the_body_though_nothing_of_the_session_changes(
    service: Served, admin: Caller
) -> None:
    admin.create("store", labels=["keep"], metadata={"a": 1})
    admin.say("store", "one", "two")
    admin.post("/sessions/store/suspend")
    before = admin.get("/sessions/store")
    asked = admin.post("/sessions/store/archive")
    assert asked.status_code == 202
    assert asked.headers["etag"] == before.headers["etag"]
    assert asked.json().keys() == {"id", "version", "status", "placement"}
    service.until(lambda: admin.read("store")["placement"] == "cold", "archive")
    after = admin.get("/sessions/store")
    assert after.headers["session-tier"] == "cold"
    assert after.headers["etag"] == before.headers["etag"]
    assert {**after.json(), "placement": "warm"} == before.json()
    assert admin.get("/sessions/store", headers={"If-None-Match": before.headers["etag"]}).status_code == 304
    assert admin.post("/sessions/store/archive").json()["placement"] == "cold"
    assert [item["placement"] for item in admin.pages("/sessions", label="keep")] == ["cold"]


def test_a_session_in_use_is_not_archived(admin: Caller) -> None:
    admin.create("busy")
    admin.say("busy", "hi")
    refused = problem(admin.post("/sessions/busy/archive"), 409, "illegal-transition")
    assert refused["from"] == "active"


@pytest.mark.parametrize("write", ["append", "patch", "end", "fail", "activate", "attachment"])
def test_the_first_write_to_an_archived_session_brings_it_back_whole(
    service: Served, admin: Caller, write: str
) -> None:
    session = f"back-{write}"
    admin.create(session, context={"n": [1, 2]}, labels=["l"])
    for i in range(12):
        admin.say(session, f"{i}")
    service.archive(admin, session)
    history = admin.history(session)
    one = f"/sessions/{session}"
    answer = {
        "append": lambda: admin.post(f"{one}/entries", {"entries": [{"type": "custom.x"}]}),
        "patch": lambda: admin.patch(one, {"caller": "me"}, if_match="*"),
        "end": lambda: admin.post(f"{one}/end"),
        "fail": lambda: admin.post(f"{one}/fail"),
        "activate": lambda: admin.post(f"{one}/activate"),
        "attachment": lambda: admin.put(f"{one}/attachments/a", "x"),
    }[write]()
    assert answer.status_code in (200, 201), answer.text
    after = admin.read(session)
    assert (after["placement"], after["context"], after["labels"]) == ("warm", {"n": [1, 2]}, ["l"])
    assert admin.history(session)[: len(history)] == history


def test_suspending_keeps_every_word(service: Served, admin: Caller) -> None:
    admin.create("sleep")
    admin.say("sleep", "a", "b")
    before = json.dumps(admin.history("sleep"))
    admin.post("/sessions/sleep/suspend")
    assert json.dumps(admin.history("sleep")[:-1]) == before
    assert admin.get("/sessions/sleep").headers["session-tier"] == "warm"
