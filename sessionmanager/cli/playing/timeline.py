"""A timeline in the terminal: what happened, which tier answered, how long it took. Or the same as lines of JSON."""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from typing import Final, Literal

import click

from sessionmanager.cli.output import plain, print_json

Mark = Literal["step", "crash", "good", "bad"]
COLUMNS_MIN: Final = 80
COLUMNS_MAX: Final = 120
STEP_COLUMNS: Final = 12
INDENT: Final = 8 + 2 + STEP_COLUMNS + 1
AROUND_COLUMNS: Final = INDENT + 1 + 4 + 1 + 9
"""What a line has beside the detail: time, sign, step, tier, milliseconds."""
_COLOURS: Final = {"hot": "red", "warm": "yellow", "cold": "cyan"}
_MARKS: Final = {
    "step": ("●", "*", "green"),
    "crash": ("✗", "x", "red"),
    "good": ("✓", "=", "green"),
    "bad": ("✗", "!", "red"),
}


class Timeline:
    """Writes each line at once. Nothing but text goes to what is no terminal; NO_COLOR (no-color.org) is honoured."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._began = time.perf_counter()
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._signs = (sys.stdout.encoding or "").lower().startswith("utf")
        self._columns = min(max(shutil.get_terminal_size((100, 24)).columns, COLUMNS_MIN), COLUMNS_MAX)

    def title(self, text: str) -> None:
        if self._as_json:
            return
        rule = ("─" if self._signs else "-") * self._columns
        click.echo(f"{self._style(cut(self._shown(text), self._columns), bold=True)}\n{self._style(rule, dim=True)}")

    def step(
        self,
        name: str,
        detail: str,
        *,
        tier: str | None = None,
        ms: float | None = None,
        more: str | None = None,
        mark: Mark = "step",
    ) -> None:
        """One thing that happened, just now. tier: which one answered. ms: how long it took. more: a line below."""
        at = time.perf_counter() - self._began
        if self._as_json:
            taken = None if ms is None else round(ms, 3)
            line = {"step": name, "detail": detail, "more": more, "tier": tier, "ms": taken, "at_ms": round(at * 1000)}
            print_json(line)
            sys.stdout.flush()
            return
        sign, plain_sign, colour = _MARKS[mark]
        loud = mark != "step"
        room = self._columns - AROUND_COLUMNS
        cells = [
            self._style(f"{at:6.2f}s ", dim=True),
            self._style(sign if self._signs else plain_sign, fg=colour) + " ",
            self._style(fill(name, STEP_COLUMNS), bold=loud, fg=colour if loud else None) + " ",
            fill(cut(self._shown(detail), room), room) + " ",
            self._style(f"{tier or '':<4}", fg=_COLOURS.get(tier or "")) + " ",
            "" if ms is None else f"{_number(ms):>6} ms",
        ]
        click.echo("".join(cells).rstrip())
        if more is not None:
            click.echo(" " * INDENT + self._style(cut(self._shown(more), self._columns - INDENT), dim=True))
        sys.stdout.flush()

    def _shown(self, text: str) -> str:
        return plain(text) if self._signs else plain(text).encode("ascii", "replace").decode()

    def note(self, text: str) -> None:
        """A line of its own, under the last step."""
        if not self._as_json:
            click.echo(self._style(cut(self._shown(text), self._columns), dim=True))

    def end(self, text: str, *, good: bool) -> None:
        """The last line for people."""
        if self._as_json:
            return
        rule = ("─" if self._signs else "-") * self._columns
        sign = _MARKS["good" if good else "bad"][0 if self._signs else 1]
        click.echo(self._style(rule, dim=True))
        click.echo(self._style(f"{sign} {self._shown(text)}", fg="green" if good else "red", bold=True))

    def _style(self, text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
        if not self._colour or not (fg or bold or dim):
            return text
        return click.style(text, fg=fg, bold=bold or None, dim=dim or None)


def _number(ms: float) -> str:
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def width(text: str) -> int:
    """How many columns a text takes: wide signs two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 or c in "\u200d\ufe0f" for c in text)


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns."""
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def fill(text: str, columns: int) -> str:
    return text + " " * max(0, columns - width(text))
