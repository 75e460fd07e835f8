"""A run's figures as pictures and one page: `report.html` with its PNG files beside it. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from sessionmanager.loadtest.plan import Plan, users_of
from sessionmanager.loadtest.samples import Samples, Series
from sessionmanager.loadtest.verdict import REPEATED, TOTAL, Route, Verdict

mpl.use("Agg")

SIZE_INCHES: Final = (9.0, 3.2)
DPI: Final = 110
HEADROOM: Final = 1.1
"""So that a line that stays at its height does not lie on the picture's edge."""
MIB: Final = 1 << 20
MARK_COLOUR: Final = "#b00020"
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{width:100%}.no{color:#b00020;font-weight:600}.yes{color:#1b6e2d}
"""


def write(
    folder: Path,
    plan: Plan,
    routes: Sequence[Route],
    verdicts: Sequence[Verdict],
    samples: Samples,
    history: Mapping[str, Mapping[str, Series]],
    marks: Sequence[tuple[float, str]],
) -> Path:
    """Draw and write everything into `folder`, which is there; the page's path. marks: a line each in every picture."""
    total = history.get(TOTAL, {})
    calls = (name for name in history if name != TOTAL and not name.startswith(REPEATED))
    per_route = {name: history[name]["99%"] for name in calls if history[name]["99%"]}
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
        _mark(figure, marks)
        figure.savefig(folder / f"{name}.png", dpi=DPI)
    page = folder / "report.html"
    page.write_text(_page(plan, routes, verdicts, marks, tuple(pictures)), encoding="utf-8")
    return page


def _draw(title: str, unit: str, lines: Mapping[str, Series]) -> Figure:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot([at for at, _ in points], [value for _, value in points], label=name, linewidth=1)
    highest = max((value for points in lines.values() for _, value in points), default=0.0)
    axes.set(title=title, xlabel="seconds", ylabel=unit, ylim=(0, highest * HEADROOM or 1))
    axes.grid(alpha=0.3)
    if 1 < len(lines) <= 16:
        axes.legend(fontsize="x-small", ncols=2)
    return figure


def _mark(figure: Figure, marks: Sequence[tuple[float, str]]) -> None:
    """An upright line for each thing that was done to the service, and what it was."""
    [axes] = figure.axes
    for at, what in marks:
        axes.axvline(at, color=MARK_COLOUR, linewidth=0.8, linestyle="--")
        axes.annotate(
            what, (at, 0.98), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right",
            fontsize="xx-small", color=MARK_COLOUR,
        )  # fmt: skip


def _page(
    plan: Plan,
    routes: Sequence[Route],
    verdicts: Sequence[Verdict],
    marks: Sequence[tuple[float, str]],
    pictures: Sequence[str],
) -> str:
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
    done = "".join(f"<li>after {at:.0f} s: {escape(what)}" for at, what in marks)
    images = "".join(f'<img src="{name}.png" alt="{name} over time">' for name in pictures)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title><style>{_STYLE}</style>'
        f"<h1>Load test: {'passed' if passed else 'missed'}</h1>"
        f"<p>{escape(who)}; {plan.seconds} s; "
        f"{plan.turns_per_second:.0f} turns a second asked for once all had begun.</p><ul>{done}</ul>"
        f"<table><tr><th>criterion<th>found<th>allowed<th>{judged}</table>"
        f"<table><tr><th>route<th>requests<th>failed<th>p50 ms<th>p99 ms<th>worst ms{asked}</table>{images}</html>\n"
    )
