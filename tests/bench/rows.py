"""A row of the table, and the table."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    "=": operator.eq,
}


class Plan(NamedTuple):
    """How much to do. quick: just enough to see that a row comes out; its numbers mean nothing."""

    quick: bool = False

    @property
    def pairs(self) -> int:
        return 1 if self.quick else 9

    @property
    def seconds(self) -> float:
        return 0.5 if self.quick else 1.0


class Row(Struct, frozen=True, kw_only=True):
    """One thing measured. beside: what else was measured in the same run, and its value. ratio: value over that, or
    what the target is about. target: `>= 0.7`, of the ratio where there is one, else of the value; None = only told."""

    name: str
    value: float
    unit: str
    beside: str | None = None
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None


def row(
    name: str,
    value: float,
    unit: str,
    *,
    beside: str | None = None,
    ratio: float | None = None,
    target: str | None = None,
) -> Row:
    """A row that says whether its target is met. What is judged is what is shown: the rounded number."""
    value, ratio = _rounded(value), None if ratio is None else round(ratio, 3)
    met = None
    if target is not None:
        sign, _, bound = target.partition(" ")
        met = _HOLDS[sign](value if ratio is None else ratio, float(bound))
    return Row(name=name, value=value, unit=unit, beside=beside, ratio=ratio, target=target, met=met)


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def paired(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The medians of both sides, and the median of their ratios: turns of a pair follow each other, so what the machine
    does beside them touches both."""
    ours, other = statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
    return ours, other, statistics.median(a / b for a, b in pairs)


def table(rows: Sequence[Row]) -> str:
    """The rows for a terminal."""
    lines = [("", "what", "value", "beside", "ratio", "target")]
    marks = {True: "ok", False: "MISSED", None: ""}
    for each in rows:
        ratio = "" if each.ratio is None else f"{each.ratio:g}"
        value = f"{each.value:,g} {each.unit}" if each.value < 1000 else f"{each.value:,.0f} {each.unit}"
        lines.append((marks[each.met], each.name, value, each.beside or "", ratio, each.target or ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
