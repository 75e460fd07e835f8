"""`make bench-peers`: every store at every length, in turns, each in a process of its own; writes docs/benchmarks.md.

Run by the interpreter of .venv-peers, which has the others and matplotlib; ours is run by that of .venv.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.bench.peers.measure import KEPT, STORES

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURES: Final = ROOT / "docs" / "benchmarks"
LENGTHS: Final = (10, 1_000, 10_000)
APPENDS: Final = 200
CELL_SECONDS: Final = 600
OURS: Final = "tests.bench.peers.ours"
COLUMNS: Final = (
    ("append_p50_ms", "append p50, ms"),
    ("append_p99_ms", "append p99, ms"),
    ("resume_p50_ms", "resume p50, ms"),
    ("written_per_turn", "written a turn, bytes"),
    ("stored_per_turn", "stored a turn, bytes"),
)


def cell(name: str, turns: int, appends: int) -> dict[str, Any] | None:
    """One store at one length; None where it took too long, told on stderr."""
    python = ROOT / ".venv" / "bin" / "python" if STORES[name].startswith(OURS) else Path(sys.executable)
    command = [str(python), "-m", "tests.bench.peers.measure", name, str(turns), str(appends)]
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        try:
            done = subprocess.run(
                [*command, folder], cwd=ROOT, capture_output=True, text=True, timeout=CELL_SECONDS, check=False,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{name}, {turns} turns: not within {CELL_SECONDS} s", file=sys.stderr)
            return None
    if done.returncode:
        sys.exit(f"{name}, {turns} turns: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[str, dict[int, dict[str, Any] | None]]) -> str:
    lines = [
        f"| store | turns before | {' | '.join(title for _, title in COLUMNS)} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for name, cells in found.items():
        for turns, values in cells.items():
            shown = ["—"] * len(COLUMNS) if values is None else [_shown(values[key]) for key, _ in COLUMNS]
            lines.append(f"| {name} | {turns:,} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def draw(found: dict[str, dict[int, dict[str, Any] | None]]) -> None:
    """One picture a column that is worth one, as SVG with its text as text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "peers"
    PICTURES.mkdir(parents=True, exist_ok=True)
    for key, title in COLUMNS:
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        for name, cells in found.items():
            points = [(turns, values[key]) for turns, values in cells.items() if values and values[key] is not None]
            if points:
                axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
        axes.set(title=title, xlabel="turns before", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
        figure.savefig(PICTURES / f"{key}.svg", metadata={"Date": None})


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench-peers", description="Measure beside session stores of others.")
    parser.add_argument("--quick", action="store_true", help="just to see that it runs; the page stays as it is")
    parser.add_argument("--turns", action="append", type=int, choices=LENGTHS, help="only so many; more than once")
    given = parser.parse_args(arguments)
    lengths, appends = ((10,), 5) if given.quick else (given.turns or LENGTHS, APPENDS)
    busy = [os.getloadavg()[0]]
    found: dict[str, dict[int, dict[str, Any] | None]] = {name: {} for name in STORES}
    for turns in lengths:
        for name in STORES:
            found[name][turns] = cell(name, turns, appends)
            print(f"{name}, {turns:,} turns: {found[name][turns]}", flush=True)
    print(table(found))
    busy.append(os.getloadavg()[1])
    if not given.quick:
        draw(found)
        before, _, _ = PAGE.read_text(encoding="utf-8").partition("<!-- made -->")
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
        machine += (
            f"; processes that wanted to run, on the average: {busy[0]:.1f} before, {busy[1]:.1f} towards the end"
        )
        pictures = "\n\n".join(f"![{title}](benchmarks/{key}.svg)" for key, title in COLUMNS)
        made = f"{machine}; {appends} appends, resume of {KEPT} messages.\n\n{table(found)}\n\n{pictures}\n"
        PAGE.write_text(f"{before}<!-- made -->\n\n{made}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
