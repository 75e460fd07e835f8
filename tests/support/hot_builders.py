"""Small heads, lines and changes for the hot tier, whose parts say at which `rev` they were written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import Tombstone
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy, Hot
from sessionmanager.words import Instant, Key, Placement

KEY = Key("acme", "call-4711")
OTHER = Key("acme", "call-4712")
AS_OF: Instant = "2026-11-21T12:00:00.000Z"
AS_OF_SECONDS = 1795262400.0


def a_part(name: str, rev: int) -> bytes:
    return f'{{"{name}":{rev}}}'.encode()


def a_stored(rev: int, key: Key = KEY, *, parts: Iterable[str] = HOT_PARTS) -> Stored:
    return Stored(key, rev, rev, {name: a_part(name, rev) for name in parts})


def lines(first: int, last: int, *, size: int = 0) -> tuple[StoredEntry, ...]:
    """Lines `first` to `last`, each of at least `size` bytes."""
    return tuple(StoredEntry(seq, f'{{"seq":{seq}}}'.encode().ljust(size)) for seq in range(first, last + 1))


def a_copy(
    rev: int,
    key: Key = KEY,
    *,
    tail: tuple[StoredEntry, ...] = (),
    as_of: Instant = AS_OF,
    stored: Stored | None = None,
) -> Copy:
    return Copy(stored or a_stored(rev, key), tail, as_of)


def a_change(
    rev: int,
    key: Key = KEY,
    *,
    entries: tuple[StoredEntry, ...] = (),
    tail_from: int = 0,
    parts: Iterable[str] = HOT_PARTS,
    changed: Iterable[str] = ("pulse", "work"),
    dropped: tuple[str, ...] = (),
    placement: Placement = "warm",
) -> Change:
    """A change from `rev` to `rev + 1`; its `changed` parts say the new `rev`, the others the one before."""
    changed = tuple(changed)
    held: Mapping[str, bytes] = {name: a_part(name, rev + 1 if name in changed else rev) for name in parts}
    stored = Stored(key, rev + 1, rev + 1, held, placement=placement)
    return Change(
        key=key,
        rev=rev,
        stored=stored,
        changed=changed,
        commit_id=rev.to_bytes(16, "big"),
        due_at=None,
        dropped=dropped,
        entries=entries,
        tail_from=tail_from,
    )


def an_erasure(rev: int, key: Key = KEY) -> Change:
    """A change from `rev` to a tombstone."""
    tombstone = Tombstone(erasure_id="erasure-1", erased_at=AS_OF)
    stored = Stored(key, rev + 1, rev + 1, {}, tombstone=tombstone)
    return Change(key=key, rev=rev, stored=stored, changed=(), commit_id=bytes(16), due_at=None, dropped=HOT_PARTS)


async def fill(hot: Hot, copy: Copy) -> None:
    """R: miss, token, warm read, fill."""
    token = await hot.begin_fill(copy.stored.key)
    assert token is not None
    await hot.end_fill(copy.stored.key, token, copy)


async def ring(hot: Hot, key: Key, version: int, trace: str | None = None) -> None:
    """As the commit rings that makes this version."""
    await hot.after_commit(a_change(version - 1, key), AS_OF, trace)
