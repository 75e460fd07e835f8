"""What a bridge finds when it takes a conversation up, and that no entry keeps it from that."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.bridges.base.restoring import Restored, cut_by_the_line, item_of, restored
from sessionmanager.wire.answers import Entry, OpenCall

pytestmark = pytest.mark.unit

AT = "2026-11-21T10:00:00.000Z"


def log(*entries: dict[str, Any]) -> list[Entry]:
    """Entries as the service gives them."""
    made = []
    for seq, entry in enumerate(entries, 1):
        base = {"seq": seq, "version": seq, "id": f"id-{seq}", "at": AT, "recorded_at": AT, "actor": "bridge"}
        made.append(msgspec.convert({**base, **entry}, Entry))
    return made


def said(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **more}


def note(id: str, heard: str, generated: str, status: str = "in_progress", **more: Any) -> dict[str, Any]:
    data = {"id": id, "heard": heard, "generated": generated, **more}
    return {"type": "custom.speech", "status": status, "data": data}


def found(*entries: dict[str, Any], turns: int | None = None, **calls: Any) -> Restored:
    lines = log(*entries)
    return restored(lines, turns=sum(e.type == "message" for e in lines) if turns is None else turns, **calls)


def test_nothing_said_is_a_new_conversation_and_is_greeted() -> None:
    assert found().is_new
    assert found({"type": "participant"}, {"type": "custom.bridge", "data": {"event": "connected"}}).is_new
    assert not found(said("assistant", "Hello.")).is_new
    assert not found(turns=3).is_new


def test_speech_without_its_end_is_what_was_heard_of_it_for_certain() -> None:
    one = found(note("m", "", "Good day"), note("m", "Good", "Good day, this is Ada."))
    assert [(cut.heard, cut.generated) for cut in one.unfinished] == [("Good", "Good day, this is Ada.")]
    assert one.owes
    assert not one.is_new
    entry = cut_by_the_line(one.unfinished[0])
    assert (entry["type"], entry["content"], entry["data"]) == ("message", "Good", {"cut": "line"})


def test_speech_of_which_no_word_was_heard_is_said_anew() -> None:
    one = found(note("m", "", "Good day"))
    assert one.is_new
    assert cut_by_the_line(one.unfinished[0])["type"] == "custom.speech"


def test_speech_that_was_written_to_its_end_is_not_unfinished() -> None:
    assert found(note("id-2", "Good", "Good day"), said("assistant", "Good day")).unfinished == ()
    assert found(said("assistant", "Good day"), note("id-1", "Good", "Good day")).unfinished == ()
    assert (
        found(note("m", "", "Good day"), note("m", "", "Good day", status="cancelled", cut="caller")).unfinished == ()
    )


@pytest.mark.parametrize(
    ("entries", "owes"),
    [
        ((), False),
        ((said("user", "Hi"),), True),
        ((said("user", "Hi"), said("assistant", "Hello")), False),
        ((said("assistant", "Hel", heard="Hel", generated="Hello", data={"cut": "line"}),), True),
        ((said("assistant", "Hel", heard="Hel", generated="Hello", data={"cut": "caller"}),), False),
        ((said("user", "Hi"), {"type": "function_call", "call_id": "c", "name": "f"}), False),
        (
            (
                {"type": "function_call", "call_id": "c", "name": "f"},
                {"type": "function_call_output", "call_id": "c", "output": 1},
            ),
            True,
        ),
        ((said("user", "Hi"), {"type": "custom.voice", "data": {"speaking": True}}), False),
        ((note("m", "", "Hello", status="cancelled", cut="line"),), True),
    ],
)
def test_the_bot_owes_an_answer_to_whoever_had_the_last_word(entries: Any, owes: bool) -> None:
    assert found(*entries).owes is owes


def test_whether_the_caller_was_speaking_is_known_until_its_words_came() -> None:
    speaking = {"type": "custom.voice", "data": {"speaking": True}}
    assert found(speaking).voice.speaking
    assert not found(speaking, said("user", "Hi")).voice.speaking
    assert not found(speaking, {"type": "custom.voice", "data": {"speaking": False}}).voice.speaking


def test_open_interrupted_and_finished_calls_are_told_apart_also_those_far_back() -> None:
    one = found(
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": {"x": 1}},
        {"type": "function_call", "call_id": "b", "name": "g"},
        {"type": "function_call_output", "call_id": "b", "output": 2},
        open_calls=[OpenCall(call_id="a", name="f", seq=1, at=AT)],
        interrupted=[OpenCall(call_id="z", name="old", seq=0, at=AT)],
    )
    assert [(call.call_id, call.arguments, call.known) for call in one.open] == [("a", {"x": 1}, True)]
    assert [(call.call_id, call.known) for call in one.interrupted] == [("z", False)]
    assert one.finished == 1


def test_an_entry_that_is_not_understood_is_passed_over_and_told() -> None:
    one = found(
        note("m", "", "Hello"), {"type": "custom.speech", "data": 7}, {"type": "custom.voice"}, said("user", "Hi")
    )
    assert [(skipped.item, skipped.code) for skipped in one.skipped] == [
        ("id-2", "not-understood"),
        ("id-3", "not-understood"),
    ]
    assert one.owes


free = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "speaking", "heard", "x"]), inner)
    ),
    max_leaves=6,
)
kinds = st.sampled_from(
    ["message", "function_call", "function_call_output", "custom.speech", "custom.voice", "error", "status"]
)
members = st.fixed_dictionaries(
    {"type": kinds},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool"]),
        "content": free,
        "heard": free,
        "data": free,
        "arguments": free,
        "output": free,
        "call_id": st.text(max_size=4),
        "name": st.text(max_size=4),
        "status": st.sampled_from(["in_progress", "completed", "failed", "cancelled"]),
    },
)


@given(st.lists(members, max_size=12))
def test_no_log_fails_to_be_restored(entries: list[dict[str, Any]]) -> None:
    one = found(*entries)
    assert len(one.skipped) <= len(entries)


@given(members)
def test_an_entry_is_an_item_that_a_model_takes_or_none(entry: dict[str, Any]) -> None:
    needed = {"content": "", "role": "user", "output": None, "call_id": "c", "name": "f"}
    item = item_of({"id": "e", **needed, **entry})
    if item is None:
        return
    assert len(item["id"]) <= 32
    match item["type"]:
        case "message":
            assert item["content"][0]["text"]
            assert item["role"] in ("user", "assistant", "system")
        case "function_call":
            assert isinstance(item["arguments"], str)
        case kind:
            assert kind == "function_call_output"
            assert isinstance(item["output"], str)
