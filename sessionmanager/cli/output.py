"""What commands write: exit codes, errors in one line, and text that cannot play tricks on a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
DENIED: Final = 5
UNAVAILABLE: Final = 6
TIMED_OUT: Final = 7
DAMAGED: Final = 8
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    OK: "done",
    FAILURE: "failed",
    USAGE: "called wrongly, or a setting is wrong",
    NOT_FOUND: "not found, or erased",
    CONFLICT: "the session's state does not allow it",
    DENIED: "no valid token, or not allowed for it",
    UNAVAILABLE: "the service or one of its tiers cannot be reached",
    TIMED_OUT: "no answer in time",
    DAMAGED: "stored data does not check",
    INTERRUPTED: "stopped by Ctrl-C",
}


def exit_codes_help() -> str:
    """The paragraph that `--help` ends with."""
    return "\b\nExit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in EXIT_CODES.items())


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


def fail(what: str, next_step: str, code: int, *, as_json: bool = False) -> int:
    """Write an error as one line on stderr and answer its exit code."""
    if as_json:
        line = json.dumps({"error": what, "next": next_step, "exit_code": code}, ensure_ascii=False)
    else:
        line = f"error: {plain(what)}" + (f"; next: {plain(next_step)}" if next_step else "")
    click.echo(line, err=True)
    return code


def wants_json() -> bool:
    """Whether the command that runs in this thread was called with `--json`."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("as_json"))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def print_line(line: bytes) -> None:
    """One line of JSON as it came, at once, so that whoever follows sees it."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def plain(text: str) -> str:
    """The text on one line, with everything that a terminal would act on escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns side by side, the first row being their names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)
