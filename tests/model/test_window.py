"""Windows: each rule by which a history becomes legal, in the dialect that it is there for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessionmanager.model.entry import decode_entry
from sessionmanager.model.window.window import BYTES_PER_TOKEN, DIALECTS, Asked, Window, make
from tests.support.dialects import objections
from tests.support.dialects.history import History

pytestmark = pytest.mark.unit

CUT_OFF = '{"error":"interrupted, outcome unknown"}'
RUNNING = '{"status":"in_progress","note":"no output yet"}'


def made(
    history: History, family: str = "openai", *, entries: int = 500, tokens: int = 1_000_000, floor: int = 0
) -> Window:
    found = make(history.head, history.lines[floor:], floor=floor, asked=Asked(family, entries, tokens))
    assert objections(family, json.loads(found.body)) == []
    return found


def messages(history: History, **more: Any) -> list[tuple[str, str]]:
    """What an OpenAI model is shown, as roles and texts; a call by the names of its functions."""
    shown: list[tuple[str, str]] = []
    for message in json.loads(made(history, **more).body)["messages"]:
        calls = [call["function"]["name"] for call in message.get("tool_calls", ())]
        shown.append(("calls", " ".join(calls)) if calls else (message["role"], message["content"]))
    return shown


@pytest.fixture
def history() -> History:
    return History()


# -- calls and outputs


def test_an_output_follows_its_call_whatever_was_said_between(history: History) -> None:
    history.call("c1", "book")
    history.say("are you there?")
    history.answer("c1", "booked")
    assert messages(history) == [("calls", "book"), ("tool", "booked"), ("user", "are you there?")]


def test_calls_made_before_any_was_answered_are_one_step_and_later_ones_another(history: History) -> None:
    for name in ("a", "b"):
        history.call(name, name)
    history.answer("b", "2")
    history.answer("a", "1")
    history.call("c", "c")
    history.answer("c", "3")
    assert messages(history) == [("calls", "a b"), ("tool", "1"), ("tool", "2"), ("calls", "c"), ("tool", "3")]


def test_more_calls_than_an_api_takes_in_one_message_are_several_steps(history: History) -> None:
    for i in range(130):
        history.call(f"c{i}")
    assert [text.count(" ") + 1 for kind, text in messages(history) if kind == "calls"] == [128, 2]


def test_a_call_that_a_live_session_holds_open_is_said_to_have_no_output_yet(history: History) -> None:
    history.call("c1")
    assert messages(history) == [("calls", "book"), ("tool", RUNNING)]


@pytest.mark.parametrize("moves", [("suspend",), ("suspend", "resume"), ("resume",), ("end",), ("fail",)])
def test_a_call_cut_off_is_closed_as_interrupted_with_an_unknown_outcome(history: History, moves: list[str]) -> None:
    history.call("c1")
    for move in moves:
        history.move(move)
    assert messages(history) == [("calls", "book"), ("tool", CUT_OFF)]


def test_a_call_made_after_a_resume_is_running_beside_one_that_was_cut_off(history: History) -> None:
    history.call("c1", "old")
    history.move("resume")
    history.call("c2", "new")
    assert messages(history) == [("calls", "old new"), ("tool", CUT_OFF), ("tool", RUNNING)]


def test_anthropic_is_told_that_an_interrupted_call_is_an_error_and_gemini_too(history: History) -> None:
    history.call("c1")
    history.move("suspend")
    block = json.loads(made(history, "anthropic").body)["messages"][2]["content"][0]
    assert (block["type"], block["content"], block["is_error"]) == ("tool_result", CUT_OFF, True)
    response = json.loads(made(history, "gemini").body)["contents"][2]["parts"][0]["functionResponse"]
    assert response == {"name": "book", "response": {"error": "interrupted, outcome unknown"}}


def test_an_output_whose_call_is_nowhere_is_left_out_and_told(history: History) -> None:
    history.say("hello")
    seq = history.answer("c1", "booked")
    assert messages(history) == [("user", "hello")]
    assert made(history).unpaired == (seq,)
    history.say("good bye")
    history.say("again")
    assert made(history, entries=1).unpaired == (), "it lies before the window, and is counted there"


def test_a_window_that_begins_between_call_and_output_leaves_out_or_takes_both(history: History) -> None:
    call = history.call("c1")
    history.say("a")
    output = history.answer("c1", "booked")
    assert made(history, entries=1).seqs == {call, output}
    history.say("b")
    two = made(history, entries=2)
    assert (two.seqs, two.unpaired, two.from_seq) == ({output + 1}, (), output + 1)
    assert made(history, entries=3).seqs == {call, output, output + 1}
    assert made(history, floor=call).unpaired == (output,)


def test_a_call_id_used_again_names_two_calls_and_each_output_goes_to_its_own(history: History) -> None:
    for name in ("first", "second"):
        history.call("c1", name)
        history.answer("c1", name)
    assert messages(history) == [("calls", "first"), ("tool", "first"), ("calls", "second"), ("tool", "second")]
    window = made(history)
    assert list(window.renamed.values()) == ["c1"]


def test_a_call_told_twice_is_one_call_and_two_different_ones_are_two(history: History) -> None:
    history.call("c1", "book", {"day": 1})
    history.call("c1", "book", {"day": 1})
    history.call("c1", "book", {"day": 2})
    history.answer("c1", "one")
    assert messages(history) == [("calls", "book book"), ("tool", "one"), ("tool", CUT_OFF)]


def test_a_later_output_of_an_answered_call_is_told_where_it_came(history: History) -> None:
    history.call("c1", "book")
    history.answer("c1", "interrupted")
    history.answer("c1", "interrupted")
    history.answer("c1", "booked after all")
    shown = messages(history)
    assert shown == [("calls", "book"), ("tool", "interrupted"), ("user", "[Later output of book] booked after all")]


# -- what was said


def test_speech_is_what_was_heard_of_it(history: History) -> None:
    history.say("It will rain tomorrow", "assistant", heard="It will", generated="It will rain tomorrow")
    history.say("nobody heard this", "assistant", heard="", generated="nobody heard this")
    history.say("not known", "assistant", heard=None, generated="not known")
    assert messages(history) == [("assistant", "It will"), ("assistant", "not known")]


def test_what_says_nothing_is_no_message(history: History) -> None:
    for content in ("", " \n\t", None, [], [{"type": "text", "text": ""}]):
        history.say(content)
    history.add(type="custom.dtmf", data="5")
    history.add(type="error", content="broken")
    assert messages(history) == []
    assert made(history).from_seq == 1


def test_system_and_developer_entries_are_kept_whatever_the_bounds(history: History) -> None:
    history.say("be nice", "system")
    for i in range(20):
        history.say(str(i))
    history.say("be brief", "developer")
    history.say("last")
    expected = [("system", "be nice"), ("system", "be brief"), ("user", "last")]
    assert messages(history, entries=1) == expected
    body = json.loads(made(history, "anthropic", entries=1).body)
    assert (body["system"], len(body["messages"])) == ("be nice\n\nbe brief", 1)
    assert json.loads(made(history, "gemini", entries=1).body)["system"] == body["system"]


def test_system_entries_that_do_not_fit_are_counted_and_the_first_one_always_fits(history: History) -> None:
    history.say("x" * 900, "system")
    history.say("y" * 900, "system")
    history.say("last")
    window = made(history, tokens=1)
    assert (len(window.seqs), window.system_left) == (2, 1)
    assert messages(history, tokens=1) == [("system", "x" * 900), ("user", "last")]


def test_a_tool_message_without_a_call_is_told_as_text(history: History) -> None:
    history.say("42", "tool")
    assert messages(history) == [("user", "[Output of a tool] 42")]


# -- summaries


def test_a_summary_stands_in_the_place_of_what_it_covers(history: History) -> None:
    first = history.say("a")
    history.say("b")
    last = history.say("c", "assistant")
    after = history.say("d")
    history.sum_up(first, last, "they met")
    assert messages(history) == [("user", "[Summary of what came before] they met"), ("user", "d")]
    window = made(history)
    assert window.seqs == {after, after + 1}
    assert window.from_seq == 1


def test_a_summary_of_a_summary_stands_for_what_that_one_stood_for(history: History) -> None:
    first = history.say("a")
    old = history.sum_up(first, first, "old")
    history.say("b")
    new = history.sum_up(old, old + 1, "new")
    history.say("c")
    history.sum_up(1, 4, "")
    assert messages(history) == [("user", "[Summary of what came before] new"), ("user", "c")]
    assert [unit.covers for unit in made(history).summaries] == [((old, old + 1), (first, first))]
    assert new in made(history).seqs


def test_summaries_of_different_times_each_stand_in_their_place(history: History) -> None:
    one, two, three = history.say("one"), history.say("two"), history.say("three")
    history.sum_up(one, one, "1")
    history.sum_up(three, three, "3")
    shown = [text.removeprefix("[Summary of what came before] ") for _, text in messages(history)]
    assert shown == ["1", "two", "3"]
    assert two


def test_a_summary_covers_neither_what_came_after_it_nor_a_call_without_its_output(history: History) -> None:
    history.say("be nice", "system")
    history.say("a")
    history.call("c1")
    history.call("c2", "weather")
    history.sum_up(1, 10_000, "so far")
    history.answer("c2", "rain")
    history.say("b")
    assert messages(history) == [
        ("system", "be nice"),
        ("user", "[Summary of what came before] so far"),
        ("calls", "book weather"),
        ("tool", RUNNING),
        ("tool", "rain"),
        ("user", "b"),
    ]


def test_the_newest_summary_is_kept_beyond_the_number_of_entries(history: History) -> None:
    history.sum_up(1, 1, "before all")
    for i in range(5):
        history.say(str(i))
    assert messages(history, entries=1) == [("user", "[Summary of what came before] before all"), ("user", "4")]


def test_a_summary_in_the_window_makes_it_stand_for_the_unread_entries_that_it_covers(history: History) -> None:
    for i in range(9):
        history.say(str(i))
    history.sum_up(2, 8, "so far")
    assert made(history, floor=6).from_seq == 2
    assert made(history, floor=9).from_seq == 10


def test_what_lies_before_the_floor_is_shown_only_if_it_reaches_beyond_it(history: History) -> None:
    call = history.call("c1", "answered in the gap")
    wanted = history.call("c2", "book")
    for i in range(3):
        history.say(str(i))
    floor = history.head.pulse.entry_count
    history.answer("c2", "booked")
    lines = [line for line in history.lines if line.seq in (call, wanted) or line.seq > floor]
    window = make(history.head, lines, floor=floor, asked=Asked("openai", 50, 1_000))
    assert window.seqs == {wanted, floor + 1}


# -- names and ids


@pytest.mark.parametrize("family", DIALECTS)
@pytest.mark.parametrize("call_id", ["c1", "x" * 128, "functions.f:0", "ü"])
def test_call_ids_fit_the_api_and_the_same_one_is_always_the_same(family: str, call_id: str) -> None:
    histories = [History(), History()]
    histories[1].say("something before")
    for history in histories:
        history.call(call_id)
        history.answer(call_id, "1")
    renamed = [made(history, family).renamed for history in histories]
    assert renamed[0] == renamed[1]
    assert set(renamed[0].values()) == (set() if call_id == "c1" else {call_id})


def test_an_id_that_looks_like_the_alias_of_another_gets_one_of_its_own(history: History) -> None:
    history.call("a b")
    alias = next(iter(made(history).renamed))
    history.call(alias, "other")
    assert sorted(made(history).renamed.values()) == sorted(["a b", alias])


def test_a_realtime_item_has_the_id_of_its_entry_so_that_a_restore_done_twice_doubles_nothing(history: History) -> None:
    history.say("a", id="utterance-1")
    history.say("b", id="x" * 128)
    history.call("c1", id="call-entry")
    ids = [item["id"] for item in json.loads(made(history, "realtime").body)["items"]]
    assert (ids[0], ids[2]) == ("utterance-1", "call-entry")
    history.say("c")
    assert [item["id"] for item in json.loads(made(history, "realtime").body)["items"]][:4] == ids


@pytest.mark.parametrize(
    ("name", "plain", "gemini"),
    [("book", "book", "book"), ("a.b:c", "a_b_c", "a.b:c"), ("3d", "3d", "_3d"), ("n" * 99, "n" * 64, "n" * 64)],
)
def test_names_of_functions_are_changed_as_little_as_the_api_wants(
    history: History, name: str, plain: str, gemini: str
) -> None:
    history.call("c1", name)
    assert messages(history)[0] == ("calls", plain)
    part = json.loads(made(history, "gemini").body)["contents"][1]["parts"][0]
    assert part["functionCall"]["name"] == gemini


# -- bounds


def test_a_window_without_bounds_stands_for_the_whole_log_and_a_cut_one_says_where_it_begins(history: History) -> None:
    seqs = [history.say(str(i)) for i in range(10)]
    assert made(history).from_seq == 1
    cut = made(history, entries=4)
    assert (cut.seqs, cut.from_seq, cut.to_seq) == (set(seqs[-4:]), seqs[-4], seqs[-1])


@pytest.mark.parametrize("family", [*DIALECTS, "raw"])
def test_a_window_is_filled_up_to_its_tokens(family: str) -> None:
    history = History()
    for i in range(200):
        history.say("word " * 20, "assistant" if i % 2 else "user")
    for tokens in (2_000, 5_000):
        window = made(history, family, tokens=tokens)
        assert tokens * 0.9 < window.tokens_estimate <= tokens
        assert window.tokens_estimate == -(-len(window.body) // BYTES_PER_TOKEN)
        assert window.from_seq > 1


def test_the_newest_turn_is_there_however_large_it_is(history: History) -> None:
    history.say("small")
    seq = history.say("x" * 60_000)
    window = made(history, tokens=10)
    assert (window.seqs, window.from_seq) == ({seq}, seq)


def test_a_raw_window_holds_entries_byte_for_byte_also_those_that_say_nothing(history: History) -> None:
    history.say("a", heard=None, data={"n": 1})
    history.add(type="custom.note")
    history.call("c1")
    history.answer("c1", "1")
    history.answer("c1", "later")
    body = made(history, "raw").body
    assert body == b'{"entries":[%b]}' % b",".join(line.data for line in history.lines)
    last = made(history, "raw", entries=1)
    assert last.seqs == {line.seq for line in history.lines[-3:]}
    assert [decode_entry(line.data).type for line in history.lines[-3:]].count("function_call_output") == 2


# -- whose word is first and last


@pytest.mark.parametrize("family", ["anthropic", "gemini"])
def test_where_the_user_says_nothing_first_or_last_a_note_says_so(history: History, family: str) -> None:
    history.say("Good morning", "assistant")
    text = made(history, family).body.decode()
    assert "[The conversation begins with the assistant.]" in text
    assert "[The user has not replied yet.]" in text
    history = History()
    history.say("Good morning")
    assert b"[The" not in made(history, family).body


@pytest.mark.parametrize("family", DIALECTS)
def test_a_session_in_which_nothing_was_said_has_a_window_without_turns(family: str) -> None:
    history = History()
    history.say("be nice", "system")
    body = json.loads(made(history, family).body)
    assert body in (
        {"messages": [{"role": "system", "content": "be nice"}]},
        {"messages": [], "system": "be nice"},
        {"contents": [], "system": "be nice"},
        {
            "items": [
                {
                    "id": "e3",
                    "type": "message",
                    "role": "system",
                    "content": [{"type": "input_text", "text": "be nice"}],
                }
            ]
        },
    )


def test_gemini_gets_responses_in_the_order_of_the_calls_and_a_signature_for_the_first_call_alone(
    history: History,
) -> None:
    history.call("a", "a")
    history.call("b", "b")
    history.answer("b", {"x": 1})
    history.answer("a", [1], status="failed")
    contents = json.loads(made(history, "gemini").body)["contents"]
    assert [sorted(part) for part in contents[1]["parts"]] == [["functionCall", "thoughtSignature"], ["functionCall"]]
    responses = [part["functionResponse"] for part in contents[2]["parts"]]
    assert responses == [{"name": "a", "response": {"error": "[1]"}}, {"name": "b", "response": {"x": 1}}]
