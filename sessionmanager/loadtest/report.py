"""A run's figures as pictures and one page: `report.html` with its PNG files beside it. Needs matplotlib."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from sessionmanager.loadtest.plan import Plan, users_of
from sessionmanager.loadtest.verdict import TOTAL, Route, Verdict

mpl.use("Agg")

SIZE_INCHES: Final = (9.0, 3.2)
DPI: Final = 110
MIB: Final = 1 << 20
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{width:100%}.no{color:#b00020;font-weight:600}.yes{color:#1b6e2d}
"""

Series = list[tuple[float, float]]
"""Points of a line: seconds since the start, value."""


class Samples:
    """What was written down each second. memory: serving process → bytes; processor: → share of one core."""

    def __init__(self, lines: Iterable[str]) -> None:
        read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("\n")]
        began = read[0]["at"] if read else 0.0
        self.users: Series = [(each["at"] - began, each["users"]) for each in read]
        self.memory: dict[str, Series] = defaultdict(list)
        self.processor: dict[str, Series] = defaultdict(list)
        self.errors: Series = []
        self.throughput: Series = []
        for before, now in pairwise(read):
            seconds = now["at"] - before["at"]
            at = now["at"] - began
            self.throughput.append((at, (now["requests"] - before["requests"]) / seconds))
            self.errors.append((at, (now["failures"] - before["failures"]) / seconds))
            for name, value in now["server"].items():
                kind, _, process = name.partition("{")
                process = process.rstrip("}") or "service"
                if kind == "process_resident_memory_bytes":
                    self.memory[process].append((at, value))
                elif kind == "process_cpu_seconds_total" and name in before["server"]:
                    self.processor[process].append((at, (value - before["server"][name]) / seconds))


def latencies(lines: Iterable[str]) -> dict[str, dict[str, Series]]:
    """Of locust's `*_stats_history.csv`: route → {"50%", "99%"} → milliseconds over time."""
    found: dict[str, dict[str, Series]] = defaultdict(lambda: {"50%": [], "99%": []})
    began: float | None = None
    for row in csv.DictReader(lines):
        at = float(row["Timestamp"])
        began = at if began is None else began
        name = f"{row['Type']} {row['Name']}".strip()
        for share in ("50%", "99%"):
            if row[share] not in ("", "N/A"):
                found[name][share].append((at - began, float(row[share])))
    return found


def write(
    folder: Path,
    plan: Plan,
    routes: Sequence[Route],
    verdicts: Sequence[Verdict],
    samples: Samples,
    history: Mapping[str, Mapping[str, Series]],
) -> Path:
    """Draw and write everything into `folder`, which is there; the page's path."""
    total = history.get(TOTAL, {})
    per_route = {name: shares["99%"] for name, shares in history.items() if name != TOTAL and shares["99%"]}
    pictures = {
        "latency": _draw("Latency of all requests", "ms", {"p50": total.get("50%", []), "p99": total.get("99%", [])}),
        "throughput": _draw("Throughput", "requests/s", {"requests": samples.throughput}),
        "errors": _draw("Failed requests", "1/s", {"failures": samples.errors}),
        "memory": _draw("Memory", "MiB", {k: [(t, v / MIB) for t, v in line] for k, line in samples.memory.items()}),
        "processor": _draw("Processor", "cores", samples.processor),
        "users": _draw("Users", "", {"users": samples.users}),
        "routes": _draw("p99 by route", "ms", per_route),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)
    page = folder / "report.html"
    page.write_text(_page(plan, routes, verdicts, tuple(pictures)), encoding="utf-8")
    return page


def _draw(title: str, unit: str, lines: Mapping[str, Series]) -> Figure:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot([at for at, _ in points], [value for _, value in points], label=name, linewidth=1)
    axes.set(title=title, xlabel="seconds", ylabel=unit, ylim=(0, None))
    axes.grid(alpha=0.3)
    if 1 < len(lines) <= 16:
        axes.legend(fontsize="x-small", ncols=2)
    return figure


def _page(plan: Plan, routes: Sequence[Route], verdicts: Sequence[Verdict], pictures: Sequence[str]) -> str:
    who = ", ".join(f"{count:,} {kind}" for kind, count in users_of(plan).items())
    passed = all(each.passed for each in verdicts)
    judged = "".join(
        f"<tr><td>{escape(each.what)}<td>{escape(each.found)}<td>{escape(each.allowed)}"
        f'<td class="{"yes" if each.passed else "no"}">{"passed" if each.passed else "missed"}'
        for each in verdicts
    )
    asked = "".join(
        f"<tr><td>{escape(each.name)}<td>{each.requests:,}<td>{each.failures:,}<td>{each.p50:.0f}<td>{each.p99:.0f}<td>{each.worst:.0f}"
        for each in routes
    )
    images = "".join(f'<img src="{name}.png" alt="{name} over time">' for name in pictures)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title><style>{_STYLE}</style>'
        f"<h1>Load test: {'passed' if passed else 'missed'}</h1>"
        f"<p>{escape(who)}; {plan.seconds} s; "
        f"{plan.turns_per_second:.0f} turns a second asked for once all had begun.</p>"
        f"<table><tr><th>criterion<th>found<th>allowed<th>{judged}</table>"
        f"<table><tr><th>route<th>requests<th>failed<th>p50 ms<th>p99 ms<th>worst ms{asked}</table>{images}</html>\n"
    )
