"""Bytes ⇄ heads, entries and bodies: every stored thing begins with a format number and a checksum.

Frame: one byte format (1), four bytes CRC-32 of the payload (big endian), the payload. A format that this version does
not know and a checksum that does not match are both `DataCorrupt`; nothing is guessed. Later formats add a branch in
`unframe` and keep the old one for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import compress
from operator import attrgetter, is_not
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec import Raw

from sessionmanager.errors import DataCorrupt
from sessionmanager.model.head import (
    PARTS,
    Attachment,
    Detail,
    Head,
    Index,
    KeyRing,
    Profile,
    Pulse,
    Tombstone,
    Work,
)
from sessionmanager.words import Key, Placement

FORMAT: Final = 1
_HEADER = bytes([FORMAT])
_encode = msgspec.json.Encoder().encode
_parts = attrgetter(*PARTS)
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "pulse": msgspec.json.Decoder(Pulse),
    "profile": msgspec.json.Decoder(Profile),
    "detail": msgspec.json.Decoder(Detail),
    "context": msgspec.json.Decoder(Raw),
    "work": msgspec.json.Decoder(Work),
    "index": msgspec.json.Decoder(Index),
    "keys": msgspec.json.Decoder(KeyRing),
    "attachments": msgspec.json.Decoder(dict[str, Attachment]),
}
_TOMBSTONE = msgspec.json.Decoder(Tombstone)


def frame(payload: bytes) -> bytes:
    return _HEADER + crc32(payload).to_bytes(4, "big") + payload


def unframe(data: bytes) -> bytes:
    """The payload of a frame. Raises DataCorrupt for a format not known here or bytes that do not check."""
    if len(data) < 5 or data[0] != FORMAT:
        raise DataCorrupt("a stored value has a format that is not known here")
    payload = data[5:]
    if crc32(payload) != int.from_bytes(data[1:5], "big"):
        raise DataCorrupt("a stored value does not match its checksum")
    return payload


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Stored:
    """A head as tiers keep it: one JSON text a part, served as it stands; decoded once, when somebody decides.

    `parts` lacks what its source does not hold: a hot copy has no `index` and no `keys`, a stub only `STUB_PARTS`.
    A tombstone has no parts at all.
    """

    __slots__ = ("_head", "key", "parts", "placement", "rev", "tombstone", "version")

    def __init__(
        self,
        key: Key,
        rev: int,
        version: int,
        parts: Mapping[str, bytes],
        *,
        placement: Placement = "warm",
        tombstone: Tombstone | None = None,
        head: Head | None = None,
    ) -> None:
        self.key = key
        self.rev = rev
        self.version = version
        self.parts = parts
        self.placement: Placement = placement
        self.tombstone = tombstone
        self._head = head

    def __repr__(self) -> str:
        return f"Stored(rev={self.rev}, version={self.version}, placement={self.placement!r})"

    @property
    def head(self) -> Head:
        """The decoded head; parts that are not held read as their defaults, and must not be written back."""
        if self._head is None:
            self._head = decode_head(self)
        return self._head


def decode_head(stored: Stored) -> Head:
    assert stored.tombstone is None, "a tombstone has no head"
    values: dict[str, Any] = {}
    try:
        for name, data in stored.parts.items():
            values[name] = _DECODERS[name].decode(data)
        return Head(key=stored.key, rev=stored.rev, **values)
    except (msgspec.MsgspecError, AssertionError, TypeError) as error:
        raise DataCorrupt("a stored head does not read as one") from error


def encode_head(head: Head, before: Stored | None, placement: Placement = "warm") -> tuple[Stored, tuple[str, ...]]:
    """The head's stored form and the names of the parts that differ from `before`.

    A part is encoded only if it is another object than before (folds replace what they change and share the rest), so
    the cost is that of the change. Parts that `before` did not hold are left out unless the fold changed them.
    """
    if before is None:
        parts = {name: _encode_part(getattr(head, name)) for name in PARTS}
        return Stored(head.key, head.rev, head.version, parts, placement=placement, head=head), PARTS
    changed = tuple(compress(PARTS, map(is_not, _parts(head), _parts(before.head))))
    parts = dict(before.parts)
    for name in changed:
        parts[name] = _encode_part(getattr(head, name))
    return Stored(head.key, head.rev, head.version, parts, placement=placement, head=head), changed


def _encode_part(value: Any) -> bytes:
    return bytes(value) if isinstance(value, Raw) else _encode(value)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    return _encode(tombstone)


def decode_tombstone(data: bytes) -> Tombstone:
    try:
        return _TOMBSTONE.decode(data)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("a stored tombstone does not read as one") from error


def join_lines(entries: Iterable[bytes]) -> bytes:
    """The canonical bytes of a segment: entries as JSON lines. Entries never hold a raw line feed."""
    return b"\n".join(entries)


def split_lines(data: bytes) -> list[bytes]:
    return data.split(b"\n") if data else []
