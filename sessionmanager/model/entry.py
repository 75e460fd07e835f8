"""Entries: what the log holds, and in which bytes.

An entry is kept as the JSON that readers get: one line, members in a fixed order, free members (`content`, `arguments`,
`output`, `data`, …) byte for byte as the client sent them, less white space. It is never parsed to be served again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sessionmanager.words import CUSTOM_PREFIX, Instant


class Draft(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller or the service wants to append: an entry without its place. Raw members are JSON texts."""

    type: str
    id: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    at: Instant | UnsetType = UNSET
    heard: Raw | UnsetType = UNSET
    generated: Raw | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    status: str | UnsetType = UNSET
    from_seq: int | UnsetType = UNSET
    to_seq: int | UnsetType = UNSET
    floor: int | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log, as readers get it. `seq` counts from 1; all entries of one commit share its `version`."""

    seq: int
    version: int
    id: str
    type: str
    role: str | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    heard: Raw | UnsetType = UNSET
    generated: Raw | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    status: str | UnsetType = UNSET
    from_seq: int | UnsetType = UNSET
    to_seq: int | UnsetType = UNSET
    floor: int | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    at: Instant
    recorded_at: Instant
    actor: str


class EntryPeek(Struct, frozen=True):
    """The part of an entry that readers filter on; decoding stops at nothing else."""

    seq: int
    version: int
    type: str
    id: str


class StoredEntry(NamedTuple):
    """An entry as tiers keep it: its place and its JSON line."""

    seq: int
    data: bytes


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)
_peek = msgspec.json.Decoder(EntryPeek)


def encode_entry(entry: Entry) -> StoredEntry:
    return StoredEntry(entry.seq, _encoder.encode(entry))


def decode_entry(data: bytes) -> Entry:
    return _decoder.decode(data)


def peek_entry(data: bytes) -> EntryPeek:
    return _peek.decode(data)


def type_family(entry_type: str) -> str:
    """The name under which a segment remembers that it holds such entries: the type, or `custom.*` for all of those."""
    return "custom.*" if entry_type.startswith(CUSTOM_PREFIX) else entry_type
