"""The log over HTTP: appended in batches, and read at any depth and from any tier, byte for byte as it was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from sessionmanager.words import Key
from tests.support.server import TENANT, Caller, Served, gather, pointers, problem, served

pytestmark = pytest.mark.contract

TINY = {"tail_entries_max": "4", "tail_entries_kept": "1", "warm_segments_max": "3", "warm_segments_kept": "1"}
"""Bounds under which a hundred lines make segments, a tree of them, and objects in cold."""
LONG = 120
KINDS: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": "hello"},
    {"type": "message", "role": "assistant", "content": [{"text": "x"}], "heard": "he", "generated": "hello"},
    {"type": "message", "role": "system", "content": None, "data": {"a": 1}},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": {"q": [1, 2]}, "status": "in_progress"},
    {"type": "function_call_output", "call_id": "c1", "output": "done", "status": "completed"},
    {"type": "summary", "from_seq": 1, "to_seq": 2, "content": "they met"},
    {"type": "error", "content": "it broke", "data": {"code": 7}},
    {"type": "custom.dtmf", "data": "5"},
    {"type": "custom.note"},
]


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(**TINY) as running:
        yield running


def append(caller: Caller, session_id: str, *entries: dict[str, Any], **more: Any) -> httpx2.Response:
    return caller.post(f"/sessions/{session_id}/entries", {"entries": list(entries)}, **more)


def said(text: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text, **more}


# -- append


def test_a_batch_is_one_commit_and_its_receipt_names_every_place(admin: Caller) -> None:
    admin.create("batch")
    done = append(admin, "batch", said("a"), said("b"))
    assert done.status_code == 201
    receipt = done.json()
    assert receipt == {"id": "batch", "version": 2, "status": "active", "seqs": [3, 4], "duplicates": []}
    assert done.headers["etag"] == '"v2"'
    kept = {entry["seq"]: entry for entry in admin.history("batch")}
    assert [kept[seq]["content"] for seq in (3, 4)] == ["a", "b"]
    assert {kept[seq]["version"] for seq in (2, 3, 4)} == {2}


@pytest.mark.parametrize("entry", KINDS)
def test_every_type_of_entry_comes_back_as_it_was_sent(admin: Caller, entry: dict[str, Any]) -> None:
    session = admin.post("/sessions").json()["id"]
    seq = append(admin, session, {**entry, "at": "2020-01-02T03:04:05+01:00"}).json()["seqs"][0]
    (kept,) = [line for line in admin.history(session) if line["seq"] == seq]
    for name, value in entry.items():
        assert kept[name] == value, name
    assert kept["at"] == "2020-01-02T02:04:05.000Z"
    assert kept["recorded_at"] > kept["at"]
    assert kept["id"] == f"e{seq}"
    assert kept["actor"] == "alice"
    ours = {"seq", "version", "id", "at", "recorded_at", "actor"}
    assert kept.keys() == entry.keys() | ours


def test_numbers_keep_their_text_and_strings_every_character_in_every_tier(service: Served, admin: Caller) -> None:
    admin.create("text")
    content = '{"n":[1.10,1e5,-0.0,0.10e-7],"s":"Grüße 🦊 \\u00e9\\n\\"\\\\/ \\u2028"}'
    body = '{"entries":[{"type":"message","role":"user","content":' + content + ',"id":"näh 🦊"}]}'
    headers = {"Content-Type": "application/json"}
    sent = admin.request("POST", "/sessions/text/entries", content=body.encode(), headers=headers)
    assert sent.status_code == 201, sent.text
    for placed in ("hot or warm", "cold"):
        page = admin.get("/sessions/text/entries", params={"type": "message"})
        assert content in page.text, placed
        assert page.json()["items"][0]["id"] == "näh 🦊"
        if placed != "cold":
            service.archive(admin, "text")


def test_an_id_that_the_session_has_is_not_added_again(admin: Caller) -> None:
    admin.create("ids")
    first = append(admin, "ids", said("a", id="one"), said("b", id="two")).json()
    mixed = append(admin, "ids", said("a", id="one"), said("c", id="three"), said("c", id="three"))
    assert mixed.status_code == 201
    assert mixed.json()["duplicates"] == ["one", "three"]
    assert mixed.json()["seqs"] == [first["seqs"][0], first["seqs"][1] + 1, first["seqs"][1] + 1]
    nothing = append(admin, "ids", said("else", id="two"))
    assert nothing.status_code == 200
    assert (nothing.json()["version"], nothing.json()["duplicates"]) == (mixed.json()["version"], ["two"])
    assert nothing.json()["seqs"] == [first["seqs"][1]]
    assert [entry["content"] for entry in admin.history("ids", type="message")] == ["a", "b", "c"]


def test_an_id_is_unique_though_its_entry_was_sealed_and_archived_long_ago(service: Served, admin: Caller) -> None:
    admin.create("ids-2")
    seq = append(admin, "ids-2", said("first", id="once")).json()["seqs"][0]
    for i in range(10):
        admin.say("ids-2", f"line {i}")
    service.archive(admin, "ids-2")
    again = append(admin, "ids-2", said("first", id="once"))
    assert again.status_code == 200
    assert (again.json()["seqs"], again.json()["duplicates"]) == ([seq], ["once"])
    assert admin.read("ids-2")["placement"] == "cold", "nothing new writes nothing"


def test_appends_beside_each_other_all_stand_once_in_one_order(service: Served, admin: Caller) -> None:
    admin.create("beside")
    bodies = [{"entries": [said(f"{i}", id=f"id-{i}")]} for i in range(30)]
    answers = service.run(gather(*(admin.send("POST", "/sessions/beside/entries", json=body) for body in bodies * 2)))
    assert sorted(answer.status_code for answer in answers) == [200] * 30 + [201] * 30
    history = admin.history("beside", type="message")
    assert sorted(entry["content"] for entry in history) == sorted(str(i) for i in range(30))
    assert len({entry["version"] for entry in history}) == 30


def test_a_repeat_gets_the_very_bytes_of_the_first_answer_however_much_was_said_since(admin: Caller) -> None:
    admin.create("repeat")
    first = append(admin, "repeat", said("once"), key="k")
    for _ in range(4):
        append(admin, "repeat", *(said(f"{i}") for i in range(250)))
    again = append(admin, "repeat", said("once"), key="k")
    assert (again.status_code, again.content, again.headers["etag"]) == (201, first.content, first.headers["etag"])
    assert again.headers["idempotency-replayed"] == "true"
    problem(append(admin, "repeat", said("twice"), key="k"), 422, "key-reused")
    assert [entry["content"] for entry in admin.history("repeat", type="message", limit=200)].count("once") == 1


def test_a_repeat_is_known_after_a_thousand_other_commits_and_an_archive(service: Served, admin: Caller) -> None:
    admin.create("repeat-2")
    first = append(admin, "repeat-2", said("once"), key="k")

    async def talk() -> None:
        for i in range(1_000):
            body = {"entries": [said("x")]}
            await admin.send("POST", "/sessions/repeat-2/entries", json=body, key=f"other-{i}")

    service.run(talk())
    assert append(admin, "repeat-2", said("once"), key="k").content == first.content
    service.archive(admin, "repeat-2")
    replayed = append(admin, "repeat-2", said("once"), key="k")
    assert (replayed.content, replayed.headers["idempotency-replayed"]) == (first.content, "true")
    assert admin.read("repeat-2")["entry_count"] == 1 + 1 + 1 + 1_000 + 1, "created, woken, said, said, suspended"


def test_an_entry_over_its_bound_is_refused_by_place(admin: Caller) -> None:
    admin.create("large")
    alone = problem(append(admin, "large", said("x" * 66_000)), 422)
    assert pointers(alone) == {"/entries/0"}
    among = problem(append(admin, "large", said("fine"), said("x" * 66_000)), 422, "invalid")
    assert pointers(among) == {"/entries/1"}
    assert admin.read("large")["version"] == 1


def test_a_batch_holds_one_to_256_entries(admin: Caller) -> None:
    admin.create("size")
    assert append(admin, "size", *(said("x") for _ in range(256))).status_code == 201
    assert pointers(problem(append(admin, "size", *(said("x") for _ in range(257))), 422, "invalid")) == {"/entries"}
    assert pointers(problem(append(admin, "size"), 422, "invalid")) == {"/entries"}


def test_an_ended_session_takes_no_more_and_a_sleeping_one_wakes(admin: Caller) -> None:
    admin.create("wake")
    admin.post("/sessions/wake/suspend")
    assert append(admin, "wake", said("hi")).json()["status"] == "active"
    append(admin, "wake", said("last", id="last"))
    admin.post("/sessions/wake/end")
    assert append(admin, "wake", said("last", id="last")).status_code == 200, "a repeat of what was said in time"
    refused = problem(append(admin, "wake", said("too late")), 409, "illegal-transition")
    assert refused["from"] == "ended"
    assert "append" not in refused["allowed"]


def test_counters_count_what_was_said(admin: Caller) -> None:
    admin.create("count")
    append(admin, "count", *KINDS)
    append(admin, "count", {"type": "error", "content": {"code": 1}})
    body = admin.read("count")
    assert (body["current_turn"], body["error_count"], body["last_error"]) == (3, 2, '{"code":1}')
    assert body["entry_count"] == 2 + len(KINDS) + 1


@pytest.mark.parametrize(
    ("entry", "pointer"),
    [
        ({"type": "message", "role": "user"}, "/entries/0/content"),
        ({"type": "message", "content": "x"}, "/entries/0/role"),
        ({"type": "message", "role": "boss", "content": "x"}, "/entries/0/role"),
        ({"type": "state", "content": "x"}, "/entries/0/type"),
        ({"type": "custom.", "content": "x"}, "/entries/0/type"),
        ({"type": "function_call", "call_id": "c"}, "/entries/0/name"),
        ({"type": "function_call_output", "call_id": "c"}, "/entries/0/output"),
        ({"type": "summary", "from_seq": 3, "to_seq": 2, "content": "x"}, "/entries/0/to_seq"),
        ({"type": "summary", "from_seq": -1, "to_seq": 2, "content": "x"}, "/entries/0/from_seq"),
        ({"type": "error", "content": 1, "role": "user"}, "/entries/0/role"),
        (said("x", id="e12"), "/entries/0/id"),
        (said("x", id=""), "/entries/0/id"),
        (said("x", id="x" * 129), "/entries/0/id"),
        (said("x", at="yesterday"), "/entries/0/at"),
        (said("x", at="2026-02-30T00:00:00Z"), "/entries/0/at"),
        (said("x", seq=4), "/entries/0/seq"),
    ],
)
def test_what_an_entry_lacks_or_must_not_have_is_named(admin: Caller, entry: dict[str, Any], pointer: str) -> None:
    session = admin.post("/sessions").json()["id"]
    assert pointer in pointers(problem(append(admin, session, entry), 422, "invalid"))
    assert admin.read(session)["version"] == 1


# -- read


@pytest.fixture(scope="module")
def long(service: Served, admin: Caller) -> list[dict[str, Any]]:
    """A history of which most lies in segments, and the older of those in cold; what was said, in order."""
    admin.create("long")
    lines: list[dict[str, Any]] = []
    for i in range(LONG):
        kind = "custom.tick" if i % 10 == 0 else "message"
        entry = {"type": kind, "role": "user", "content": {"i": i}, "id": f"id-{i}"}
        append(admin, "long", entry)
        lines.append(entry)
    key = service.service.core.ledger.warm

    def at_rest() -> bool:
        stored = service.run(key.load(_key("long"))).stored
        work = stored.head.work
        return stored.head.tail_count < 4 and work.warm_bodies < 3 and not work.intents

    service.until(at_rest, "segments in cold")
    return lines


def _key(session_id: str) -> Key:
    return Key(TENANT, session_id)


def test_a_long_history_reads_the_same_in_pages_of_any_size_and_either_order(
    admin: Caller, long: list[dict[str, Any]]
) -> None:
    whole = admin.history("long", limit=200)
    assert [entry["seq"] for entry in whole] == list(range(1, LONG + 3))
    assert [(e["type"], e["content"], e["id"]) for e in whole[2:]] == [(e["type"], e["content"], e["id"]) for e in long]
    for limit in (1, 7, 50):
        assert admin.history("long", limit=limit) == whole
    assert admin.history("long", limit=13, order="desc") == whole[::-1]


def test_a_range_is_exclusive_at_both_ends_at_any_depth(admin: Caller, long: list[dict[str, Any]]) -> None:
    for after, before in ((0, 4), (1, 2), (5, 30), (100, 118), (LONG, 10_000), (3, 4), (9, 3)):
        expected = [seq for seq in range(1, LONG + 3) if after < seq < before]
        for order in ("asc", "desc"):
            found = admin.history("long", after=after, before=before, limit=5, order=order)
            assert [entry["seq"] for entry in found] == (expected if order == "asc" else expected[::-1])


def test_a_rare_type_is_found_wherever_it_lies(admin: Caller, long: list[dict[str, Any]]) -> None:
    ticks = [entry["content"]["i"] for entry in admin.history("long", type="custom.tick")]
    assert ticks == list(range(0, LONG, 10))
    newest_first = admin.history("long", type="custom.tick", order="desc", limit=2)
    assert [entry["content"]["i"] for entry in newest_first] == ticks[::-1]
    assert [entry["seq"] for entry in admin.history("long", type="state")] == [1]
    assert admin.history("long", type="custom.other") == []
    assert admin.history("long", type="summary") == []


def test_a_cursor_goes_on_with_its_filter_while_the_session_talks_and_is_archived(service: Served) -> None:
    caller = service.caller(tenant="going-on")
    caller.create("on")
    for i in range(12):
        caller.say("on", f"{i}")
    first = caller.get("/sessions/on/entries", params={"type": "message", "limit": 5}).json()
    caller.say("on", "12")
    service.archive(caller, "on")
    rest = caller.get("/sessions/on/entries", params={"cursor": first["next_cursor"], "limit": 200}).json()
    assert [entry["content"] for entry in first["items"] + rest["items"]] == [str(i) for i in range(13)]
    assert rest["next_cursor"] is None


def test_reading_an_archived_history_writes_nothing_and_says_cold(service: Served, admin: Caller) -> None:
    admin.create("frozen")
    for i in range(10):
        admin.say("frozen", f"{i}")
    before = admin.history("frozen")
    service.archive(admin, "frozen")
    page = admin.get("/sessions/frozen/entries")
    assert page.headers["session-tier"] == "cold"
    assert admin.history("frozen")[: len(before)] == before
    assert admin.get("/sessions/frozen").headers["session-tier"] == "cold"
    assert admin.read("frozen")["placement"] == "cold"


def test_get_shows_more_entries_than_the_tail_holds(admin: Caller, long: list[dict[str, Any]]) -> None:
    shown = admin.read("long", entries=60)["entries"]
    assert [entry["seq"] for entry in shown] == list(range(LONG + 3 - 60, LONG + 3))


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"after": "-1"}, "query/after"),
        ({"before": "x"}, "query/before"),
        ({"after": str(2**63)}, "query/after"),
        ({"limit": "0"}, "query/limit"),
        ({"limit": "201"}, "query/limit"),
        ({"order": "up"}, "query/order"),
        ({"type": "$where"}, "query/type"),
        ({"cursor": "../x"}, "query/cursor"),
        ({"since": "1"}, "query/since"),
    ],
)
def test_a_wrong_parameter_is_named(admin: Caller, query: dict[str, str], pointer: str) -> None:
    session = admin.post("/sessions").json()["id"]
    refused = problem(admin.get(f"/sessions/{session}/entries", params=query), 400, "malformed")
    assert pointers(refused) == {pointer}


def test_the_log_says_everything_that_happened_to_a_session(admin: Caller) -> None:
    admin.create("story", caller="ann")
    admin.say("story", "hello")
    admin.patch("/sessions/story", {"labels": ["vip"]}, if_match="*")
    admin.post("/sessions/story/suspend")
    admin.post("/sessions/story/resume")
    admin.post("/sessions/story/end", {"reason": "bye"})
    history = admin.history("story")
    told = [(entry["type"], entry.get("status"), entry["version"]) for entry in history]
    assert told == [
        ("state", None, 1),
        ("status", "active", 2),
        ("message", None, 2),
        ("state", None, 3),
        ("status", "dormant", 4),
        ("status", "active", 5),
        ("status", "ended", 6),
    ]
    assert json.dumps(history[3]["data"]) == '{"merge": {"labels": ["vip"]}}'
    assert history[-1]["data"]["reason"] == "bye"
