"""Records of ended calls for billing: complete, in one order for ever, the same bytes whenever they are asked for.

Rows are in the order in which ends were recorded (`settled_at`), and a period is one of that time: no row ever moves
from one period to another, and none comes later into a period that was told to be complete.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sessionmanager.model import instants
from sessionmanager.model.calls.rows import CallOf, decode_call
from sessionmanager.model.calls.states import disposition
from sessionmanager.model.change import CallRow
from sessionmanager.tiers.warm.protocol import CallQuery, Position, Warm
from sessionmanager.words import Instant

LAG_SECONDS: Final = 5.0
"""Ends so fresh are not told yet: a commit that was decided before another may land after it."""
COLUMNS: Final = (
    "call_id", "session_id", "gateway", "gateway_call_id", "direction", "caller", "callee", "started_at", "ringing_at",
    "answered_at", "ended_at", "settled_at", "setup_seconds", "ring_seconds", "talk_seconds", "hold_seconds",
    "disposition", "end_reason", "ended_by", "sip_code", "q850_cause", "estimated",
)  # fmt: skip
_SECONDS: Final = frozenset(name for name in COLUMNS if name.endswith("_seconds"))
_FORMULA: Final = ("+", "-", "=", "@", "\t", "\r")


class Export(NamedTuple):
    """A page of ended calls. end: from where a later request goes on, also at the end of what there is; None = nothing
    was there at all. complete_until: every call that settled before is told, or was on an earlier page."""

    rows: tuple[CallRow, ...]
    end: Position | None
    more: bool
    complete_until: Instant


async def export(warm: Warm, query: CallQuery) -> Export:
    """The next page of ended calls. Cost: one list."""
    page = await warm.list_calls(query._replace(sort="settled_at"))
    until = min(page.complete_until, instants.plus(warm.now(), -LAG_SECONDS))
    told = tuple(row for row in page.items if (row.settled_at or until) < until)
    cut = len(told) < len(page.items)
    end = page.next
    if end is None or cut:
        last = told[-1] if told else None
        end = Position(last.settled_at or "", last.id) if last is not None else query.after
    return Export(told, end, page.next is not None and not cut, until)


def csv_page(rows: Sequence[CallRow], *, header: bool, spreadsheet: bool) -> bytes:
    """RFC 4180: lines end with CR LF, cells are quoted where they must be. spreadsheet: cells that one would read as a
    formula, a number with its plus among them, begin with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        call = decode_call(row.data)
        cells = [_cell(call, name) for name in COLUMNS]
        writer.writerow([f"'{cell}" if spreadsheet and cell.startswith(_FORMULA) else cell for cell in cells])
    return text.getvalue().encode()


def ndjson_page(rows: Sequence[CallRow]) -> bytes:
    """One call a line, as `GET /calls` has it."""
    return b"".join([row.data + b"\n" for row in rows])


def _cell(call: CallOf, name: str) -> str:
    if name == "disposition":
        return disposition(call)
    value: Any = getattr(call, "id" if name == "call_id" else name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.3f}" if name in _SECONDS else str(value)
