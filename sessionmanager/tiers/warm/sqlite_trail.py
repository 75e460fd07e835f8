"""The audit trail, which is also the memory of commit ids: written in batches, read newest first.

All lines that one transaction has for a tenant are one row, at a third of the cost of a row each; a line's place is
that of its row plus its place within. The lines of a session form a chain, from `sessions.last` by `prev` downwards.
Lines that named a session before there was one are found by `trail_named`; they are all older than the chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import frame, unframe
from sessionmanager.tiers.warm.protocol import TrailPage, TrailQuery
from sessionmanager.tiers.warm.sqlite_schema import TRAIL_BITS
from sessionmanager.words import Instant

BATCH_MAX: Final = 256
"""Lines in one row: what reading a single one has to decode."""
TENANTS_MAX: Final = 8_192
"""Tenants whose newest place is remembered; all are forgotten when there are more."""
DISORDER_SECONDS: Final = 3600.0
"""How far the times of lines may be out of order with their places (the clock was set back between two runs)."""

_POS_MASK: Final = (1 << TRAIL_BITS) - 1


class Line(msgspec.Struct, frozen=True, array_like=True):
    """A line as it is kept. `session`: its number, `named`: its id where it has none. `at` is None, as is all after it,
    for a commit that nobody asked for; `rev` is None for what was no commit."""

    session: int | None
    prev: int | None
    rev: int | None
    commit_id: bytes | None
    at: Instant | None = None
    actor: str = ""
    action: str = ""
    outcome: str = ""
    version: int | None = None
    request_id: str | None = None
    named: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[Line])


def _decode(data: bytes) -> list[Line]:
    try:
        return _decoder.decode(unframe(data))
    except msgspec.MsgspecError as error:
        raise DataCorrupt("stored lines of the trail do not read as such") from error


class TrailWriter:
    """Gathers the lines of one transaction. `flush` must come before its COMMIT, `forget` after its ROLLBACK."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._execute = cursor.execute
        self._ends: dict[int, int] = {}
        self._batches: dict[int, list[Line]] = {}

    def place(self, tenant: int) -> int:
        """Where the tenant's next line will lie."""
        end = self._ends.get(tenant)
        if end is None:
            end = self._ends[tenant] = self._newest(tenant)
        return end + 1

    def add(self, tenant: int, line: Line) -> None:
        """Take a line for the place that `place` told last."""
        self._ends[tenant] += 1
        batch = self._batches.get(tenant)
        if batch is None:
            self._batches[tenant] = [line]
            return
        batch.append(line)
        if len(batch) >= BATCH_MAX:
            self._write(tenant, self._batches.pop(tenant))

    def flush(self) -> None:
        """Write what was gathered."""
        for tenant, batch in self._batches.items():
            self._write(tenant, batch)
        self._batches.clear()
        if len(self._ends) > TENANTS_MAX:
            self._ends.clear()

    def forget(self) -> None:
        self._ends.clear()
        self._batches.clear()

    def _write(self, tenant: int, batch: list[Line]) -> None:
        first = self._ends[tenant] - len(batch) + 1
        self._execute("INSERT INTO trail VALUES (?, ?)", (first, frame(_encode(batch))))

    def _newest(self, tenant: int) -> int:
        first = tenant << TRAIL_BITS
        row = self._execute(
            "SELECT pos, data FROM trail WHERE pos >= ? AND pos <= ? ORDER BY pos DESC LIMIT 1",
            (first, first | _POS_MASK),
        ).fetchone()
        return first if row is None else int(row[0]) + len(_decode(row[1])) - 1


def line_at(connection: sqlite3.Connection, pos: int) -> Line | None:
    """The line at a place. Cost: one seek, and the decoding of its batch."""
    row = connection.execute("SELECT pos, data FROM trail WHERE pos <= ? ORDER BY pos DESC LIMIT 1", (pos,)).fetchone()
    if row is None or row[0] >> TRAIL_BITS != pos >> TRAIL_BITS:
        return None
    batch = _decode(row[1])
    at = pos - int(row[0])
    return batch[at] if at < len(batch) else None


def page(connection: sqlite3.Connection, query: TrailQuery) -> TrailPage:
    """See `WarmRecords.trail`. At most `scan_max` lines are looked at."""
    row = connection.execute("SELECT no FROM tenants WHERE name = ?", (query.tenant,)).fetchone()
    if row is None:
        return TrailPage((), None)
    tenant = int(row[0])
    first = tenant << TRAIL_BITS
    end = first | (_POS_MASK if query.before is None else min(max(query.before, 0), _POS_MASK))
    walk = _of_tenant(connection, first, end)
    if query.session is not None:
        walk = _of_session(connection, tenant, query.session, first, end)
    floor = instants.plus(query.since, -DISORDER_SECONDS) if query.since is not None else ""
    items: list[tuple[int, Trail]] = []
    last: int | None = None
    for looked, (pos, line) in enumerate(walk):
        if looked == query.scan_max or len(items) == query.limit:
            return TrailPage(tuple(items), last)
        last = pos & _POS_MASK
        if line.at is None:
            continue
        if line.at < floor:
            break
        if _wanted(query, line, line.at):
            items.append((last, _told(connection, query.tenant, tenant, line, line.at)))
    return TrailPage(tuple(items), None)


def _wanted(query: TrailQuery, line: Line, at: Instant) -> bool:
    return (
        (query.actor is None or query.actor == line.actor)
        and (query.action is None or query.action == line.action)
        and (query.outcome is None or query.outcome == line.outcome)
        and (query.since is None or at >= query.since)
        and (query.until is None or at < query.until)
    )


def _of_tenant(connection: sqlite3.Connection, first: int, end: int) -> Iterator[tuple[int, Line]]:
    rows = connection.execute("SELECT pos, data FROM trail WHERE pos > ? AND pos < ? ORDER BY pos DESC", (first, end))
    for start, data in rows:
        batch = _decode(data)
        for at in range(min(len(batch), end - start) - 1, -1, -1):
            yield start + at, batch[at]


def _of_session(
    connection: sqlite3.Connection, tenant: int, session: str, first: int, end: int
) -> Iterator[tuple[int, Line]]:
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
    if pos is not None and pos >= end:
        # The line where the last page ended is most often of this chain: go on from there, not from the top.
        seen = line_at(connection, end)
        if seen is not None and seen.session == no:
            pos = seen.prev
    while pos is not None:
        line = line_at(connection, pos)
        if line is None:
            break
        if pos < end:
            yield pos, line
        pos = line.prev
    rows = connection.execute(
        "SELECT pos FROM trail_named WHERE tenant = ? AND named = ? AND pos > ? AND pos < ? ORDER BY pos DESC",
        (tenant, session_id, first, end),
    )
    for (named_at,) in rows:
        line = line_at(connection, named_at)
        if line is not None:
            yield named_at, line


def _told(connection: sqlite3.Connection, tenant_name: str, tenant: int, line: Line, at: Instant) -> Trail:
    """The line as auditors get it: an erased session is named by its hash, even in lines older than itself."""
    if line.session is not None:
        row = connection.execute("SELECT id, hash FROM sessions WHERE no = ?", (line.session,)).fetchone()
    else:
        row = connection.execute(
            "SELECT id, hash FROM sessions WHERE tenant = ? AND id = ?", (tenant, line.named)
        ).fetchone()
    session = line.named if row is None else row[1] or row[0]
    return Trail(at, tenant_name, line.actor, line.action, line.outcome, session, line.version, line.request_id)
