"""Windows over HTTP: legal for the model whatever happened, from any tier, and told by whom, of what and how much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from sessionmanager.core.context import CALLS_LOOKED_AT_MAX, EXTRA_LINES, FIRST_LINES, PAGES_MAX, Contexts
from sessionmanager.core.history import Lines, Range
from sessionmanager.core.reads import Reads
from sessionmanager.errors import TierUnavailable
from sessionmanager.model.codec import Stored
from sessionmanager.model.window.window import Asked
from sessionmanager.words import APPENDABLE_TYPES, ROLES, Key
from tests.support.dialects import CHECKERS, objections
from tests.support.dialects.history import History, histories
from tests.support.server import TENANT, Caller, Served, pointers, problem, served

pytestmark = pytest.mark.contract

TINY = {"tail_entries_max": "4", "tail_entries_kept": "1", "warm_segments_max": "3", "warm_segments_kept": "1"}
"""Bounds under which a hundred lines make segments, a tree of them, and objects in cold."""
FAMILIES = tuple(CHECKERS)
FAR = EXTRA_LINES + 30
"""So many entries lie between a thing and the end that no window of one entry reaches it by itself."""


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(**TINY) as running:
        yield running


def window(caller: Caller, session: str, family: str = "openai", **query: Any) -> dict[str, Any]:
    """A window, checked by the strict reader of its family."""
    found = caller.get(f"/sessions/{session}/context", params={"for": family, **query})
    assert found.status_code == 200, found.text
    answer = found.json()
    assert objections(family, answer) == []
    assert answer["for"] == family
    assert found.headers["etag"] == f'"v{answer["version"]}"'
    return answer


def texts(answer: dict[str, Any]) -> list[str]:
    return [message["content"] for message in answer["messages"] if message["content"] is not None]


def append(caller: Caller, session: str, *entries: dict[str, Any]) -> list[int]:
    done = caller.post(f"/sessions/{session}/entries", {"entries": entries})
    assert done.status_code == 201, done.text
    return done.json()["seqs"]


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


def called(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "book", "arguments": {"day": 1}}


def answered(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": f"output of {call_id}"}


def fill(caller: Caller, session: str, count: int, entry: dict[str, Any] | None = None) -> None:
    for first in range(0, count, 20):
        append(caller, session, *[entry or said(f"{i}") for i in range(first, min(count, first + 20))])


# -- what is in it


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_is_the_same_while_live_dormant_and_archived_but_for_calls_that_stop(
    service: Served, admin: Caller, family: str
) -> None:
    session = f"placed-{family}"
    admin.create(session)
    append(admin, session, said("be nice", "system"), said("book"), called("c1"), said("and?"))
    live = window(admin, session, family)
    assert [call["call_id"] for call in live["function_calls"]["open"]] == ["c1"]
    admin.post(f"/sessions/{session}/suspend")
    dormant = window(admin, session, family)
    assert [call["call_id"] for call in dormant["function_calls"]["interrupted"]] == ["c1"]
    service.archive(admin, session)
    archived = admin.get(f"/sessions/{session}/context", params={"for": family})
    assert archived.headers["session-tier"] == "cold"
    assert archived.json() == dormant
    unknown, running = "interrupted, outcome unknown", "no output yet"
    if family != "raw":
        assert (running in json.dumps(live), unknown in json.dumps(live)) == (True, False)
        assert (running in json.dumps(dormant), unknown in json.dumps(dormant)) == (False, True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_no_reader_objects_to_a_window_of_any_history_from_any_tier(
    service: Served, admin: Caller, history: History
) -> None:
    session = admin.post("/sessions").json()["id"]
    for line in history.lines:
        entry = json.loads(line.data)
        if entry["type"] in APPENDABLE_TYPES or entry["type"].startswith("custom."):
            kept = {k: v for k, v in entry.items() if k not in ("seq", "version", "recorded_at", "actor", "at")}
            if kept["id"].startswith("e"):
                del kept["id"]
            append(admin, session, kept)
        elif entry["type"] == "status" and entry["data"]["transition"] in ("suspend", "resume", "end"):
            admin.post(f"/sessions/{session}/{entry['data']['transition']}")
    bounds = ({}, {"max_entries": 3}, {"max_entries": 1}, {"max_tokens": 100})
    before = [window(admin, session, family, **bound) for family in FAMILIES for bound in bounds]
    assert json.loads(json.dumps(before)) == before
    service.archive(admin, session)
    for family in FAMILIES:
        for bound in bounds:
            window(admin, session, family, **bound)


def test_what_was_left_out_is_what_the_cursor_fetches(admin: Caller) -> None:
    admin.create("left-out")
    append(admin, "left-out", said("be nice", "system"))
    fill(admin, "left-out", 30)
    answer = window(admin, "left-out", max_entries=10)
    included, omitted = answer["included"], answer["omitted"]
    assert (included["entries"], len(answer["messages"])) == (11, 11)
    path = "/sessions/left-out/entries"
    older = admin.get(path, params={"cursor": omitted["cursor"], "limit": 200}).json()["items"]
    assert [entry["seq"] for entry in older] == list(range(included["from_seq"] - 1, 0, -1))
    assert len(older) == omitted["count"] + 1, "the system entry is in the window as well"
    whole = window(admin, "left-out", max_entries=500)
    assert (whole["included"]["from_seq"], whole["omitted"]["count"], whole["omitted"]["cursor"]) == (1, 0, None)
    assert whole["included"]["to_seq"] == admin.read("left-out")["entry_count"]


def test_tokens_are_estimated_from_the_bytes_and_held_to(admin: Caller) -> None:
    admin.create("tokens")
    fill(admin, "tokens", 40, said("word " * 20))
    answer = window(admin, "tokens", max_tokens=500)
    size = len(json.dumps({"messages": answer["messages"]}, separators=(",", ":")))
    assert (answer["included"]["bytes"], answer["included"]["tokens_estimate"]) == (size, -(-size // 3))
    assert 450 < answer["included"]["tokens_estimate"] <= 500


# -- what lies far back


@pytest.mark.parametrize("placed", ["warm", "cold"])
def test_an_output_brings_its_call_along_however_many_segments_lie_between(
    service: Served, admin: Caller, placed: str
) -> None:
    session = f"far-call-{placed}"
    admin.create(session)
    append(admin, session, called("c1"), answered("c1"), called("c1"))
    fill(admin, session, FAR)
    append(admin, session, answered("c1"))
    if placed == "cold":
        service.archive(admin, session)
    for family in FAMILIES:
        answer = window(admin, session, family, max_entries=3 if family == "raw" else 2)
        assert answer["included"]["entries"] == 2 + (family == "raw")
        assert "output of c1" in json.dumps(answer)
        assert answer["omitted"]["outputs"] == []
    call = admin.history(session, type="function_call")[1]
    assert call in window(admin, session, "raw", max_entries=3)["entries"]


def test_an_output_whose_call_is_too_far_back_is_left_out_and_told(admin: Caller) -> None:
    admin.create("too-far")
    append(admin, "too-far", called("c1"))
    for i in range(CALLS_LOOKED_AT_MAX):
        append(admin, "too-far", called(f"x{i}"), answered(f"x{i}"))
    fill(admin, "too-far", FAR)
    (seq,) = append(admin, "too-far", answered("c1"))
    answer = window(admin, "too-far", max_entries=2)
    assert answer["omitted"]["outputs"] == [seq]
    assert "output of c1" not in json.dumps(answer["messages"])


def test_the_newest_summary_is_found_behind_everything_and_the_prompt_at_the_very_beginning(admin: Caller) -> None:
    admin.create("far-summary")
    append(admin, "far-summary", said("be nice", "system"), said("hello"), said("hi", "assistant"))
    summary = {"type": "summary", "from_seq": 1, "to_seq": 4, "content": "they met"}
    (seq,) = append(admin, "far-summary", summary)
    fill(admin, "far-summary", FAR)
    answer = window(admin, "far-summary", max_entries=1)
    assert texts(answer) == ["be nice", "[Summary of what came before] they met", f"{FAR - 1}"]
    assert answer["included"]["summaries"] == [{"seq": seq, "from_seq": 1, "to_seq": 4}]
    assert answer["omitted"]["count"] == answer["included"]["from_seq"] - 1 - 2


def test_a_system_entry_is_looked_for_at_the_beginning_and_among_the_newest_alone(admin: Caller) -> None:
    admin.create("systems")
    fill(admin, "systems", FIRST_LINES - 3)
    append(admin, "systems", said("first", "system"), said("in between", "system"))
    fill(admin, "systems", FAR)
    append(admin, "systems", said("newest", "developer"), said("last"))
    assert texts(window(admin, "systems", max_entries=1)) == ["first", "newest", "last"]


def test_entries_that_say_nothing_to_a_model_do_not_empty_a_window(admin: Caller) -> None:
    admin.create("silent")
    append(admin, "silent", said("the last word"))
    fill(admin, "silent", 3 * EXTRA_LINES, {"type": "custom.level", "data": 1})
    assert texts(window(admin, "silent", max_entries=1)) == ["the last word"]
    fill(admin, "silent", 2 * EXTRA_LINES, said(" "))
    assert texts(window(admin, "silent", max_entries=1)) == ["the last word"]


# -- bounded work


class Counting(Reads):
    """Reads that count their pages, or whose older lines cannot be had."""

    def __init__(self, reads: Reads, error: Exception | None = None) -> None:
        self.__dict__.update(reads.__dict__)
        self._error = error
        self.pages = 0
        self.lines_read = 0
        self.reached = 0

    async def lines(self, key: Key, span: Range) -> tuple[Stored, Lines]:
        self.pages += 1
        if self._error is not None:
            raise self._error
        stored, found = await super().lines(key, span)
        self.lines_read += len(found.lines)
        if "status" in span.types:  # a page of whatever says something, one after the other
            self.reached = found.reached
        return stored, found


@pytest.mark.parametrize("kind", ["spoken", "silent"])
def test_a_window_reads_a_bounded_number_of_pages_however_long_the_log_is(
    service: Served, admin: Caller, kind: str
) -> None:
    pages: list[int] = []
    for length in (150, 600):
        session = f"bounded-{kind}-{length}"
        admin.create(session)
        fill(admin, session, length, said("x" if kind == "spoken" else " "))
        reads = Counting(service.service.core.reads)
        found = service.run(Contexts(reads).read(Key(TENANT, session), Asked("openai", 10, 1_000)))
        pages.append(reads.pages)
        if kind == "silent":
            assert found.window.from_seq == reads.reached
            assert (reads.reached > 1) == (length == 600)
        assert reads.lines_read <= PAGES_MAX * (10 + EXTRA_LINES) + CALLS_LOOKED_AT_MAX + FIRST_LINES + 1
    assert pages[0] <= pages[1] <= PAGES_MAX + 3
    assert kind == "silent" or pages[0] == pages[1]


def test_while_cold_is_away_the_newest_lines_make_a_window_that_says_what_it_lacks(
    service: Served, admin: Caller
) -> None:
    admin.create("without-cold")
    append(admin, "without-cold", said("be nice", "system"), called("c1"))
    fill(admin, "without-cold", FAR)
    append(admin, "without-cold", answered("c1"))
    reads = Counting(service.service.core.reads, TierUnavailable("cold"))
    asked = Asked("openai", 5, 1_000)
    found = service.run(Contexts(reads).read(Key(TENANT, "without-cold"), asked))
    assert found.unavailable == "cold"
    body = json.loads(found.window.body)
    assert objections("openai", body) == []
    assert len(body["messages"]) == 5
    assert len(found.window.unpaired) == 1


def test_a_copy_that_warm_cannot_confirm_is_shown_and_nothing_is_looked_for_behind_it(
    service: Served, admin: Caller
) -> None:
    admin.create("stale")
    fill(admin, "stale", FAR)
    reads = Counting(service.service.core.reads)
    contexts = Contexts(reads)
    view = service.run(service.service.core.reads.view(Key(TENANT, "stale"), lines=10))
    found = service.run(contexts.of_view(Key(TENANT, "stale"), replace(view, age_seconds=3), Asked("raw", 5, 1_000)))
    assert (reads.pages, len(found.window.seqs)) == (0, 5)


# -- who, and what is refused


def test_whoever_may_read_entries_may_read_them_as_a_window(service: Served, admin: Caller) -> None:
    admin.create("roles")
    may = {"admin", "operator", "agent", "bridge", "viewer"}
    for role in ROLES:
        if role != "participant":
            answer = service.caller(role).get("/sessions/roles/context")
            assert answer.status_code == (200 if role in may else 403), role
    joined = admin.post("/sessions/roles/participants", {"kind": "agent", "identity": "bot", "role": "assistant"})
    bound = service.nobody(joined.json()["token"])
    assert bound.get("/sessions/roles/context").status_code == 200
    admin.create("not-theirs")
    problem(bound.get("/sessions/not-theirs/context"), 404, "not-found")
    problem(service.caller(tenant="umbrella").get("/sessions/roles/context"), 404, "not-found")
    problem(service.nobody().get("/sessions/roles/context"), 401)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("for=llama", "for"),
        ("for=", "for"),
        ("max_entries=0", "max_entries"),
        ("max_entries=501", "max_entries"),
        ("max_entries=ten", "max_entries"),
        ("max_tokens=0", "max_tokens"),
        ("max_tokens=1000001", "max_tokens"),
        ("for_=openai", "for_"),
        ("limit=3", "limit"),
        ("for=raw&for=raw", "for"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(admin: Caller, query: str, name: str) -> None:
    admin.create(f"wrong-{abs(hash(query))}")
    document = problem(admin.get(f"/sessions/wrong-{abs(hash(query))}/context?{query}"), 400, "malformed")
    assert pointers(document) == {f"query/{name}"}


def test_a_window_of_a_version_that_is_not_there_yet_is_refused(admin: Caller) -> None:
    admin.create("ahead")
    version = admin.say("ahead", "hello")["version"]
    path = "/sessions/ahead/context"
    assert admin.get(path, headers={"Min-Version": str(version)}).json()["version"] == version
    problem(admin.get(path, headers={"Min-Version": str(version + 1)}), 412, "min-version-ahead")


def test_an_erased_session_has_no_window_and_neither_has_one_that_never_was(admin: Caller) -> None:
    problem(admin.get("/sessions/never-was/context"), 404, "not-found")
    admin.create("gone")
    admin.delete("/sessions/gone")
    problem(admin.get("/sessions/gone/context"), 410, "erased")


def test_without_a_family_a_window_holds_entries_as_they_are(admin: Caller) -> None:
    admin.create("raw")
    admin.say("raw", "a", "b")
    answer = admin.get("/sessions/raw/context").json()
    assert answer["for"] == "raw"
    assert answer["entries"] == admin.history("raw")
    assert [entry["seq"] for entry in answer["entries"]] == [1, 2, 3, 4]
