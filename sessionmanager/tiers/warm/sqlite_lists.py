"""Reads that look at many rows: lists, due sessions, counts. They run in the reader's thread, each on one snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from sessionmanager.model.codec import Stored, unframe
from sessionmanager.tiers.warm import sqlite_trail
from sessionmanager.tiers.warm.protocol import ListPage, ListQuery, Position, TrailPage, TrailQuery
from sessionmanager.tiers.warm.sqlite_reads import snapshot
from sessionmanager.tiers.warm.sqlite_schema import FAR_PARTS, PART_BITS
from sessionmanager.words import Instant, Key

PROBE_ROWS: Final = 200
"""How far each term is counted to find the rarest, which then leads."""
_BOUNDS: Final = {
    "created_at": ("created_after", "created_before"),
    "last_activity": ("active_after", "active_before"),
}


def list_sessions(connection: sqlite3.Connection, query: ListQuery) -> ListPage:
    """See `WarmHeads.list`. One index gives the order of the list; what it cannot say is looked up for each row."""
    with snapshot(connection):
        row = connection.execute("SELECT no FROM tenants WHERE name = ?", (query.tenant,)).fetchone()
        if row is None:
            return ListPage((), None)
        sql, values = _statement(query, row[0], _rarest_first(connection, row[0], query.terms))
        items: list[Stored] = []
        last: Position | None = None
        for looked, (at, session_id, no, matches) in enumerate(connection.execute(sql, values)):
            if looked == query.scan_max or len(items) == query.limit:
                return ListPage(tuple(items), last)
            last = Position(at, session_id)
            if matches:
                items.append(_summary(connection, Key(query.tenant, session_id), no))
    return ListPage(tuple(items), None)


def _rarest_first(connection: sqlite3.Connection, tenant: int, terms: tuple[str, ...]) -> tuple[str, ...]:
    """The terms with the rarest in front, as far as a bounded count can tell."""
    if len(terms) < 2:
        return terms
    counts = {
        term: connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM terms WHERE tenant = ? AND term = ? LIMIT ?)",
            (tenant, term, PROBE_ROWS),
        ).fetchone()[0]
        for term in terms
    }
    return tuple(sorted(counts, key=lambda term: int(counts[term])))


def _statement(query: ListQuery, tenant: int, terms: tuple[str, ...]) -> tuple[str, list[object]]:
    """Rows `(at, id, no, matches)`, newest first, one more than may be looked at.

    By creation, a term leads where there is one; by activity, the order does, for it changes too often to be kept with
    every term. Conditions on the leading columns bound the walk, all others make `matches`.
    """
    by_term = bool(terms) and query.sort == "created_at"
    lead, rest = ("terms", terms[1:]) if by_term else ("listings", terms)
    walk, walked = ["l.tenant = ?"], [tenant, *terms[:1]] if by_term else [tenant]
    if by_term:
        walk.append("l.term = ?")
    matches: list[str] = []
    matched: list[object] = []
    values: list[object] = list(walked)
    if query.after is not None:
        walk.append(f"(l.{query.sort}, l.id) < (?, ?)")
        values += query.after
    joined = False
    for column, (after, before) in _BOUNDS.items():
        for operator, bound in ((">=", getattr(query, after)), ("<", getattr(query, before))):
            if bound is None:
                continue
            if column == query.sort:
                walk.append(f"l.{column} {operator} ?")
                values.append(bound)
            else:
                joined = joined or by_term
                matches.append(f"{'k' if by_term else 'l'}.{column} {operator} ?")
                matched.append(bound)
    for term in rest:
        matches.append(
            "EXISTS (SELECT 1 FROM terms o WHERE o.tenant = l.tenant AND o.term = ?"
            " AND o.created_at = l.created_at AND o.id = l.id)"
        )
        matched.append(term)
    join = " CROSS JOIN listings k ON k.no = l.no" if joined else ""
    sql = (
        f"SELECT l.{query.sort}, l.id, l.no, {' AND '.join(matches) or '1'} FROM {lead} l{join}"  # noqa: S608 - our words
        f" WHERE {' AND '.join(walk)} ORDER BY l.{query.sort} DESC, l.id DESC LIMIT ?"
    )
    return sql, [*matched, *values, query.scan_max + 1]


def _summary(connection: sqlite3.Connection, key: Key, no: int) -> Stored:
    rev, version, placement, pulse = connection.execute(
        "SELECT rev, version, placement, pulse FROM sessions WHERE no = ?", (no,)
    ).fetchone()
    parts = {"pulse": unframe(pulse)}
    profile = connection.execute(
        "SELECT data FROM parts WHERE pos = ?", (no << PART_BITS | FAR_PARTS["profile"],)
    ).fetchone()
    if profile is not None:
        parts["profile"] = unframe(profile[0])
    return Stored(key, rev, version, parts, placement=placement)


def trail(connection: sqlite3.Connection, query: TrailQuery) -> TrailPage:
    with snapshot(connection):
        return sqlite_trail.page(connection, query)


def due(connection: sqlite3.Connection, now: Instant, limit: int) -> list[Key]:
    """See `WarmHeads.due`."""
    rows = connection.execute(
        "SELECT t.name, s.id FROM sessions s CROSS JOIN tenants t ON t.no = s.tenant"
        " WHERE s.due_at <= ? ORDER BY s.due_at, s.no LIMIT ?",
        (now, max(limit, 0)),
    )
    return [Key(*row) for row in rows]


def counts(connection: sqlite3.Connection, tenant: str | None) -> Mapping[tuple[str, str], int]:
    """See `WarmRecords.counts`. Kept by each commit that changes one, never counted."""
    if tenant is None:
        sql, values = "", ()
    else:
        sql, values = " WHERE tenant = (SELECT no FROM tenants WHERE name = ?)", (tenant,)
    rows = connection.execute(
        f"SELECT status, placement, sum(count) FROM tallies{sql}"  # noqa: S608 - one of two texts above
        " GROUP BY status, placement HAVING sum(count) > 0",
        values,
    )
    return {(status, placement): count for status, placement, count in rows}
