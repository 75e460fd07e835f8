"""Entries made whole: a function call with its output, a summary with what it covers, and everything else alone.

A window holds units or leaves them out; it never holds a part of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import replace

from sessionmanager.model.entry import Entry
from sessionmanager.model.window.texts import answer_of, arguments_of, spoken, text_of
from sessionmanager.model.window.turns import Speaker

Range = tuple[int, int]
"""The first and the last seq."""
Kind = Literal["system", "said", "called", "summary", "nothing"]
SPOKEN: Final = frozenset(("message", "function_call", "function_call_output", "summary"))
"""Entry types that say something to a model."""
_ROLES: Final[dict[str, Speaker]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


class Unit(Struct, frozen=True):
    """What stays together. kind `nothing`: it says nothing to a model, and only a raw window holds it.

    entry: the entry, of a call the call itself. output: of a call. text: of what was said. covers: the ranges of seqs
    that a summary stands for, its own first, then those of summaries that it covers. more: what else was told of a
    call, in a raw window.
    """

    kind: Kind
    entry: Entry
    role: Speaker = "user"
    text: str = ""
    output: Entry | None = None
    covers: tuple[Range, ...] = ()
    more: tuple[int, ...] = ()

    @property
    def seqs(self) -> tuple[int, ...]:
        """Its entries, in the order of the log."""
        own = (self.entry.seq,) if self.output is None else (self.entry.seq, self.output.seq)
        return own if not self.more else tuple(sorted((*own, *self.more)))

    @property
    def place(self) -> int:
        """Where it stands in a window: a call where it was made, a summary where what it covers began."""
        return self.covers[0][0] if self.covers else self.entry.seq

    @property
    def last(self) -> int:
        """The seq by which it is chosen: that of its newest entry, of a summary the newest that it stands for."""
        return self.covers[0][1] if self.covers else self.seqs[-1]


class Units(NamedTuple):
    """unpaired: outputs whose call is not among the entries."""

    units: list[Unit]
    unpaired: list[Entry]


def units_of(entries: Iterable[Entry], *, raw: bool = False) -> Units:
    """All entries as units, by the seq of their first. An output answers the oldest call of its `call_id` that waits.

    A call that is told twice, word for word, while it waits is one call, and so is an output that is told twice; a
    later output that says something else is kept as a message. raw: all of them are parts of the call.
    """
    units: list[Unit] = []
    unpaired: list[Entry] = []
    waiting: dict[str, deque[int]] = {}
    answered: dict[str, int] = {}
    for entry in entries:
        call_id = "" if entry.call_id is UNSET else entry.call_id
        call: int | None = None
        if entry.type == "function_call":
            queue = waiting.setdefault(call_id, deque())
            call = next((i for i in queue if _same_call(units[i].entry, entry)), None)
            if call is None:
                queue.append(len(units))
                units.append(Unit("called", entry))
                continue
        elif entry.type == "function_call_output":
            if waiting.get(call_id):
                call = answered[call_id] = waiting[call_id].popleft()
                units[call] = replace(units[call], output=entry)
                continue
            if call_id not in answered:
                unpaired.append(entry)
                continue
            call = answered[call_id]
            if not raw and (late := _late(units[call], entry)) is not None:
                units.append(late)
        else:
            units.append(_alone(entry))
            continue
        if raw:
            units[call] = replace(units[call], more=(*units[call].more, entry.seq))
    return Units(units, unpaired)


def _same_call(one: Entry, other: Entry) -> bool:
    return one.name == other.name and bytes(arguments_of(one.arguments)) == bytes(arguments_of(other.arguments))


def _late(call: Unit, output: Entry) -> Unit | None:
    """An output for a call that has one: the model sees what it adds, where it came."""
    text = answer_of(output).text
    if call.output is not None and answer_of(call.output).text == text:
        return None
    name = "" if call.entry.name is UNSET else call.entry.name
    return Unit("said", output, "user", f"[Later output of {name}] {text}")


def _alone(entry: Entry) -> Unit:
    if entry.type == "message":
        text = spoken(entry).strip()
        role = _ROLES.get("" if entry.role is UNSET else entry.role)
        if not text:
            return Unit("nothing", entry)
        if role is None:  # an output without the id of its call: no API takes it as one
            return Unit("said", entry, "user", f"[Output of a tool] {text}")
        return Unit("system" if role == "system" else "said", entry, role, text)
    if entry.type == "summary":
        text = text_of(entry.content).strip()
        covers = _covers(entry)
        if text and covers is not None:
            return Unit("summary", entry, "user", f"[Summary of what came before] {text}", covers=(covers,))
    return Unit("nothing", entry)


def _covers(summary: Entry) -> Range | None:
    """What came before it, at most."""
    if summary.from_seq is UNSET or summary.to_seq is UNSET:
        return None
    first, last = max(1, summary.from_seq), min(summary.to_seq, summary.seq - 1)
    return (first, last) if first <= last else None


def uncovered(units: Sequence[Unit]) -> list[Unit]:
    """The units without those that a newer summary stands for. Of summaries that cover another the newest stays, and
    stands for what the other stood for.

    System entries stay, and so does a call that is not covered whole: the summary does not know how it ended.
    """
    live: dict[int, list[Range]] = {}
    for unit in sorted((one for one in units if one.covers), key=lambda one: -one.entry.seq):
        over = next((ranges for ranges in live.values() if _within(unit.entry.seq, ranges)), None)
        if over is None:
            live[unit.entry.seq] = [unit.covers[0]]
        else:
            over.append(unit.covers[0])
    covered = [one for ranges in live.values() for one in ranges]
    return [
        replace(unit, covers=tuple(live[unit.entry.seq])) if unit.covers else unit
        for unit in units
        if (unit.entry.seq in live if unit.covers else _stays(unit, covered))
    ]


def _stays(unit: Unit, covered: Sequence[Range]) -> bool:
    if unit.kind == "system" or (unit.kind == "called" and unit.output is None):
        return True
    return not all(_within(seq, covered) for seq in unit.seqs)


def _within(seq: int, ranges: Sequence[Range]) -> bool:
    return any(first <= seq <= last for first, last in ranges)
