"""Random histories, cut anywhere: no strict reader of any dialect objects, and nothing is lost that should be there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionmanager.model.entry import StoredEntry, decode_entry
from sessionmanager.model.window.texts import EMPTY_OUTPUT, INTERRUPTED, NO_OUTPUT_YET
from sessionmanager.model.window.units import Unit, uncovered, units_of
from sessionmanager.model.window.window import DIALECTS, Asked, Window, make
from tests.support.dialects import CHECKERS, objections
from tests.support.dialects.history import History, histories

pytestmark = pytest.mark.unit

ALL = 1_000_000
FAMILIES = tuple(CHECKERS)


def window(history: History, family: str, cut: int = 0, entries: int = 500, tokens: int = ALL) -> Window:
    """The window of what lies after `cut`, as the core would read it: with older system entries, the newest older
    summary and the calls whose outputs are left."""
    return make(history.head, seen(history, cut), floor=cut, asked=Asked(family, entries, tokens))


def seen(history: History, cut: int) -> list[StoredEntry]:
    newer = [line for line in history.lines if line.seq > cut]
    older = [line for line in history.lines if line.seq <= cut]
    return [*_kept(older, newer), *newer]


def _kept(older: list[StoredEntry], newer: list[StoredEntry]) -> list[StoredEntry]:
    entries = [decode_entry(line.data) for line in older]
    orphans = [entry.call_id for entry in units_of(decode_entry(line.data) for line in newer).unpaired]
    kept: set[int] = {
        entry.seq for entry in entries if entry.type == "message" and entry.role in ("system", "developer")
    }
    kept |= set(sorted(entry.seq for entry in entries if entry.type == "summary")[-1:])
    for entry in reversed(entries):
        if entry.type == "function_call" and entry.call_id in orphans:
            orphans.remove(entry.call_id)
            kept.add(entry.seq)
    return [line for line in older if line.seq in kept]


def body(found: Window) -> dict[str, Any]:
    return json.loads(found.body)


def says(unit: Unit) -> bool:
    return unit.kind != "nothing"


@settings(deadline=None)
@given(histories())
def test_no_reader_objects_to_a_window_cut_at_any_position(history: History) -> None:
    for family in FAMILIES:
        for cut in range(len(history.lines)):
            assert objections(family, body(window(history, family, cut))) == [], (family, cut)


ENDS: tuple[tuple[str, ...], ...] = ((), ("suspend",), ("suspend", "resume"), ("end",), ("fail",))
"""What comes after a crash: nothing yet, or what the worker and whoever comes next do."""


@settings(max_examples=25, deadline=None)
@given(histories(size_max=12), st.integers(1, 6))
def test_no_reader_objects_wherever_a_crash_or_a_suspend_ends_a_history(history: History, entries: int) -> None:
    """At every commit: a crash is known by what it leaves, which is a history without an end."""
    for commits in range(1, history.head.version + 1):
        for moves in ENDS:
            found = history.crashed(commits)
            for move in moves:
                found.move(move)
            for family in FAMILIES:
                for bound in (entries, 500):
                    told = objections(family, body(window(found, family, entries=bound)))
                    assert told == [], (family, commits, moves, bound)


@settings(deadline=None)
@given(histories(), st.integers(1, 12), st.integers(1, 600))
def test_no_reader_objects_whatever_the_bounds_and_a_window_holds_to_them(
    history: History, entries: int, tokens: int
) -> None:
    for family in FAMILIES:
        found = window(history, family, entries=entries, tokens=tokens)
        assert objections(family, body(found)) == []
        least = window(history, family, entries=1, tokens=1)
        assert found.tokens_estimate <= max(tokens, least.tokens_estimate)
        assert found.seqs >= least.seqs
        units = uncovered(units_of((decode_entry(line.data) for line in history.lines), raw=family == "raw").units)
        counted = {s for u in units if u.kind not in ("system", "summary") for s in u.seqs if s in found.seqs}
        assert len(counted) <= max(entries, len(least.seqs))


def within(one: tuple[int, int], ranges: list[tuple[int, int]]) -> bool:
    return any(first <= one[0] and one[1] <= last for first, last in ranges)


@settings(deadline=None)
@given(histories(), st.integers(0, 12), st.integers(1, 12))
def test_a_window_stands_for_every_entry_of_its_range(history: History, cut: int, entries: int) -> None:
    """It holds it, or a summary in it covers it, or it says nothing, or it is told."""
    cut = min(cut, len(history.lines) - 1)
    for family in FAMILIES:
        found = window(history, family, cut, entries)
        units = units_of(decode_entry(line.data) for line in seen(history, cut)).units
        silent = {unit.entry.seq for unit in units if not says(unit)}
        there = {line.seq for line in history.lines if line.seq >= found.from_seq}
        twice = there - {seq for unit in units for seq in unit.seqs}
        ranges = [one for unit in found.summaries for one in unit.covers]
        covered = {seq for first, last in ranges for seq in range(first, last + 1)}
        # An older summary of what a newer one in the window sums up as well says nothing of its own.
        older = {unit.entry.seq for unit in units if unit.covers and all(within(one, ranges) for one in unit.covers)}
        # One that sums up what lies before the window is left with it.
        before = {unit.entry.seq for unit in units if unit.covers and unit.last < found.from_seq}
        told = found.seqs | silent | covered | set(found.unpaired) | twice | older | before
        assert there <= told
        assert found.to_seq == len(history.lines)


@settings(deadline=None)
@given(histories())
def test_no_call_is_hidden_and_none_without_an_output_looks_done(history: History) -> None:
    entries = [decode_entry(line.data) for line in history.lines]
    units = [unit for unit in uncovered(units_of(entries).units) if unit.kind == "called"]
    open_seqs = {call.seq for call in history.head.work.open_calls if call.interrupted_at is None}
    resumed = max((e.seq for e in entries if e.type == "status" and b'"resume"' in bytes(e.data or b"")), default=0)
    live = history.head.status not in ("dormant", "ended", "error")
    expected: list[str] = []
    for unit in units:
        if unit.output is None:
            running = live and unit.entry.seq in open_seqs and unit.entry.seq > resumed
            expected.append(bytes(NO_OUTPUT_YET if running else INTERRUPTED).decode())
    messages = body(window(history, "openai"))["messages"]
    outputs = [message["content"] for message in messages if message["role"] == "tool"]
    assert len(outputs) == len(units)
    assert sorted(o for o in outputs if o in (bytes(INTERRUPTED).decode(), bytes(NO_OUTPUT_YET).decode())) == sorted(
        expected
    )


@settings(deadline=None)
@given(histories())
def test_no_window_is_empty_while_there_is_something_to_say(history: History) -> None:
    units = units_of(decode_entry(line.data) for line in history.lines).units
    if not any(says(unit) and unit.kind != "system" for unit in units):
        return
    for family in DIALECTS:
        made = body(window(history, family, entries=1, tokens=1))
        assert next(made[name] for name in ("messages", "contents", "items") if name in made)


@settings(deadline=None)
@given(histories())
def test_all_dialects_choose_the_same_entries(history: History) -> None:
    chosen = [window(history, family, entries=7).seqs for family in DIALECTS]
    assert all(one == chosen[0] for one in chosen)


@settings(deadline=None)
@given(histories(), st.integers(0, 10))
def test_what_is_newer_is_kept_before_what_is_older(history: History, entries: int) -> None:
    """A larger window holds the smaller one."""
    for family in FAMILIES:
        small = window(history, family, entries=max(1, entries))
        large = window(history, family, entries=entries + 5)
        assert small.seqs <= large.seqs
        assert small.from_seq >= large.from_seq


@settings(deadline=None)
@given(histories())
def test_the_same_history_gives_the_same_bytes(history: History) -> None:
    for family in FAMILIES:
        assert window(history, family).body == window(history, family).body


def test_an_output_that_says_nothing_is_said_to_be_empty() -> None:
    history = History()
    history.call("c1")
    history.answer("c1", " ")
    for family in DIALECTS:
        assert EMPTY_OUTPUT in window(history, family).body.decode()
