"""The audit trail, which is also the memory of commit ids: written in batches, read newest first.

A row holds the lines of many commits, and each transaction writes the newest row of its tenants anew with its lines at
the end: that touches the same page as a row of their own would, at a third of the bytes. A line's place is that of its
row plus its place within. The lines of a session form a chain, from `sessions.last` by `prev` downwards. Lines that
named a session before there was one are found by `trail_named`; they are all older than the chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.protocol import TrailPage, TrailQuery
from sessionmanager.tiers.warm.sqlite_lines import Batch, Line, Words, decode
from sessionmanager.tiers.warm.sqlite_schema import TRAIL_BITS
from sessionmanager.words import Instant

BATCH_BYTES: Final = 1_280
"""A row takes no more lines once it has this many bytes: three rows fill a page, and reading a line decodes some 35."""
TENANTS_MAX: Final = 2_048
"""Tenants whose newest row is remembered; all are forgotten when there are more."""
DISORDER_SECONDS: Final = 3600.0
"""How far the times of lines may be out of order with their places (the clock was set back between two runs)."""

_POS_MASK: Final = (1 << TRAIL_BITS) - 1
_NEWEST: Final = "SELECT pos, data FROM trail WHERE pos >= ? AND pos <= ? ORDER BY pos DESC LIMIT 1"
_BETWEEN: Final = "\n"
"""Stands between the action and the outcome in the word of both, and in neither."""


class TrailWriter:
    """Gathers the lines of one transaction. `flush` must come before its COMMIT, `forget` after its ROLLBACK."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._execute = cursor.execute
        self._words = Words(cursor)
        self._newest: dict[int, Batch] = {}
        self._dirty: dict[int, Batch] = {}

    def add(
        self,
        tenant: int,
        told: Trail | None,
        session: int | None,
        prev: int | None,
        rev: int | None,
        commit_id: bytes | None,
    ) -> int:
        """Take a line; answers its place. `told` is None for a commit that nobody asked for."""
        batch = self._newest.get(tenant)
        if batch is None:
            batch = self._newest[tenant] = self._read(tenant)
        if batch.bytes >= BATCH_BYTES:
            if tenant in self._dirty:
                self._write(batch)
            batch = self._newest[tenant] = Batch(batch.first + batch.count)
        pos = batch.first + batch.count
        if told is None:
            batch.add(Line(session, prev, rev, commit_id))
        else:
            at, _, actor, action, outcome, named, version, request_id = told
            number = self._words.number
            act = number(f"{action}{_BETWEEN}{outcome}")
            named = named if session is None else None
            batch.add(Line(session, prev, rev, commit_id, at, number(actor), act, version, request_id, named))
        self._dirty[tenant] = batch
        return pos

    def flush(self) -> None:
        """Write what was gathered."""
        for batch in self._dirty.values():
            self._write(batch)
        self._dirty.clear()
        if len(self._newest) > TENANTS_MAX:
            self._newest.clear()

    def forget(self) -> None:
        self._newest.clear()
        self._dirty.clear()
        self._words.forget()

    def _write(self, batch: Batch) -> None:
        if batch.is_stored:
            self._execute("UPDATE trail SET data = ? WHERE pos = ?", (batch.data(), batch.first))
        else:
            self._execute("INSERT INTO trail (data, pos) VALUES (?, ?)", (batch.data(), batch.first))
            batch.is_stored = True

    def _read(self, tenant: int) -> Batch:
        first = tenant << TRAIL_BITS
        row = self._execute(_NEWEST, (first, first | _POS_MASK)).fetchone()
        return Batch(first + 1) if row is None else Batch.of(*row)


class TrailReader:
    """Lines of one moment, the last row and all words that were met kept at hand."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._first = self._end = 0
        self._lines: list[Line] = []
        self._words: dict[int, str] = {}

    def line(self, pos: int) -> Line | None:
        """The line at a place. Cost: one seek and the decoding of its row, nothing where the last line lay there."""
        if not self._first <= pos < self._end:
            first = pos >> TRAIL_BITS << TRAIL_BITS
            row = self.connection.execute(_NEWEST, (first, pos)).fetchone()
            if row is None:
                return None
            self._take(*row)
        return self._lines[pos - self._first] if pos < self._end else None

    def downwards(self, first: int, end: int) -> Iterator[tuple[int, Line]]:
        """Lines with `first < place < end`, newest first."""
        rows = self.connection.execute(
            "SELECT pos, data FROM trail WHERE pos > ? AND pos < ? ORDER BY pos DESC", (first, end)
        )
        for start, data in rows:
            lines = decode(start, data)
            for at in range(min(len(lines), end - start) - 1, -1, -1):
                yield start + at, lines[at]

    def word(self, number: int) -> str:
        found = self._words.get(number)
        if found is None:
            row = self.connection.execute("SELECT word FROM words WHERE no = ?", (number,)).fetchone()
            found = self._words[number] = row[0] if row is not None else ""
        return found

    def _take(self, first: int, data: bytes) -> None:
        self._lines = decode(first, data)
        self._first, self._end = first, first + len(self._lines)


def page(connection: sqlite3.Connection, query: TrailQuery) -> TrailPage:
    """See `WarmRecords.trail`. At most `scan_max` lines are looked at."""
    row = connection.execute("SELECT no FROM tenants WHERE name = ?", (query.tenant,)).fetchone()
    if row is None:
        return TrailPage((), None)
    tenant = int(row[0])
    first = tenant << TRAIL_BITS
    end = first | (_POS_MASK if query.before is None else min(max(query.before, 0), _POS_MASK))
    reader = TrailReader(connection)
    walk = reader.downwards(first, end)
    if query.session is not None:
        walk = _of_session(reader, tenant, query.session, first, end)
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
        told = _told(reader, query.tenant, line, line.at)
        if _wanted(query, told):
            items.append((last, _named(connection, tenant, line, told)))
    return TrailPage(tuple(items), None)


def _told(reader: TrailReader, tenant: str, line: Line, at: Instant) -> Trail:
    """The line as it was given, but for the session's name."""
    action, _, outcome = reader.word(line.act).partition(_BETWEEN)
    return Trail(at, tenant, reader.word(line.actor), action, outcome, None, line.version, line.request_id)


def _wanted(query: TrailQuery, told: Trail) -> bool:
    return (
        (query.actor is None or query.actor == told.actor)
        and (query.action is None or query.action == told.action)
        and (query.outcome is None or query.outcome == told.outcome)
        and (query.since is None or told.at >= query.since)
        and (query.until is None or told.at < query.until)
    )


def _of_session(reader: TrailReader, tenant: int, session: str, first: int, end: int) -> Iterator[tuple[int, Line]]:
    """Lines of one session, named by its id or, once it is erased, by its hash as well."""
    connection = reader.connection
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
        seen = reader.line(end)
        if seen is not None and seen.session == no:
            pos = seen.prev
    while pos is not None:
        line = reader.line(pos)
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
        line = reader.line(named_at)
        if line is not None:
            yield named_at, line


def _named(connection: sqlite3.Connection, tenant: int, line: Line, told: Trail) -> Trail:
    """With the session's name: an erased session is named by its hash, even in lines older than itself."""
    if line.session is not None:
        row = connection.execute("SELECT id, hash FROM sessions WHERE no = ?", (line.session,)).fetchone()
    else:
        row = connection.execute(
            "SELECT id, hash FROM sessions WHERE tenant = ? AND id = ?", (tenant, line.named)
        ).fetchone()
    return told._replace(session=line.named if row is None else row[1] or row[0])
