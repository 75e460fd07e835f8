"""What the ledger asks of the warm tier: one `Change`, all of it or nothing."""

from __future__ import annotations

from typing import NamedTuple

from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import CallState, Instant, Key, Placement, Status


class Listing(NamedTuple):
    """How lists and look-ups find a session. `terms` are exact filters such as `label:vip` (see `model/listing.py`)."""

    status: Status
    placement: Placement
    created_at: Instant
    last_activity: Instant
    terms: tuple[str, ...]


class Trail(NamedTuple):
    """One audit line: who did what, when, and whether it was allowed. `session` is None where none was named."""

    at: Instant
    tenant: str
    actor: str
    action: str
    outcome: str
    session: str | None = None
    version: int | None = None
    request_id: str | None = None


class KeyRecord(NamedTuple):
    """The memory of one idempotency key: `scope` hashes subject and key, `request` hashes what was asked."""

    scope: bytes
    request: bytes
    version: int
    answer: bytes
    expires_at: Instant


class CallRow(NamedTuple):
    """What lists find of a call. version: of its session, by the commit that wrote it: an older row never replaces a
    newer. caller, callee: as they are searched for. settled_at: when its end was recorded. data: the JSON that callers
    get."""

    id: str
    version: int
    state: CallState
    gateway: str
    direction: str
    caller: str | None
    callee: str | None
    started_at: Instant
    settled_at: Instant | None
    data: bytes


class Change(NamedTuple):
    """A compare-and-set from `rev` to `rev + 1` with everything that must stand or fall with it.

    rev: the `rev` that the head must have; 0 = the session must never have existed.
    stored: the head after, at `rev + 1`; only the parts named in `changed` are written.
    changed, dropped: parts to write, parts to remove.
    entries: lines added to the tail, contiguous and ascending.
    tail_from: lines below this seq leave the tail (they lie in a segment, or the session is archived).
    commit_id: 16 bytes, made once per request; found again by `find_commit`.
    trail: the audit line that is written with it, or None for what nobody asked for (a seal).
    idempotency: the key record that is written with it.
    entry_ids: (16-byte hash of a client's entry id, its seq).
    listing: the new listing, or None where lists need not know.
    due_at: when the worker must look, or None.
    calls: rows of calls that it brings up to date; each was claimed for this session before.
    """

    key: Key
    rev: int
    stored: Stored
    changed: tuple[str, ...]
    commit_id: bytes
    due_at: Instant | None
    dropped: tuple[str, ...] = ()
    entries: tuple[StoredEntry, ...] = ()
    tail_from: int = 0
    trail: Trail | None = None
    idempotency: KeyRecord | None = None
    entry_ids: tuple[tuple[bytes, int], ...] = ()
    listing: Listing | None = None
    calls: tuple[CallRow, ...] = ()
