"""What looking at a tier finds: one thing that holds, that is worth knowing, or that must be mended."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

ROUND_TRIPS: Final = 5
"""Calls that a round trip is measured by."""

Level = Literal["ok", "note", "bad"]


class Finding(NamedTuple):
    """check: what was looked at, a word or two. mend: what to do about it, empty where nothing is to be done."""

    level: Level
    check: str
    detail: str
    mend: str = ""


def ok(check: str, detail: str) -> Finding:
    return Finding("ok", check, detail)


def note(check: str, detail: str, mend: str = "") -> Finding:
    return Finding("note", check, detail, mend)


def bad(check: str, detail: str, mend: str) -> Finding:
    return Finding("bad", check, detail, mend)


def round_trip(seconds: Sequence[float], *, slow_ms: float, mend: str) -> Finding:
    """The median of some calls; `slow_ms` and more is worth knowing."""
    median = statistics.median(seconds) * 1000
    told = f"{median:.1f} ms at the median of {len(seconds)}"
    return ok("round trip", told) if median < slow_ms else note("round trip", told, mend)


def clock(seconds_ahead: float, *, most: float, mend: str) -> Finding:
    """How far the server's clock is ahead of this machine's; a second says nothing."""
    if abs(seconds_ahead) < 1:
        return ok("clock", "the server's clock and this one agree within a second")
    told = f"the server's clock is {abs(seconds_ahead):.1f} s {'ahead of' if seconds_ahead > 0 else 'behind'} this one"
    return ok("clock", told) if abs(seconds_ahead) < most else bad("clock", told, mend)
