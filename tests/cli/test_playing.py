"""The parts of the demo that need no service: reading and comparing a recording, the story's plan, the timeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.cli.demo import RECORDING
from sessionmanager.cli.failures import Gone
from sessionmanager.cli.playing.recording import Recording, compact, compare, read_recording
from sessionmanager.cli.playing.story import plan_of
from sessionmanager.cli.playing.timeline import Timeline, cut, fill, width

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read_recording(RECORDING)


def as_stored(entries: Sequence[bytes]) -> list[bytes]:
    """What the service makes of them: its own members round theirs, its own lines first."""
    own = [b'{"seq":1,"version":1,"id":"e1","type":"state","data":{},"at":"t","recorded_at":"t","actor":"a"}']
    return own + [
        b'{"seq":%d,"version":%d,%b,"recorded_at":"t","actor":"a"}' % (i, i, entry[1:-1])
        for i, entry in enumerate(entries, 2)
    ]


def test_the_recorded_call_is_as_rich_as_its_page_says(recording: Recording) -> None:
    drafts = recording.drafts
    assert recording.turns >= 45
    assert len(drafts) >= 60
    assert sum(draft.type == "function_call" for draft in drafts) >= 4
    assert sum(draft.type == "summary" for draft in drafts) == 1
    assert sum(draft.status == "failed" for draft in drafts if draft.type == "function_call_output") == 1
    text = b"".join(recording.entries)
    assert all(part in text for part in (b"1.10", b"1e5", b"39.980", b"1E-2", b"9223372036854775807", b"\\u00e9"))


def test_every_call_of_the_recording_has_its_output(recording: Recording) -> None:
    calls = [draft.call_id for draft in recording.drafts if draft.type == "function_call"]
    outputs = [draft.call_id for draft in recording.drafts if draft.type == "function_call_output"]
    assert sorted(map(str, calls)) == sorted(map(str, outputs))


def test_a_history_that_came_back_as_it_was_said_has_no_difference(recording: Recording) -> None:
    found = compare(recording.entries, as_stored(recording.entries))
    assert found.differences == ()
    assert found.same == found.of == len(recording.entries)
    assert found.bytes == sum(map(len, recording.entries))


@pytest.mark.parametrize(
    ("was", "became"),
    [
        pytest.param(b"1.10", b"1.1", id="a number's text"),
        pytest.param(b"1e5", b"100000.0", id="an exponent"),
        pytest.param(b"1E-2", b"1e-2", id="the case of an exponent"),
        pytest.param(b"9223372036854775807", b"9223372036854775808", id="the last digit of a large number"),
        pytest.param(b"\\u00e9", "é".encode(), id="an escape"),
        pytest.param("Größmann".encode(), "Grössmann".encode(), id="a letter"),
        pytest.param(b'"heard":', b'"herd":', id="a member's name"),
        pytest.param(b'"rec-040"', b'"rec-040b"', id="an id"),
    ],
)
def test_one_byte_that_differs_is_found(recording: Recording, was: bytes, became: bytes) -> None:
    changed = list(recording.entries)
    i = next(i for i, entry in enumerate(changed) if was in entry)
    changed[i] = changed[i].replace(was, became, 1)
    found = compare(recording.entries, as_stored(changed))
    assert found.differences
    assert found.same == found.of - 1
    assert {difference.at for difference in found.differences} == {f"rec-{i + 1:03d}"}


def test_a_missing_a_doubled_and_a_misplaced_entry_are_found(recording: Recording) -> None:
    entries = list(recording.entries)
    last = len(entries) - 1
    for changed in (entries[:-1], [*entries, entries[last]], [*entries[:-2], entries[last], entries[last - 1]]):
        assert compare(entries, as_stored(changed)).differences


def test_a_member_that_nobody_said_is_found(recording: Recording) -> None:
    changed = list(recording.entries)
    changed[3] = changed[3][:-1] + b',"data":{}}'
    (difference,) = compare(recording.entries, as_stored(changed)).differences
    assert (difference.member, difference.recorded, difference.found) == ("data", None, "{}")


def test_white_space_alone_is_taken_out_of_a_json_text() -> None:
    text = '{ "a" : [ 1.10 , "x  y\\u00e9" ],\n "ü": 1e5 }'
    assert compact(text.encode()) == '{"a":[1.10,"x  y\\u00e9"],"ü":1e5}'.encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"format": 2}, "format 2", id="a later format"),
        pytest.param({"entries": []}, "at least", id="too short"),
        pytest.param({"surprise": 1}, "surprise", id="an unknown member"),
        pytest.param(
            {"entries": [{"type": "message", "role": "user", "content": "a"}] * 8}, "id of its own", id="no ids"
        ),
        pytest.param({"entries": [{"type": "state", "id": f"x{i}"} for i in range(8)]}, "/entries/0/type", id="a type"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "call.json"
    path.write_text(json.dumps({"format": 1, "meta": {}, "entries": [], **change}))
    with pytest.raises(Gone, match=says):
        read_recording(path)


def test_the_story_drops_in_cut_off_speech_and_kills_at_an_open_function_call(recording: Recording) -> None:
    plan = plan_of(recording.drafts)
    assert 0 < plan.drop < plan.kill < plan.pause < len(recording.drafts)
    assert recording.drafts[plan.drop].heard
    assert recording.drafts[plan.kill].type == "function_call"


@pytest.mark.parametrize("count", [8, 9, 20, 500])
def test_a_recording_of_any_length_has_room_for_the_story(recording: Recording, count: int) -> None:
    greeting = next(draft for draft in recording.drafts if draft.type == "message")
    plan = plan_of([greeting] * count)
    assert 0 < plan.drop < plan.kill < plan.pause < count


# -- the timeline


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 400])
def test_no_line_is_wider_than_the_terminal_within_80_to_120_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    timeline = Timeline(as_json=False)
    timeline.title("title " * 50)
    timeline.step("caller drops", "Größmann 🎄 " * 30, tier="warm", ms=12_345.6, more="“🎄” " * 60, mark="crash")
    timeline.end("done", good=True)
    widths = [width(line) for line in capsys.readouterr().out.splitlines()]
    assert max(widths) <= min(max(columns, 80), 120)


@pytest.mark.parametrize("value", ["", "1"])
def test_colour_goes_to_a_terminal_alone_and_not_where_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    for tty in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda tty=tty: tty)
        timeline = Timeline(as_json=False)
        timeline.step("kill -9", "pid 1", mark="crash")
        assert ("\x1b[" in capsys.readouterr().out) == (tty and not value)


def test_with_json_each_step_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    timeline = Timeline(as_json=True)
    timeline.title("nothing")
    timeline.step("read", "version 7", tier="cold", ms=1.23456)
    timeline.end("nothing", good=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) | {"at_ms": 0} == {
        "step": "read", "detail": "version 7", "more": None, "tier": "cold", "ms": 1.235, "at_ms": 0
    }  # fmt: skip


def test_texts_are_cut_and_filled_by_what_they_take_on_the_screen() -> None:
    assert cut("🎄🎄🎄", 5) == "🎄🎄…"
    assert width(fill("ü🎄", 10)) == 10
    assert cut("short", 5) == "short"
