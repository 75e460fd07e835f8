"""What a run measured, and whether that passes: pure, from rows as they were written during the run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from sessionmanager.loadtest.kept import Kept
from sessionmanager.loadtest.plan import Criteria

TOTAL: Final = "Aggregated"
"""The name of locust's row over all others."""
REPEATED: Final = "REPEATED"
"""The type of a row of tries that no user heard of, because the next one did what was asked."""


class Route(NamedTuple):
    """One kind of request. p50, p99, worst: milliseconds."""

    name: str
    requests: int
    failures: int
    p50: float
    p99: float
    worst: float


class Verdict(NamedTuple):
    """One criterion: what was found beside what is allowed."""

    what: str
    found: str
    allowed: str
    passed: bool


def routes_of(lines: Iterable[str]) -> list[Route]:
    """The rows of locust's `*_stats.csv`, its total last."""
    return [
        Route(
            f"{row['Type']} {row['Name']}".strip(),
            int(row["Request Count"]),
            int(row["Failure Count"]),
            _milliseconds(row["50%"]),
            _milliseconds(row["99%"]),
            _milliseconds(row["Max Response Time"]),
        )
        for row in csv.DictReader(lines)
    ]


def judge(
    criteria: Criteria, routes: Sequence[Route], memory: Mapping[str, Sequence[float]], kept: Kept
) -> list[Verdict]:
    """Every criterion with what was found. memory: process that served at the end → bytes, a sample a second.

    A run that measured nothing fails: it has shown nothing.
    """
    total = next((route for route in routes if route.name.endswith(TOTAL)), None)
    if total is None or not total.requests:
        return [Verdict("requests", "0", "at least 1", False)]
    share = total.failures / total.requests
    found = [
        Verdict("failed requests", f"{share:.4%}", f"{criteria.error_share_max:.4%}", share <= criteria.error_share_max)
    ]
    for route in routes:
        is_call = route is not total and not route.name.startswith(REPEATED)
        if is_call and route.requests >= criteria.samples_min:
            passed = route.p99 <= criteria.p99_ms_max
            found.append(
                Verdict(f"p99 of {route.name}", f"{route.p99:.0f} ms", f"{criteria.p99_ms_max:.0f} ms", passed)
            )
    for process, samples in sorted(memory.items()):
        if (grown := growth(samples)) is not None:
            passed = grown <= criteria.memory_growth_max
            found.append(
                Verdict(f"memory of {process}", f"× {grown:.2f}", f"× {criteria.memory_growth_max:.2f}", passed)
            )
    return [*found, _kept(kept)]


def _kept(kept: Kept) -> Verdict:
    faults = ((kept.lost, "lost"), (kept.doubled, "doubled"), (kept.unread, "sessions not read"))
    wrong = [f"{len(each)} {what}" for each, what in faults if each]
    there = f"{kept.entries:,} of {kept.sessions:,} sessions"
    return Verdict(
        "acknowledged entries", ", ".join([there, *wrong]), "each there once", not wrong and kept.sessions > 0
    )


def growth(samples: Sequence[float]) -> float | None:
    """The mean of the last tenth beside the mean of the tenth in the middle; None where there are too few samples."""
    tenth = len(samples) // 10
    if tenth < 2:
        return None
    middle = len(samples) // 2
    return fmean(samples[-tenth:]) / fmean(samples[middle : middle + tenth])


def _milliseconds(text: str) -> float:
    return float(text) if text not in ("", "N/A") else 0.0
