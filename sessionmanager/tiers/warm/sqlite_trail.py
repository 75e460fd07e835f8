"""Pages of the audit trail, newest first; at most `scan_max` lines are looked at for each.

Without a session, the tenant's lines are walked downwards. With one, its chain is: from the newest line of its head, by
`prev`; then the lines that named it before it was, by their index. Those are all older than the chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.protocol import TrailPage, TrailQuery
from sessionmanager.tiers.warm.sqlite_reads import snapshot
from sessionmanager.tiers.warm.sqlite_schema import TRAIL_BITS

DISORDER_SECONDS: Final = 3600.0
"""How far the times of lines may be out of order with their places (the clock was set back between two runs)."""

_COLUMNS: Final = "l.pos, l.prev, l.at, l.actor, l.action, l.outcome, l.version, l.request_id, l.session, l.named"
_POS_MASK: Final = (1 << TRAIL_BITS) - 1
_Row = tuple[int, int | None, str | None, str, str, str, int | None, str | None, int | None, str | None]


def trail(connection: sqlite3.Connection, query: TrailQuery) -> TrailPage:
    """See `WarmRecords.trail`."""
    with snapshot(connection):
        row = connection.execute("SELECT no FROM tenants WHERE name = ?", (query.tenant,)).fetchone()
        if row is None:
            return TrailPage((), None)
        first = int(row[0]) << TRAIL_BITS
        end = first | _POS_MASK if query.before is None else first + min(max(query.before, 0), _POS_MASK)
        if query.session is None:
            rows = _of_tenant(connection, first, end)
        else:
            rows = _of_session(connection, row[0], query.session, first, end)
        floor = instants.plus(query.since, -DISORDER_SECONDS) if query.since is not None else ""
        items: list[tuple[int, Trail]] = []
        last: int | None = None
        for looked, line in enumerate(rows):
            if looked == query.scan_max or len(items) == query.limit:
                return TrailPage(tuple(items), last)
            last = line[0] & _POS_MASK
            at = line[2]
            if at is not None and at < floor:
                break
            if at is not None and _wanted(query, at, line):
                items.append((last, _line(connection, query.tenant, row[0], line)))
    return TrailPage(tuple(items), None)


def _wanted(query: TrailQuery, at: str, line: _Row) -> bool:
    return (
        (query.actor is None or query.actor == line[3])
        and (query.action is None or query.action == line[4])
        and (query.outcome is None or query.outcome == line[5])
        and (query.since is None or at >= query.since)
        and (query.until is None or at < query.until)
    )


def _of_tenant(connection: sqlite3.Connection, first: int, end: int) -> Iterator[_Row]:
    yield from connection.execute(
        f"SELECT {_COLUMNS} FROM trail l WHERE l.pos >= ? AND l.pos < ? ORDER BY l.pos DESC",  # noqa: S608 - our words
        (first, end),
    )


def _of_session(connection: sqlite3.Connection, tenant: int, session: str, first: int, end: int) -> Iterator[_Row]:
    """Lines of one session, named by its id or, once it is erased, by its hash as well."""
    row = (
        connection.execute(
            "SELECT no, last, id FROM sessions WHERE tenant = ? AND id = ?", (tenant, session)
        ).fetchone()
        or connection.execute(
            "SELECT no, last, id FROM sessions WHERE tenant = ? AND hash = ?", (tenant, session)
        ).fetchone()
    )
    no, pos, session_id = row or (None, None, session)
    one = f"SELECT {_COLUMNS} FROM trail l WHERE l.pos = ?"  # noqa: S608 - our words
    if no is not None and pos is not None and pos >= end:
        # The line where the last page ended is most often of this chain: go on from there, not from the top.
        seen: _Row | None = connection.execute(one, (end,)).fetchone()
        if seen is not None and seen[8] == no:
            pos = seen[1]
    while pos is not None:
        line: _Row | None = connection.execute(one, (pos,)).fetchone()
        if line is None:
            break
        if pos < end:
            yield line
        pos = line[1]
    yield from connection.execute(
        f"SELECT {_COLUMNS} FROM trail l WHERE l.named = ? AND l.pos >= ? AND l.pos < ? ORDER BY l.pos DESC",  # noqa: S608
        (session_id, first, end),
    )


def _line(connection: sqlite3.Connection, tenant_name: str, tenant: int, line: _Row) -> Trail:
    _, _, at, actor, action, outcome, version, request_id, no, named = line
    assert at is not None
    if no is not None:
        row = connection.execute("SELECT id, hash FROM sessions WHERE no = ?", (no,)).fetchone()
    else:
        row = connection.execute(
            "SELECT id, hash FROM sessions WHERE tenant = ? AND id = ?", (tenant, named)
        ).fetchone()
    session = named if row is None else row[1] or row[0]
    return Trail(at, tenant_name, actor, action, outcome, session, version, request_id)
