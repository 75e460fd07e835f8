"""One `Change` as statements, inside a transaction that somebody else began and will commit."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Final

from sessionmanager.errors import RevConflict
from sessionmanager.model.change import CallRow, Change, Listing, Trail
from sessionmanager.model.codec import encode_tombstone, frame
from sessionmanager.tiers.warm.sqlite_schema import (
    FAR_PARTS,
    PART_BITS,
    ROW_PARTS,
    SEQ_BITS,
)
from sessionmanager.tiers.warm.sqlite_trail import TrailWriter
from sessionmanager.words import Instant, Key

SEATS_MAX: Final = 8_192
"""Sessions whose place and rev the writer remembers (about 400 bytes each); all are forgotten when it is full."""
TENANTS_MAX: Final = 8_192

_APPEND: Final = "UPDATE sessions SET rev = ?, version = ?, last = ?, pulse = ?, work = ? WHERE no = ? AND rev = ?"
_ENTRY: Final = "INSERT INTO entries VALUES (?, ?)"


class Overtaken(Exception):
    """What was remembered of a session is not so. The transaction must be rolled back: some of it is written."""


class Seat:
    """What the writer knows of a session without asking: exact, because there is no other writer."""

    __slots__ = ("due_at", "erased", "last", "no", "placement", "rev", "tail_from", "tenant")

    def __init__(
        self, no: int, tenant: int, rev: int, last: int | None, placement: str, due_at: Instant | None, erased: bool
    ) -> None:
        self.no = no
        self.tenant = tenant
        self.rev = rev
        self.last = last
        self.placement = placement
        self.due_at = due_at
        self.erased = erased
        self.tail_from = 0
        """No line below this seq is there."""


class Changes:
    """Writes changes through one cursor, and remembers what the next one needs.

    What it remembers runs ahead of the commit; after a roll back `forget` must be called.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor
        self._execute = cursor.execute
        self._seats: dict[Key, Seat] = {}
        self._tenants: dict[str, int] = {}
        self._trail = TrailWriter(cursor)

    def forget(self) -> None:
        """Forget everything: the transaction that it was learned in did not last."""
        self._seats.clear()
        self._tenants.clear()
        self._trail.forget()

    def flush(self) -> None:
        """Write what was gathered. Before COMMIT, always."""
        self._trail.flush()

    def commit(self, change: Change) -> None:
        """Write all that the change names. Raises RevConflict before the first statement that writes."""
        # Unpacked once: a name of a named tuple costs what a call does, and this is done for each commit of a group.
        (key, before, stored, changed, commit_id, due_at, dropped, entries, tail_from, told, record, ids, listing,
         calls) = change  # fmt: skip
        seat = self._seats.get(key) or self.seat(key)
        if before == 0:
            if seat is not None:
                raise RevConflict
            seat = self._create(change)
        elif seat is None or seat.rev != before:
            raise RevConflict
        execute = self._execute
        rev = before + 1
        pos = self._trail.add(seat.tenant, told, seat.no, seat.last, rev, commit_id)
        if (
            changed == ROW_PARTS
            and due_at == seat.due_at
            and stored.tombstone is None
            and not dropped
            and stored.placement == seat.placement
        ):
            assert not seat.erased, "an erased session stays erased"
            parts = stored.parts
            pulse, work = frame(parts["pulse"]), frame(parts["work"])
            execute(_APPEND, (rev, stored.version, pos, pulse, work, seat.no, before))
        else:
            self._rewrite(seat, change, pos)
        if self.cursor.rowcount != 1:
            raise Overtaken
        first = seat.no << SEQ_BITS
        for seq, data in entries:
            execute(_ENTRY, (first | seq, frame(data)))
            if seq < seat.tail_from:  # the tail of an archived session comes back with its first commit
                seat.tail_from = seq
        seat.rev = rev
        seat.last = pos
        if tail_from > seat.tail_from:
            execute("DELETE FROM entries WHERE pos >= ? AND pos < ?", (first, first | tail_from))
            seat.tail_from = tail_from
        if record is not None or ids:
            self._remember(seat, change)
        if listing is not None and stored.tombstone is None:
            self._list(seat, key, listing)
        if calls:
            self._tell_calls(seat, key, calls)

    def seat(self, key: Key) -> Seat | None:
        """The seat of a session, from memory or by one read; None if there is no such session."""
        found = self._seats.get(key)
        if found is not None:
            return found
        tenant = self.tenant(key.tenant, make=False)
        if tenant is None:
            return None
        row = self._execute(
            "SELECT no, tenant, rev, last, placement, due_at, tombstone IS NOT NULL FROM sessions"
            " WHERE tenant = ? AND id = ?",
            (tenant, key.id),
        ).fetchone()
        return self._keep(key, Seat(*row)) if row is not None else None

    def _keep(self, key: Key, seat: Seat) -> Seat:
        if len(self._seats) >= SEATS_MAX:
            self._seats.clear()
        self._seats[key] = seat
        return seat

    def tenant(self, name: str, *, make: bool) -> int | None:
        """The number of a tenant; a new one gets the next, if `make`."""
        found = self._tenants.get(name)
        if found is None:
            row = self._execute("SELECT no FROM tenants WHERE name = ?", (name,)).fetchone()
            if row is None and not make:
                return None
            if row is None:
                row = self._execute("INSERT INTO tenants (name) VALUES (?) RETURNING no", (name,)).fetchone()
            if len(self._tenants) >= TENANTS_MAX:
                self._tenants.clear()
            found = self._tenants[name] = int(row[0])
        return found

    def made(self, name: str) -> int:
        """The number of a tenant, made if it is new."""
        tenant = self.tenant(name, make=True)
        assert tenant is not None
        return tenant

    def note(self, line: Trail) -> None:
        """A line that no commit carries: in the chain of its session, or found by the name it gives if none is."""
        tenant = self.made(line.tenant)
        seat = self.seat(Key(line.tenant, line.session)) if line.session is not None else None
        no, prev = (None, None) if seat is None else (seat.no, seat.last)
        pos = self._trail.add(tenant, line, no, prev, None, None)
        if seat is not None:
            self._execute("UPDATE sessions SET last = ? WHERE no = ?", (pos, seat.no))
            seat.last = pos
        elif line.session is not None:
            self._execute("INSERT INTO trail_named VALUES (?, ?, ?)", (tenant, line.session, pos))

    # -- what few commits do

    def _create(self, change: Change) -> Seat:
        """A row at rev 0, which the rest of the commit then moves to rev 1 like any other."""
        key, placement = change.key, change.stored.placement
        tenant = self.made(key.tenant)
        (no,) = self._execute(
            "INSERT INTO sessions (tenant, id, rev, version, placement) VALUES (?, ?, 0, 0, ?) RETURNING no",
            (tenant, key.id, placement),
        ).fetchone()
        assert no < 1 << (63 - SEQ_BITS), "more sessions than a file can hold"
        return self._keep(key, Seat(no, tenant, 0, None, placement, None, False))

    def _rewrite(self, seat: Seat, change: Change, pos: int) -> None:
        """Any change of the head. Columns that keep their value are not named, so that no index is touched for them.

        The statement that moves `rev` is the last, for its `rowcount` is what the caller looks at.
        """
        stored = change.stored
        columns: dict[str, object] = {"rev": change.rev + 1, "version": stored.version, "last": pos}
        if stored.placement != seat.placement:
            columns["placement"] = seat.placement = stored.placement
        if change.due_at != seat.due_at:
            columns["due_at"] = seat.due_at = change.due_at
        if stored.tombstone is not None:
            self._bury(seat, change.key)
            columns |= {"tombstone": frame(encode_tombstone(stored.tombstone)), "pulse": None, "work": None}
            columns["hash"] = hashed(change.key.id)
        else:
            assert not seat.erased, "an erased session stays erased"
            for name in change.dropped:
                self._put_part(seat, name, None, columns)
            for name in change.changed:
                self._put_part(seat, name, frame(stored.parts[name]), columns)
        sets = ", ".join([f"{name} = ?" for name in columns])
        self._execute(
            f"UPDATE sessions SET {sets} WHERE no = ? AND rev = ?",  # noqa: S608 - names of columns, all ours
            (*columns.values(), seat.no, seat.rev),
        )

    def _put_part(self, seat: Seat, name: str, data: bytes | None, columns: dict[str, object]) -> None:
        if name in ROW_PARTS:
            columns[name] = data
        elif data is None:
            self._execute("DELETE FROM parts WHERE pos = ?", (seat.no << PART_BITS | FAR_PARTS[name],))
        else:
            self._execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", (seat.no << PART_BITS | FAR_PARTS[name], data))

    def _bury(self, seat: Seat, key: Key) -> None:
        """Drop every part and take the session out of the lists. Its lines and bodies go by `purge`."""
        first = seat.no << PART_BITS
        self._execute("DELETE FROM parts WHERE pos >= ? AND pos < ?", (first, first + (1 << PART_BITS)))
        self._list(seat, key, None)
        seat.erased = True

    def _remember(self, seat: Seat, change: Change) -> None:
        record = change.idempotency
        if record is not None:
            self._execute(
                "INSERT OR REPLACE INTO keys (session, scope, request, version, answer, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (seat.no, record.scope, record.request, record.version, frame(record.answer), record.expires_at),
            )
        for digest, seq in change.entry_ids:
            # The first seq stands: an id that is there already was never meant to be added again.
            self._execute(
                "INSERT INTO entry_ids VALUES (?, ?, ?) ON CONFLICT (no, hash) DO NOTHING", (seat.no, digest, seq)
            )

    def _tell_calls(self, seat: Seat, key: Key, calls: tuple[CallRow, ...]) -> None:
        """Bring rows up to date that this session has claimed; others are passed over."""
        self.cursor.executemany(
            "UPDATE calls SET version = ?, state = ?, gateway = ?, direction = ?, caller = ?, callee = ?,"
            " started_at = ?, settled_at = ?, data = ? WHERE tenant = ? AND id = ? AND session = ?",
            [(*row[1:-1], frame(row.data), seat.tenant, row.id, key.id) for row in calls],
        )

    def _list(self, seat: Seat, key: Key, new: Listing | None) -> None:
        """Move the session's place in lists and counts from what it was to `new`, touching only what differs."""
        row = self._execute(
            "SELECT status, placement, created_at, last_activity, terms FROM listings WHERE no = ?", (seat.no,)
        ).fetchone()
        old = Listing(row[0], row[1], row[2], row[3], tuple(json.loads(row[4]))) if row is not None else None
        if old == new:
            return
        before = {(term, old.created_at) for term in old.terms} if old is not None else set[tuple[str, Instant]]()
        after = {(term, new.created_at) for term in new.terms} if new is not None else set[tuple[str, Instant]]()
        gone = [(seat.tenant, term, at, key.id) for term, at in before - after]
        come = [(seat.tenant, term, at, key.id, seat.no) for term, at in after - before]
        if gone:
            self.cursor.executemany(
                "DELETE FROM terms WHERE tenant = ? AND term = ? AND created_at = ? AND id = ?", gone
            )
        if come:
            self.cursor.executemany("INSERT INTO terms VALUES (?, ?, ?, ?, ?)", come)
        if old is None or new is None or old[:2] != new[:2]:
            self._tally(seat.tenant, old, -1)
            self._tally(seat.tenant, new, 1)
        if new is None:
            self._execute("DELETE FROM listings WHERE no = ?", (seat.no,))
        elif old is not None and old._replace(last_activity=new.last_activity) == new:
            self._execute("UPDATE listings SET last_activity = ? WHERE no = ?", (new.last_activity, seat.no))
        else:
            self._execute(
                "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (seat.no, seat.tenant, key.id, *new[:4], json.dumps(new.terms)),
            )

    def _tally(self, tenant: int, listing: Listing | None, by: int) -> None:
        if listing is not None:
            self._execute(
                "INSERT INTO tallies VALUES (?, ?, ?, ?)"
                " ON CONFLICT (tenant, status, placement) DO UPDATE SET count = count + excluded.count",
                (tenant, listing.status, listing.placement, by),
            )


def hashed(session_id: str) -> str:
    """How the trail names an erased session."""
    return f"sha256:{hashlib.sha256(session_id.encode()).hexdigest()}"
