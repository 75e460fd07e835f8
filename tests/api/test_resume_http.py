"""Resume over HTTP: what it hands out, what it leaves out and how to fetch that, and when it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dialects import objections
from tests.support.server import Caller, Served, gather, pointers, problem, served

pytestmark = pytest.mark.contract

LINES = 40
ANSWER = {
    *("session", "entries", "function_calls", "partial_turn", "realtime", "audio"),
    *("participant", "token", "livekit", "included", "omitted"),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(tail_entries_max="8", tail_entries_kept="2") as running:
        yield running


def resume(caller: Caller, session_id: str, /, **body: Any) -> dict[str, Any]:
    answer = caller.post(f"/sessions/{session_id}/resume", body)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() - {"context"} == ANSWER
    return answer.json()


def left_out(caller: Caller, session_id: str, handed: dict[str, Any]) -> list[int]:
    """The seqs of everything that a resume left out, fetched by its cursor."""
    cursor = handed["omitted"]["cursor"]
    if cursor is None:
        return []
    return sorted(entry["seq"] for entry in caller.history(session_id, cursor=cursor, limit=7))


def seqs(handed: dict[str, Any]) -> list[int]:
    return [entry["seq"] for entry in handed["entries"]]


@pytest.fixture(scope="module")
def talk(admin: Caller) -> str:
    """A session with more history than a tail holds."""
    admin.create("talk", context={"topic": 1}, realtime={"session_id": "rt"}, audio={"buffered_ms": 5})
    for i in range(LINES):
        admin.say("talk", f"line {i}", role="assistant")
    return "talk"


# -- what is handed out


def test_a_resume_counts_itself_and_hands_out_the_whole_session(admin: Caller, talk: str) -> None:
    before = admin.read(talk)
    answer = admin.post(f"/sessions/{talk}/resume", {})
    handed = answer.json()
    assert handed["session"]["resumed_count"] == before["resumed_count"] + 1
    assert handed["session"]["version"] == before["version"] + 1
    assert answer.headers["etag"] == f'"v{before["version"] + 1}"'
    assert answer.headers["session-tier"] in {"hot", "warm"}
    assert "server-timing" in answer.headers
    assert handed["session"]["context"] == {"topic": 1}
    assert (handed["realtime"]["session_id"], handed["audio"]["buffered_ms"]) == ("rt", 5)
    assert handed["participant"] is handed["token"] is handed["livekit"] is None


def test_no_body_means_the_newest_fifty(admin: Caller, talk: str) -> None:
    answer = admin.post(f"/sessions/{talk}/resume")
    assert answer.status_code == 200
    count = answer.json()["session"]["entry_count"]
    assert seqs(answer.json()) == list(range(max(1, count - 49), count + 1))


@pytest.mark.parametrize(
    "body",
    [
        {"replay": "none"},
        {"replay": "none", "entries": 10},
        {"replay": "tail", "entries": 0},
        {"replay": "tail", "entries": 3},
        {"replay": "tail", "entries": 500},
        {"replay": "tail", "entries": 20, "max_bytes": 900},
        {"replay": "tail", "max_bytes": 1},
        {"replay": "full", "entries": 500},
        {"replay": "full", "entries": 4},
        {"replay": "full", "entries": 0},
        {"replay": "full", "entries": 30, "max_bytes": 1_000},
        {"replay": "full", "max_bytes": 1},
        {"replay": "since", "since_version": 0},
        {"replay": "since", "since_version": 0, "entries": 5},
        {"replay": "since", "since_version": 9, "entries": 500},
        {"replay": "since", "since_version": 9, "entries": 5},
        {"replay": "since", "since_version": 30, "max_bytes": 600},
        {"replay": "since", "since_version": 2**53 - 1},
    ],
)
@pytest.mark.parametrize("placed", ["warm", "cold"])
def test_what_is_handed_out_and_what_the_cursor_fetches_are_together_all_that_was_asked_for(
    service: Served, placed: str, body: dict[str, Any]
) -> None:
    caller = service.caller(tenant=f"replay-{placed}")
    if caller.get("/sessions/talk").status_code == 404:
        caller.create("talk")
        for i in range(LINES):
            caller.say("talk", f"line {i}")
    if placed == "cold":
        service.archive(caller, "talk")
    handed = resume(caller, "talk", **body)
    count = handed["session"]["entry_count"]
    first = 1
    if body["replay"] == "since":
        newer = [e["seq"] for e in caller.history("talk", limit=200) if e["version"] > body["since_version"]]
        first = newer[0] if newer else count + 1
    shown = seqs(handed)
    assert shown == list(range(shown[0], shown[-1] + 1)) if shown else True
    missing = left_out(caller, "talk", handed)
    assert sorted(shown + missing) == list(range(first, count + 1))
    assert handed["omitted"]["count"] == len(missing)
    assert (handed["omitted"]["cursor"] is None) == (not missing)
    included = handed["included"]
    assert (included["from_seq"], included["to_seq"]) == ((shown[0], shown[-1]) if shown else (None, None))
    assert len(shown) <= body.get("entries", 50)
    assert included["bytes"] <= body.get("max_bytes", 2**24)
    if shown and body["replay"] == "full":
        assert shown[0] == 1
    elif shown:
        assert shown[-1] == count


def test_the_first_resume_of_a_cold_session_says_cold_and_brings_all_of_it_back(service: Served) -> None:
    caller = service.caller(tenant="cold")
    caller.create("c", context={"fee": 1})
    for i in range(LINES):
        caller.say("c", f"{i}")
    service.archive(caller, "c")
    before = caller.read("c", entries=500)
    assert (before["placement"], before["context"]) == ("cold", {"fee": 1})
    answer = caller.post("/sessions/c/resume", {"replay": "full", "entries": 500})
    assert answer.headers["session-tier"] == "cold"
    assert answer.json()["entries"][: len(before["entries"])] == before["entries"]
    after = answer.json()["session"]
    moved = {"version", "status", "placement", "updated_at", "last_activity", "resumed_count", "entry_count"}
    assert {k: v for k, v in after.items() if k not in moved} == {
        k: v for k, v in before.items() if k not in moved | {"entries"}
    }
    assert (after["placement"], after["status"], after["resumed_count"]) == ("warm", "active", 1)
    assert caller.get("/sessions/c").headers["session-tier"] != "cold"


# -- function calls and turns


def test_open_calls_are_told_from_those_that_a_suspension_interrupted(admin: Caller) -> None:
    admin.create("calls")
    call = {"type": "function_call", "name": "look", "arguments": {}}
    done = {"type": "function_call_output", "call_id": "done", "output": 1}
    entries = [{**call, "call_id": "before"}, {**call, "call_id": "done"}, done]
    admin.post("/sessions/calls/entries", {"entries": entries})
    first = resume(admin, "calls")["function_calls"]
    assert [c["call_id"] for c in first["open"]] == ["before"]
    assert first["interrupted"] == []
    assert first["open"][0].keys() == {"call_id", "name", "seq", "at"}
    admin.post("/sessions/calls/suspend")
    second = resume(admin, "calls")["function_calls"]
    assert second["open"] == []
    assert [(c["call_id"], "interrupted_at" in c) for c in second["interrupted"]] == [("before", True)]
    admin.post("/sessions/calls/entries", {"entries": [{**call, "call_id": "after"}]})
    third = resume(admin, "calls")["function_calls"]
    assert ([c["call_id"] for c in third["open"]], [c["call_id"] for c in third["interrupted"]]) == (
        ["after"],
        ["before"],
    )
    late = {"type": "function_call_output", "call_id": "before", "output": None, "status": "failed"}
    admin.post("/sessions/calls/entries", {"entries": [late]})
    assert resume(admin, "calls")["function_calls"]["interrupted"] == []


def test_open_calls_survive_an_archive(service: Served, admin: Caller) -> None:
    admin.create("calls-2")
    admin.post("/sessions/calls-2/entries", {"entries": [{"type": "function_call", "name": "look", "call_id": "c"}]})
    service.archive(admin, "calls-2")
    assert [c["call_id"] for c in resume(admin, "calls-2")["function_calls"]["interrupted"]] == ["c"]


@pytest.mark.parametrize(
    ("said", "cut"),
    [
        ([], None),
        ([{"role": "user", "content": "and?"}], "user"),
        ([{"role": "user", "content": "and?"}, {"role": "assistant", "content": "so"}], None),
        ([{"role": "assistant", "content": "so", "heard": "s", "generated": "so"}], "assistant"),
        ([{"role": "assistant", "content": "so", "heard": "so", "generated": "so"}], None),
    ],
)
def test_the_turn_that_was_cut_off_is_told(admin: Caller, said: list[dict[str, Any]], cut: str | None) -> None:
    session = admin.post("/sessions").json()["id"]
    seq = None
    if said:
        entries = [{"type": "message", **one} for one in said]
        seq = admin.post(f"/sessions/{session}/entries", {"entries": entries}).json()["seqs"][-1]
    expected = None if cut is None else {"seq": seq, "role": cut}
    assert resume(admin, session)["partial_turn"] == expected


# -- how old


def test_an_age_limit_refuses_with_the_reason_and_changes_nothing(admin: Caller) -> None:
    admin.create("age")
    admin.post("/sessions/age/suspend")
    version = admin.read("age")["version"]
    answer = admin.post("/sessions/age/resume", {"max_age_seconds": 1e-9})
    assert problem(answer, 409, "not-resumable")["reason"] == "expired"
    told = admin.get("/sessions/age/resumable", params={"max_age_seconds": "0.000000001"}).json()
    assert (told["resumable"], told["reason"]) == (False, "expired")
    assert told["age_seconds"] > 0
    assert (admin.read("age")["version"], admin.read("age")["status"]) == (version, "dormant")
    assert resume(admin, "age", max_age_seconds=None)["session"]["status"] == "active"


@pytest.mark.parametrize("age", [0, -1, 1e11, "old", True])
def test_an_age_that_is_none_is_named(admin: Caller, age: Any) -> None:
    session = admin.post("/sessions").json()["id"]
    refused = problem(admin.post(f"/sessions/{session}/resume", {"max_age_seconds": age}), 422, "invalid")
    assert pointers(refused) == {"/max_age_seconds"}
    assert admin.read(session)["resumed_count"] == 0


def test_the_services_own_age_limit_holds_where_none_is_given_and_null_lifts_it() -> None:
    with served(default_max_age_seconds="1") as service:
        admin = service.admin
        admin.create("old")
        service.until(lambda: not admin.get("/sessions/old/resumable").json()["resumable"], "age")
        assert problem(admin.post("/sessions/old/resume"), 409, "not-resumable")["reason"] == "expired"
        assert resume(admin, "old", max_age_seconds=None)["session"]["resumed_count"] == 1


def test_a_session_past_its_expires_at_cannot_be_resumed(service: Served) -> None:
    caller = service.caller(tenant="expired")
    caller.create("soon", expires_at="2999-01-01T00:00:00Z")
    assert caller.get("/sessions/soon/resumable").json() | {"age_seconds": 0} == {
        "resumable": True,
        "reason": None,
        "age_seconds": 0,
    }
    caller.patch("/sessions/soon", {"expires_at": "2020-01-01T00:00:00Z"}, if_match="*")
    answer = caller.post("/sessions/soon/resume")
    assert answer.status_code in (409, 410), "expired, and erased as soon as the worker sees it"


@pytest.mark.parametrize(("move", "reason"), [("end", "ended"), ("fail", "error")])
def test_what_has_ended_or_failed_is_not_resumable(admin: Caller, move: str, reason: str) -> None:
    session = admin.post("/sessions").json()["id"]
    admin.post(f"/sessions/{session}/{move}")
    assert problem(admin.post(f"/sessions/{session}/resume"), 409, "not-resumable")["reason"] == reason
    told = admin.get(f"/sessions/{session}/resumable")
    assert (told.json()["resumable"], told.json()["reason"]) == (False, reason)
    assert told.headers["etag"] == '"v2"'


def test_members_that_are_not_built_yet_or_do_not_fit_are_named(admin: Caller) -> None:
    session = admin.post("/sessions").json()["id"]
    for body, pointer in (
        ({"participant": {"kind": "agent"}}, "/participant/identity"),
        ({"for": "llama"}, "/for"),
        ({"replay": "since"}, "/since_version"),
        ({"since_version": 1}, "/since_version"),
        ({"replay": "all"}, "/replay"),
        ({"entries": 501}, "/entries"),
        ({"max_bytes": 0}, "/max_bytes"),
        ({"surprise": 1}, "/surprise"),
    ):
        assert pointer in pointers(problem(admin.post(f"/sessions/{session}/resume", body), 422, "invalid")), body
    assert resume(admin, session, **{"for": "raw", "participant": None})["entries"]


# -- retries


def test_a_repeated_resume_is_counted_once_and_answers_the_session_from_now(admin: Caller) -> None:
    admin.create("again")
    first = admin.post("/sessions/again/resume", {}, key="r")
    admin.say("again", "meanwhile")
    again = admin.post("/sessions/again/resume", {}, key="r")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert again.json()["session"]["resumed_count"] == 1
    assert again.json()["entries"][-1]["content"] == "meanwhile"
    problem(admin.post("/sessions/again/resume", {"entries": 1}, key="r"), 422, "key-reused")


def test_resumes_beside_each_other_are_each_counted(service: Served, admin: Caller) -> None:
    admin.create("many")
    service.run(gather(*(admin.send("POST", "/sessions/many/resume") for _ in range(10))))
    assert admin.read("many")["resumed_count"] == 10


# -- a window for a model


@pytest.mark.parametrize("family", ["openai", "anthropic", "gemini", "realtime", "raw"])
def test_a_resume_for_a_model_hands_out_a_window_that_closes_what_was_cut_off(
    service: Served, admin: Caller, family: str
) -> None:
    session = f"for-{family}"
    admin.create(session)
    for i in range(40):
        admin.say(session, f"line {i}")
    call = {"type": "function_call", "call_id": "c1", "name": "book"}
    admin.post(f"/sessions/{session}/entries", {"entries": [call]})
    plain = resume(admin, session, entries=3)
    assert "context" not in plain
    answer = resume(admin, session, **{"for": family, "entries": 3, "replay": "none"})
    assert answer["entries"] == []
    context = answer["context"]
    assert objections(family, context) == []
    assert context == admin.get(f"/sessions/{session}/context", params={"for": family, "max_entries": 3}).json()
    assert ("outcome unknown" in json.dumps(context)) == (family != "raw")
    bounded = resume(admin, session, **{"for": family, "entries": 40, "max_bytes": 2_000})
    assert len(bounded["entries"]) <= 40
    assert bounded["context"]["included"]["bytes"] <= 2_000
