"""A state's lists and the log tell the same, whatever was written and by whom: random programs, plain lists."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.compat.opusagent import kept
from sessionmanager.compat.opusagent.lists import Lists, entries_for
from sessionmanager.wire.answers import Entry, Session

pytestmark = pytest.mark.unit

NOW = "2026-11-21T12:00:00.000Z"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.text(min_size=1, max_size=12)
ITEMS = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "bot"]), "content": VALUES}),
    st.fixed_dictionaries({"type": st.sampled_from(["input", "output", "x"]), "text": WORDS, "timestamp": VALUES}),
    st.dictionaries(st.sampled_from(["role", "content", "text", "timestamp", "more"]), VALUES, max_size=4),
)
CALLS = st.fixed_dictionaries(
    {"call_id": st.sampled_from(["f-1", "f-2", None, ""]), "function_name": st.sampled_from(["find", None])},
    optional={
        "arguments": VALUES,
        "status": st.sampled_from(["in_progress", "completed", "failed", "cancelled", "odd", None]),
        "result": VALUES,
        "timestamp": st.sampled_from([NOW, "2026-11-21T12:00:00", "soon", 7]),
    },
)


class Log:
    """Entries as the service would have them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def append(self, *entries: dict[str, Any]) -> list[int]:
        seqs = []
        for one in entries:
            seq = len(self.entries) + 1
            base = {"seq": seq, "version": seq, "id": f"e{seq}", "at": NOW, "recorded_at": NOW, "actor": "a"}
            self.entries.append(msgspec.convert(json.loads(json.dumps(base | one)), Entry))
            seqs.append(seq)
        return seqs

    def store(self, lists: Lists, history: Any, calls: Any) -> None:
        made = entries_for(lists, history, calls)
        for entry, seq in zip(made, self.append(*made), strict=True):
            lists.wrote(entry, seq)

    def read(self, lists: Lists) -> Lists:
        for entry in self.entries:
            if entry.seq > lists.seq:
                lists.read(entry)
        return lists


@given(st.lists(st.tuples(st.lists(ITEMS, max_size=4), st.lists(CALLS, max_size=3)), min_size=1, max_size=4))
def test_whatever_lists_are_stored_the_log_gives_them_back(states: list[tuple[Any, Any]]) -> None:
    log, own = Log(), Lists()
    for history, calls in states:
        log.store(own, history, calls)
        assert (own.history, own.calls) == (history, calls), "as the writer sees it"
        fresh = log.read(Lists())
        assert (fresh.history, fresh.calls) == (history, calls), "as another process reads it"
        log.read(own)
        assert (own.history, own.calls) == (history, calls), "as the writer reads it again"


@given(st.lists(ITEMS, max_size=4), st.lists(ITEMS, min_size=1, max_size=3))
def test_a_list_that_goes_on_writes_what_is_new_and_nothing_twice(before: list[Any], more: list[Any]) -> None:
    log, own = Log(), Lists()
    log.store(own, before, [])
    written = len(log.entries)
    log.store(own, before + more, [])
    log.store(own, before + more, [])
    assert len(log.entries) == written + len(more)


@given(st.lists(ITEMS, max_size=3), ITEMS, st.booleans())
def test_what_others_said_stays_also_where_the_writer_has_not_seen_it(said: list[Any], item: Any, seen: bool) -> None:
    log, own = Log(), Lists()
    log.store(own, said, None)
    log.append({"type": "message", "role": "assistant", "content": "from the desk"})
    if seen:
        log.read(own)
    log.store(own, [*said, item], None)
    texts = [one.get("content") for one in log.read(Lists()).history]
    assert texts.count("from the desk") >= 1
    assert log.read(Lists()).history[-1] == item


def test_what_is_said_is_a_message_for_everybody_else() -> None:
    made = entries_for(Lists(), [{"type": "input", "text": "Hello", "timestamp": "2026-11-21T12:00:00+00:00"}], None)
    assert [(one["type"], one["role"], one["content"], one["at"]) for one in made] == [
        ("message", "user", "Hello", NOW)
    ]
    assert "Hello" not in json.dumps(made[0]["data"]), "no word is kept twice"


def test_a_call_is_one_entry_and_its_outcome_another() -> None:
    call = {"call_id": "f-1", "function_name": "find", "arguments": {"to": "OSL"}, "status": "in_progress"}
    lists, log = Lists(), Log()
    log.store(lists, None, [call])
    log.store(lists, None, [{**call, "status": "failed", "result": {"error": "no seat"}}])
    assert [entry.type for entry in log.entries] == ["function_call", "function_call_output"]
    assert (log.entries[0].arguments, log.entries[1].status) == ({"to": "OSL"}, "failed")
    assert log.entries[1].output == {"error": "no seat"}


def test_an_outcome_is_told_once_and_a_later_change_beside_it() -> None:
    call = {"call_id": "f-1", "function_name": "find", "status": "completed", "result": 1}
    lists, log = Lists(), Log()
    log.store(lists, None, [call])
    log.store(lists, None, [{**call, "reviewed": True}])
    assert [entry.type for entry in log.entries] == [
        "function_call",
        "function_call_output",
        "custom.opusagent.call",
    ]
    assert log.read(Lists()).calls == [{**call, "reviewed": True}]


def test_a_log_that_others_wrote_is_read_as_lists() -> None:
    log = Log()
    log.append(
        {"type": "message", "role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "f-1", "name": "find", "arguments": {"to": "OSL"}},
        {"type": "function_call_output", "call_id": "f-1", "output": [1], "status": "completed"},
        {"type": "message", "role": "assistant", "content": "Found one", "data": "not ours"},
        {"type": "custom.note", "data": {"opusagent": 7}},
    )
    lists = log.read(Lists())
    assert [(one["role"], one["content"]) for one in lists.history] == [("user", "Hi"), ("assistant", "Found one")]
    assert lists.calls == [
        {"call_id": "f-1", "function_name": "find", "status": "completed", "arguments": {"to": "OSL"}, "result": [1],
         "timestamp": NOW}
    ]  # fmt: skip


@pytest.mark.parametrize("lists", [([7], None), (None, ["f"])])
def test_items_that_are_no_objects_are_refused_by_name(lists: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(conversation_history|function_calls): "):
        entries_for(Lists(), *lists)


# -- members

NAMES = st.sampled_from(
    [*kept._PLAIN, *kept._REALTIME, "status", "metadata", "resumed_count", "mine", "left", "members"]
)
MEMBERS = st.dictionaries(NAMES, VALUES, max_size=8)


def as_session(split: kept.Split, status: Any = "active") -> Session:
    body = {"id": "c-1", "version": 1, "status": status, "placement": "warm", "created_at": NOW, "updated_at": NOW}
    body |= {"last_activity": NOW, **split.fields, "context": {kept.RECORD: split.record}}
    return msgspec.convert(json.loads(json.dumps(body)), Session)


@given(MEMBERS)
def test_whatever_members_a_state_has_the_session_gives_them_back(data: dict[str, Any]) -> None:
    data = {name: value for name, value in data.items() if name not in ("left", "members")} | {"status": "active"}
    session = as_session(kept.split(data))
    record = kept.record_of(session)
    assert record is not None
    found = kept.joined(session, record)
    found.pop("conversation_id")
    assert found == data


@pytest.mark.parametrize(
    ("native", "word", "shown"),
    [
        ("active", "initiated", "initiated"),
        ("dormant", "active", "paused"),
        ("ended", "active", "ended"),
        ("error", "active", "error"),
        ("active", "paused", "active"),
        ("initiated", "", "initiated"),
        ("waiting_for_services", "active", "active"),
    ],
)
def test_who_else_moved_the_session_is_believed(native: Any, word: str, shown: str) -> None:
    session = as_session(kept.split({"status": word}), native)
    assert kept.joined(session, kept.record_of(session) or {})["status"] == shown
