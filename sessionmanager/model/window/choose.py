"""Which units a window holds: the newest that fit, without a hole, and whatever must never be missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sessionmanager.model.window.units import Unit


class Chosen(NamedTuple):
    """units: in the order of the window. cut: the window stands for everything after this seq. system_left: how many
    system entries did not fit."""

    units: list[Unit]
    cut: int
    system_left: int


def choose(
    units: Sequence[Unit], size: Callable[[Unit], int], *, floor: int, entries_max: int, bytes_max: int
) -> Chosen:
    """The newest turn and the oldest system entry, whatever they weigh; then, as far as bytes go, the newest summary
    and the other system entries; then turn after turn into the past, as far as bytes and entries go.

    Entries count both halves of a call; system entries and the newest summary are beyond that count. floor: up to this
    seq nothing was looked at, but for system entries, summaries, and calls whose output came later.
    """
    system = [unit for unit in units if unit.kind == "system"]
    turns = [unit for unit in units if unit.kind != "system" and (unit.last > floor or unit.kind == "summary")]
    turns.sort(key=_newest_first)
    kept = {unit.entry.seq: unit for unit in turns[:1] + system[:1]}
    room = bytes_max - sum(size(unit) for unit in kept.values())
    newest_summary = max((u for u in turns if u.kind == "summary"), key=lambda u: u.entry.seq, default=None)
    system_left = 0
    for unit in ([] if newest_summary is None else [newest_summary]) + system[:0:-1]:
        if unit.entry.seq in kept:
            continue
        if size(unit) <= room:
            kept[unit.entry.seq] = unit
            room -= size(unit)
        elif unit.kind == "system":
            system_left += 1
    count = sum(len(unit.seqs) for unit in turns[:1])
    cut = None
    for unit in turns[1:]:
        if unit.entry.seq in kept:
            continue
        count += len(unit.seqs)
        room -= size(unit)
        if count > entries_max or room < 0:
            cut = max(floor, unit.last)
            break
        kept[unit.entry.seq] = unit
    chosen = _in_order(list(kept.values()))
    return Chosen(chosen, _summed_up(chosen, floor) if cut is None else cut, system_left)


def _summed_up(chosen: Sequence[Unit], floor: int) -> int:
    """The floor, or the place from which chosen summaries stand for what lies before it."""
    ranges = sorted((one for unit in chosen for one in unit.covers), reverse=True)
    for first, last in ranges:
        if first <= floor <= last:
            floor = first - 1
    return floor


def _newest_first(unit: Unit) -> tuple[int, int]:
    return (-unit.last, -unit.entry.seq)


def _in_order(units: Sequence[Unit]) -> list[Unit]:
    """By their places; system entries that a summary covers come before it, and all else that is left of its range
    after it."""
    ranges = [unit.covers[0] for unit in units if unit.covers]

    def place(unit: Unit) -> tuple[int, int, int]:
        seq = unit.entry.seq
        if unit.kind == "system":
            return (min((first for first, last in ranges if first <= seq <= last), default=seq), 0, seq)
        return (unit.place, 1 if unit.covers else 2, seq)

    return sorted(units, key=place)
