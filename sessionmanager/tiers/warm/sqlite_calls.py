"""Rows of calls: claims, look-ups, lists. The rows themselves are written by commits (`sqlite_changes`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from sessionmanager.model.change import CallRow
from sessionmanager.model.codec import unframe
from sessionmanager.tiers.warm.protocol import CALL_COLUMNS, CallPage, CallQuery, FoundCall, Position
from sessionmanager.tiers.warm.sqlite_changes import Changes
from sessionmanager.tiers.warm.sqlite_reads import snapshot
from sessionmanager.words import Instant, Key

_ROW: Final = "id, version, state, gateway, direction, caller, callee, started_at, settled_at, data"
_NOT_ERASED: Final = (
    "NOT EXISTS (SELECT 1 FROM sessions s WHERE s.tenant = c.tenant AND s.id = c.session AND s.tombstone IS NOT NULL)"
)
_INDEXES: Final = {"session": "calls_by_session", "caller": "calls_by_caller", "callee": "calls_by_callee"}
_BOUNDS: Final = {
    "started_at": ("started_after", "started_before"),
    "settled_at": ("settled_after", "settled_before"),
}


def claim_call(changes: Changes, tenant: str, call_id: str, session: str, instead_of: str | None) -> str:
    """See `WarmCalls.claim_call`."""
    no = changes.made(tenant)
    execute = changes.cursor.execute
    row = execute("SELECT no, session, version FROM calls WHERE tenant = ? AND id = ?", (no, call_id)).fetchone()
    if row is None:
        execute("INSERT INTO calls (tenant, id, session) VALUES (?, ?, ?)", (no, call_id, session))
        return session
    seat = changes.seat(Key(tenant, row[1]))
    if not (seat is not None and seat.erased) and not (row[1] == instead_of and row[2] == 0):
        return row[1]
    execute("DELETE FROM calls WHERE no = ?", row[:1])
    execute("INSERT INTO calls (tenant, id, session) VALUES (?, ?, ?)", (no, call_id, session))
    return session


def find_call(connection: sqlite3.Connection, tenant: str, call_id: str) -> FoundCall | None:
    """See `WarmCalls.find_call`."""
    row = connection.execute(
        f"SELECT session, {_ROW} FROM calls c"  # noqa: S608 - our words
        f" WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND id = ? AND {_NOT_ERASED}",
        (tenant, call_id),
    ).fetchone()
    return None if row is None else FoundCall(row[0], _row(row[1:]) if row[2] else None)


def list_calls(connection: sqlite3.Connection, query: CallQuery, now: Instant) -> CallPage:
    """See `WarmCalls.list_calls`. One index gives the order; what it cannot say is looked at in each row."""
    with snapshot(connection):
        tenant = connection.execute("SELECT no FROM tenants WHERE name = ?", (query.tenant,)).fetchone()
        if tenant is None:
            return CallPage((), None, now)
        sql, values = _statement(query, tenant[0])
        items: list[CallRow] = []
        last: Position | None = None
        for looked, (at, matches, *row) in enumerate(connection.execute(sql, values)):
            if looked == query.scan_max or len(items) == query.limit:
                return CallPage(tuple(items), last, now)
            last = Position(at, row[0])
            if matches:
                items.append(_row(row))
    return CallPage(tuple(items), None, now)


def _statement(query: CallQuery, tenant: int) -> tuple[str, list[object]]:
    """Rows in order, one more than may be looked at, each with whether it matches what the index does not say."""
    equal = dict(query.equal)
    lead = next((name for name in CALL_COLUMNS if name in equal and name in _INDEXES), None)
    walk, walked = ["c.tenant = ?"], list[object]([tenant])
    matches, matched = [_NOT_ERASED], list[object]()
    if query.sort == "settled_at":
        index, lead = "calls_by_end", None
        walk.append("c.settled_at IS NOT NULL")
    elif lead is not None:
        index = _INDEXES[lead]
        walk += [f"c.{lead} = ?", "c.started_at IS NOT NULL"]
        walked.append(equal.pop(lead))
    elif equal.get("state", "ended") != "ended":
        index = "calls_live"
        walk += ["c.settled_at IS NULL", "c.started_at IS NOT NULL"]
    else:
        index = "calls_by_start"
        walk.append("c.started_at IS NOT NULL")
    newest_first = query.sort == "started_at"
    if query.after is not None:
        walk.append(f"(c.{query.sort}, c.id) {'<' if newest_first else '>'} (?, ?)")
        walked += query.after
    for column, names in _BOUNDS.items():
        for operator, bound in zip((">=", "<"), (getattr(query, name) for name in names), strict=True):
            if bound is not None:
                conditions, values = (walk, walked) if column == query.sort else (matches, matched)
                conditions.append(f"c.{column} {operator} ?")
                values.append(bound)
    for name, value in equal.items():
        assert name in CALL_COLUMNS, "a filter that no list has"
        matches.append(f"c.{name} = ?")
        matched.append(value)
    order = f"ORDER BY c.{query.sort} {'DESC' if newest_first else 'ASC'}, c.id {'DESC' if newest_first else 'ASC'}"
    sql = (
        f"SELECT c.{query.sort}, coalesce({' AND '.join(matches)}, 0), {_ROW}"  # noqa: S608 - our words
        f" FROM calls c INDEXED BY {index} WHERE {' AND '.join(walk)} {order} LIMIT ?"
    )
    return sql, [*matched, *walked, query.scan_max + 1]


def live_calls(connection: sqlite3.Connection) -> Mapping[str, int]:
    """See `WarmCalls.live_calls`. Cost: the live calls there are."""
    rows = connection.execute(
        f"SELECT state, count(*) FROM calls c INDEXED BY calls_live"  # noqa: S608 - our words
        f" WHERE settled_at IS NULL AND started_at IS NOT NULL AND {_NOT_ERASED} GROUP BY state"
    )
    return dict(rows.fetchall())


def _row(row: Any) -> CallRow:
    *columns, data = row
    return CallRow(*columns, data=unframe(data))
