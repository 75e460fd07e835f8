"""What a caller wants of one session, ready to be decided, and what came of it.

What is made for every commit is a `Struct`: a named tuple costs four times as much to make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sessionmanager.model import instants
from sessionmanager.model.change import KeyRecord
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import Draft, StoredEntry
from sessionmanager.model.head import Head
from sessionmanager.words import Instant, Key, Status, TierName


class Who(NamedTuple):
    """In whose name a commit is written: it stands in its entries and in the audit trail.

    pid, epoch: the participant that a bound token speaks for; once it has left, nothing more is written in its name.
    """

    subject: str
    request_id: str | None = None
    pid: str | None = None
    epoch: int = 0


class RequestKey(NamedTuple):
    """An idempotency key as the ledger knows it. scope: hash of subject and key; request: hash of what was asked."""

    scope: bytes
    request: bytes

    @classmethod
    def of(cls, subject: str, value: str, request: bytes) -> RequestKey:
        """The key of a request: scoped by its subject (and, with the session's key, by its tenant)."""
        text = f"{len(subject)}:{subject}:{value}".encode()
        return cls(hashlib.blake2b(text, digest_size=16).digest(), request)

    def record(self, version: int, answer: bytes, now: Instant, keep_seconds: float) -> KeyRecord:
        """What is remembered of the request, with the commit that it made."""
        return KeyRecord(self.scope, self.request, version, answer, instants.plus(now, keep_seconds))

    def commit_id(self, key: Key) -> bytes:
        return hashlib.blake2b(self.scope + self.request + key.text.encode(), digest_size=16).digest()


class Decided(Struct, frozen=True):
    """The entries of a commit, and what its receipt says beside the version.

    places, duplicates: of an append, where each line of the batch is (see `decide.Append`). participant: whom it is
    about. floor, position: the number of the floor's holder, and the place in its queue. call: the one that was
    there already.
    """

    drafts: tuple[Draft, ...]
    places: tuple[int, ...] | None = None
    duplicates: tuple[str, ...] = ()
    participant: str | None = None
    floor: int | None = None
    position: int | None = None
    call: str | None = None


Decide = Callable[[Head, Mapping[str, int], Instant], Decided]


class Command(Struct, frozen=True):
    """action: its name in the audit trail and in metrics. entry_ids: client ids to look up before deciding.

    whole: it looks at a part of the head that hot copies do not hold, so it is decided on warm's alone.
    """

    action: str
    decide: Decide
    entry_ids: tuple[str, ...] = ()
    whole: bool = False


class Receipt(Struct, frozen=True, kw_only=True):
    """What every write answers, and what a repeat with the same key answers again."""

    id: str
    version: int
    status: Status
    seqs: tuple[int, ...] | UnsetType = UNSET
    duplicates: tuple[str, ...] | UnsetType = UNSET
    participant: str | UnsetType = UNSET
    floor: int | UnsetType = UNSET
    position: int | UnsetType = UNSET
    call: str | UnsetType = UNSET


class Written(Struct, frozen=True):
    """What came of a command. `answer`: the receipt's JSON, the same bytes on every repeat.

    replayed: an earlier request with this key did it. committed: something new was written by this one.
    stored: the head after; None for a replay. tier: where the head was found that it was decided on.
    """

    version: int
    answer: bytes
    stored: Stored | None
    entries: tuple[StoredEntry, ...] = ()
    replayed: bool = False
    committed: bool = True
    tier: TierName = "warm"


_encode = msgspec.json.Encoder().encode


def receipt(key: Key, version: int, status: Status, decided: Decided, entry_count: int) -> bytes:
    """The receipt's bytes; `entry_count`: lines before this commit, from which the new ones count on."""
    if decided.places is None:
        return _encode(
            Receipt(
                id=key.id,
                version=version,
                status=status,
                participant=UNSET if decided.participant is None else decided.participant,
                floor=UNSET if decided.floor is None else decided.floor,
                position=UNSET if decided.position is None else decided.position,
                call=UNSET if decided.call is None else decided.call,
            )
        )
    seqs = tuple([place if place >= 0 else entry_count - place for place in decided.places])
    return _encode(Receipt(id=key.id, version=version, status=status, seqs=seqs, duplicates=decided.duplicates))


def entry_id_hash(entry_id: str) -> bytes:
    """16 bytes under which a client's entry id is kept for ever."""
    return hashlib.blake2b(entry_id.encode(), digest_size=16).digest()
