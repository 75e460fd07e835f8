"""Every write of the embedded warm tier that is not a commit, as an operation for `Writer.run`.

Those that remove many rows take a bound and are repeated by the caller, so that the event loop is never held for long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from sessionmanager.errors import AlreadyExists, RevConflict, TierUnavailable
from sessionmanager.model.change import Trail
from sessionmanager.model.codec import frame
from sessionmanager.tiers.warm.sqlite_changes import Changes
from sessionmanager.tiers.warm.sqlite_schema import BUSY_MS, SEQ_BITS
from sessionmanager.words import Instant, Key

REMOVED_MAX: Final = 500
"""Rows that one removal takes away."""
BODIES_REMOVED_MAX: Final = 20
TRUNCATE_WAIT_MS: Final = 2_000
"""How long cutting the log waits for readers, in a thread."""

_GONE: Final = {
    "entries": "DELETE FROM entries WHERE pos IN (SELECT pos FROM entries WHERE pos >= ? AND pos < ? LIMIT ?)",
    "keys": "DELETE FROM keys WHERE no IN (SELECT no FROM keys WHERE session = ? LIMIT ?)",
    "entry_ids": "DELETE FROM entry_ids WHERE (no, hash) IN (SELECT no, hash FROM entry_ids WHERE no = ? LIMIT ?)",
    "bodies": "DELETE FROM bodies WHERE no IN (SELECT no FROM bodies WHERE tenant = ? AND session = ? LIMIT ?)",
    "calls": "DELETE FROM calls WHERE no IN (SELECT no FROM calls WHERE tenant = ? AND session = ? LIMIT ?)",
}


def put_body(changes: Changes, key: Key, body_id: str, framed: bytes) -> None:
    """Raises AlreadyExists, or RevConflict if the session is erased: nothing of it may come back."""
    seat = changes.seat(key)
    if seat is not None and seat.erased:
        raise RevConflict
    tenant = changes.made(key.tenant)
    row = changes.cursor.execute(
        "SELECT data FROM bodies WHERE tenant = ? AND session = ? AND id = ?", (tenant, key.id, body_id)
    ).fetchone()
    if row is None:
        changes.cursor.execute(
            "INSERT INTO bodies (tenant, session, id, data) VALUES (?, ?, ?, ?)", (tenant, key.id, body_id, framed)
        )
    elif row[0] != framed:
        raise AlreadyExists


def drop_bodies(changes: Changes, key: Key, body_ids: Sequence[str]) -> None:
    tenant = changes.tenant(key.tenant, make=False)
    if tenant is not None:
        changes.cursor.executemany(
            "DELETE FROM bodies WHERE tenant = ? AND session = ? AND id = ?",
            [(tenant, key.id, body_id) for body_id in body_ids],
        )


def purge_some(changes: Changes, key: Key) -> bool:
    """Remove a share of what a tombstone left; False once nothing is left. Raises ValueError if it is no tombstone."""
    seat = changes.seat(key)
    if seat is None:
        return False
    if not seat.erased:
        raise ValueError("only what a tombstone left is purged")
    execute = changes.cursor.execute
    first = seat.no << SEQ_BITS
    gone = execute(_GONE["entries"], (first, first + (1 << SEQ_BITS), REMOVED_MAX)).rowcount
    gone += execute(_GONE["keys"], (seat.no, REMOVED_MAX)).rowcount
    gone += execute(_GONE["entry_ids"], (seat.no, REMOVED_MAX)).rowcount
    gone += execute(_GONE["calls"], (seat.tenant, key.id, REMOVED_MAX)).rowcount
    gone += execute(_GONE["bodies"], (seat.tenant, key.id, BODIES_REMOVED_MAX)).rowcount
    return gone > 0


def truncate_log(connection: sqlite3.Connection) -> None:
    """Copy the log into the database and cut it to nothing, so that bytes overwritten there are gone here, too.

    Runs in a thread. Raises TierUnavailable if a reader kept the log in use all the while.
    """
    connection.execute(f"PRAGMA busy_timeout = {TRUNCATE_WAIT_MS}")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    if busy:
        raise TierUnavailable("warm", "a long read keeps old pages in use; purge again")


def put_record(
    changes: Changes,
    where: tuple[str, str, str],
    data: bytes | None,
    rev: int,
    expires_at: Instant | None,
) -> None:
    """`where`: tenant, kind and id. Raises RevConflict."""
    tenant = changes.made(where[0])
    place = (tenant, *where[1:])
    execute = changes.cursor.execute
    row = execute("SELECT no, rev FROM records WHERE tenant = ? AND kind = ? AND id = ?", place).fetchone()
    if (row[1] if row is not None else 0) != rev:
        raise RevConflict
    if data is None:
        if row is not None:
            execute("DELETE FROM records WHERE no = ?", row[:1])
    elif row is None:
        execute(
            "INSERT INTO records (tenant, kind, id, rev, data, expires_at) VALUES (?, ?, ?, 1, ?, ?)",
            (*place, frame(data), expires_at),
        )
    else:
        execute(
            "UPDATE records SET rev = ?, data = ?, expires_at = ? WHERE no = ?",
            (rev + 1, frame(data), expires_at, row[0]),
        )


def note(changes: Changes, lines: Sequence[Trail]) -> None:
    for line in lines:
        changes.note(line)


def sweep_some(changes: Changes, now: Instant, limit: int) -> int:
    """Remove at most `limit` key records and records whose time is over; answers how many went."""
    execute = changes.cursor.execute
    gone = execute(
        "DELETE FROM keys WHERE no IN (SELECT no FROM keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, limit),
    ).rowcount
    if gone < limit:
        gone += execute(
            "DELETE FROM records WHERE no IN"
            " (SELECT no FROM records WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (now, limit - gone),
        ).rowcount
    return gone
