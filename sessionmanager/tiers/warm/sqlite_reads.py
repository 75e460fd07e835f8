"""Reads of one session, body or record: a few seeks each, made on the event loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from sessionmanager.errors import NotFound
from sessionmanager.model.change import KeyRecord
from sessionmanager.model.codec import Stored, decode_tombstone, unframe
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.protocol import Loaded, Record
from sessionmanager.tiers.warm.sqlite_schema import FAR_NAMES, PART_BITS, SEQ_BITS
from sessionmanager.tiers.warm.sqlite_trail import TrailReader
from sessionmanager.words import Key

_SESSION: Final = "tenant = (SELECT no FROM tenants WHERE name = ?) AND id = ?"
_LOAD: Final = f"SELECT no, rev, version, placement, tombstone, pulse, work FROM sessions WHERE {_SESSION}"  # noqa: S608
_NO: Final = f"SELECT no FROM sessions WHERE {_SESSION} AND tombstone IS NULL"  # noqa: S608
_LAST: Final = f"SELECT last FROM sessions WHERE {_SESSION}"  # noqa: S608
_KEY: Final = f"""SELECT scope, request, version, answer, expires_at FROM keys
    WHERE session = ({_NO}) AND scope = ?"""  # noqa: S608
_LINES: Final = {
    order: f"SELECT pos, data FROM entries WHERE pos >= ? AND pos <= ? ORDER BY pos {order} LIMIT ?"  # noqa: S608
    for order in ("ASC", "DESC")
}
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1
_PART_MASK: Final = (1 << PART_BITS) - 1


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Several reads of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def load(connection: sqlite3.Connection, key: Key, tail: int) -> Loaded:
    """See `WarmHeads.load`. Three seeks."""
    execute = connection.execute
    with snapshot(connection):
        row = execute(_LOAD, key).fetchone()
        if row is None:
            raise NotFound
        no, rev, version, placement, tombstone, pulse, work = row
        if tombstone is not None:
            buried = decode_tombstone(unframe(tombstone))
            return Loaded(Stored(key, rev, version, {}, placement=placement, tombstone=buried), ())
        parts: dict[str, bytes] = {}
        if pulse is not None:
            parts["pulse"] = unframe(pulse)
        first = no << PART_BITS
        for pos, data in execute(
            "SELECT pos, data FROM parts WHERE pos >= ? AND pos <= ?", (first, first | _PART_MASK)
        ):
            parts[FAR_NAMES[pos & _PART_MASK]] = unframe(data)
        if work is not None:
            parts["work"] = unframe(work)
        lines: list[StoredEntry] = []
        if tail > 0:
            lines = _lines(connection, no, 0, _SEQ_MASK, tail, descending=True)
            lines.reverse()
    return Loaded(Stored(key, rev, version, parts, placement=placement), tuple(lines))


def read(
    connection: sqlite3.Connection, key: Key, after: int, before: int, limit: int, descending: bool
) -> list[StoredEntry]:
    """See `WarmHeads.read`. Two seeks."""
    with snapshot(connection):
        no = _no(connection, key)
        if no is None:
            return []
        first = max(after + 1, 0)
        return _lines(connection, no, first, min(before - 1, _SEQ_MASK), limit, descending=descending)


def _lines(
    connection: sqlite3.Connection, no: int, first: int, last: int, limit: int, *, descending: bool
) -> list[StoredEntry]:
    """Lines with `first <= seq <= last`."""
    if last < first or limit <= 0:
        return []
    base = no << SEQ_BITS
    rows = connection.execute(_LINES["DESC" if descending else "ASC"], (base | first, base | last, limit))
    return [StoredEntry(pos & _SEQ_MASK, unframe(data)) for pos, data in rows]


def _no(connection: sqlite3.Connection, key: Key) -> int | None:
    """The number of a session that is not erased."""
    row = connection.execute(_NO, key).fetchone()
    return int(row[0]) if row is not None else None


def find_commit(connection: sqlite3.Connection, key: Key, after_rev: int, commit_id: bytes) -> int | None:
    """See `WarmHeads.find_commit`. At most one seek for each commit since, newest first."""
    with snapshot(connection):
        row = connection.execute(_LAST, key).fetchone()
        pos = row[0] if row is not None else None
        reader = TrailReader(connection)
        while pos is not None:
            line = reader.line(pos)
            if line is None or (line.rev is not None and line.rev <= after_rev):
                break
            if line.commit_id == commit_id:
                return line.rev
            pos = line.prev
    return None


def find_key(connection: sqlite3.Connection, key: Key, scope: bytes) -> KeyRecord | None:
    row = connection.execute(_KEY, (*key, scope)).fetchone()
    return KeyRecord(row[0], row[1], row[2], unframe(row[3]), row[4]) if row is not None else None


def find_entry_ids(connection: sqlite3.Connection, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
    with snapshot(connection):
        no = _no(connection, key)
        if no is None:
            return {}
        found: dict[bytes, int] = {}
        for digest in hashes:
            row = connection.execute("SELECT seq FROM entry_ids WHERE no = ? AND hash = ?", (no, digest)).fetchone()
            if row is not None:
                found[digest] = row[0]
    return found


def get_body(connection: sqlite3.Connection, key: Key, body_id: str) -> bytes:
    row = connection.execute(
        "SELECT data FROM bodies WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND session = ? AND id = ?",
        (*key, body_id),
    ).fetchone()
    if row is None:
        raise NotFound
    return unframe(row[0])


def list_bodies(connection: sqlite3.Connection, key: Key) -> list[str]:
    rows = connection.execute(
        "SELECT id FROM bodies WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND session = ? ORDER BY id", key
    )
    return [body_id for (body_id,) in rows]


def get_record(connection: sqlite3.Connection, tenant: str, kind: str, record_id: str) -> Record | None:
    row = connection.execute(
        "SELECT id, rev, data FROM records"
        " WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND kind = ? AND id = ?",
        (tenant, kind, record_id),
    ).fetchone()
    return Record(row[0], row[1], unframe(row[2])) if row is not None else None


def list_records(
    connection: sqlite3.Connection, tenant: str, kind: str, after: str, prefix: str, limit: int
) -> list[Record]:
    """Ids sort by their code points, in the index as here, so those with one prefix lie side by side."""
    rows = connection.execute(
        "SELECT id, rev, data FROM records WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND kind = ?"
        " AND id > ? AND id >= ? ORDER BY id LIMIT ?",
        (tenant, kind, after, prefix, max(limit, 0)),
    ).fetchall()
    return [Record(row[0], row[1], unframe(row[2])) for row in rows if row[0].startswith(prefix)]
