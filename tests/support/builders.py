"""Heads, lines and changes to test tiers with: whole and small, each with only what the test names different."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import count

from msgspec import Raw

from sessionmanager.model.change import CallRow, Change, KeyRecord, Listing, Trail
from sessionmanager.model.codec import Stored, encode_head
from sessionmanager.model.entry import Entry, StoredEntry, encode_entry
from sessionmanager.model.head import Detail, Head, Profile, Pulse, Tombstone, Work
from sessionmanager.words import CallState, Instant, Key, Placement, Status

T0: Instant = "2026-11-21T12:00:00.000Z"
T1: Instant = "2026-11-21T13:00:00.000Z"
T2: Instant = "2026-11-21T14:00:00.000Z"
T3: Instant = "2026-11-21T15:00:00.000Z"
KEY = Key("acme", "call-4711")
APPEND = ("pulse", "work")
"""The parts that an append changes."""

_numbers = count(1)


def a_commit_id(name: str | None = None) -> bytes:
    """16 bytes: of a name, or never given out before."""
    return hashlib.sha256((name or f"unnamed {next(_numbers)}").encode()).digest()[:16]


def a_line(seq: int, text: str = "hello", *, version: int | None = None) -> StoredEntry:
    """A message of a user."""
    entry = Entry(
        seq=seq,
        version=seq if version is None else version,
        id=f"e{seq}",
        type="message",
        role="user",
        content=Raw(b'"%s"' % text.encode()),
        at=T0,
        recorded_at=T0,
        actor="alice",
    )
    return encode_entry(entry)


def lines(first: int, last: int) -> tuple[StoredEntry, ...]:
    """Lines with every seq from `first` to `last`, both included."""
    return tuple(a_line(seq) for seq in range(first, last + 1))


def a_head(
    key: Key = KEY,
    *,
    rev: int = 1,
    version: int | None = None,
    entry_count: int = 0,
    status: Status = "active",
    bot_name: str | None = None,
    context: bytes = b"null",
    created_at: Instant = T0,
    last_activity: Instant = T0,
) -> Head:
    """A head with little in it. The version is the rev if not given."""
    version = rev if version is None else version
    return Head(
        key=key,
        rev=rev,
        pulse=Pulse(
            version=version,
            status=status,
            updated_at=last_activity,
            last_activity=last_activity,
            entry_count=entry_count,
        ),
        profile=Profile(id=key.id, created_at=created_at, bot_name=bot_name),
        detail=Detail(),
        context=Raw(context),
        work=Work(tail_bytes=rev),
    )


def a_stored(head: Head, placement: Placement = "warm") -> Stored:
    """The head as tiers keep it, with all its parts."""
    return encode_head(head, None, placement)[0]


def a_change(
    key: Key = KEY,
    *,
    rev: int = 0,
    head: Head | None = None,
    placement: Placement = "warm",
    changed: tuple[str, ...] | None = None,
    dropped: tuple[str, ...] = (),
    entries: Iterable[StoredEntry] = (),
    tail_from: int = 0,
    commit_id: bytes | None = None,
    due_at: Instant | None = None,
    trail: Trail | None = None,
    idempotency: KeyRecord | None = None,
    entry_ids: tuple[tuple[bytes, int], ...] = (),
    listing: Listing | None = None,
    calls: tuple[CallRow, ...] = (),
) -> Change:
    """From `rev` to `rev + 1`: a create with all parts from rev 0, else what an append changes."""
    entries = tuple(entries)
    head = head or a_head(key, rev=rev + 1, entry_count=entries[-1].seq if entries else 0)
    stored = a_stored(head, placement)
    if changed is None:
        changed = tuple(stored.parts) if rev == 0 else APPEND
    return Change(
        key=key,
        rev=rev,
        stored=stored,
        changed=changed,
        commit_id=commit_id or a_commit_id(),
        due_at=due_at,
        dropped=dropped,
        entries=entries,
        tail_from=tail_from,
        trail=trail,
        idempotency=idempotency,
        entry_ids=entry_ids,
        listing=listing,
        calls=calls,
    )


def a_call_row(
    call_id: str,
    version: int = 1,
    *,
    state: CallState = "active",
    gateway: str = "sip",
    direction: str = "inbound",
    caller: str | None = "+12025550123",
    callee: str | None = None,
    started_at: Instant = T0,
    settled_at: Instant | None = None,
) -> CallRow:
    """A row as a commit of its session at `version` writes it; its data names the version."""
    state = state if settled_at is None else "ended"
    data = b'{"id":"%b","version":%d}' % (call_id.encode(), version)
    return CallRow(call_id, version, state, gateway, direction, caller, callee, started_at, settled_at, data)


def a_tombstone(key: Key = KEY, *, rev: int, trail: Trail | None = None, due_at: Instant | None = None) -> Change:
    """The change that erases a session which is at `rev`."""
    buried = Stored(key, rev + 1, rev + 1, {}, tombstone=Tombstone(erasure_id="erasure-1", erased_at=T1))
    return Change(key, rev, buried, (), a_commit_id(), due_at, trail=trail)


def a_listing(
    *terms: str,
    status: Status = "active",
    placement: Placement = "warm",
    created_at: Instant = T0,
    last_activity: Instant = T0,
) -> Listing:
    return Listing(status, placement, created_at, last_activity, terms)


def a_trail(
    key: Key | None = KEY,
    *,
    tenant: str | None = None,
    at: Instant = T0,
    actor: str = "alice",
    action: str = "session.append",
    outcome: str = "ok",
    version: int | None = None,
    request_id: str | None = None,
) -> Trail:
    """An audit line of a session, or of a tenant alone if `key` is None."""
    return Trail(
        at=at,
        tenant=tenant or (key.tenant if key is not None else KEY.tenant),
        actor=actor,
        action=action,
        outcome=outcome,
        session=key.id if key is not None else None,
        version=version,
        request_id=request_id,
    )


def a_key_record(
    scope: str = "scope", *, request: str = "request", version: int = 1, expires_at: Instant = T3
) -> KeyRecord:
    return KeyRecord(scope.encode(), request.encode(), version, b'{"version":%d}' % version, expires_at)
