"""Lines of the audit trail as bytes: some 35 each, most of them the commit id.

A batch is a row: lines that follow each other, as one MessagePack array within a frame. A line leaves out what its
neighbours or a dictionary know: places and times are told from the line before, words are numbers of the table
`words`, and request ids that are UUIDs, or that the service made, are kept as the bytes that they spell.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Final, NamedTuple

import msgspec

from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.model.codec import frame, unframe
from sessionmanager.words import Instant

WORDS_MAX: Final = 8_192
"""Words whose numbers are remembered; all are forgotten when there are more."""

_ARRAY: Final = b"\xdc"
"""MessagePack's mark of an array with two bytes of length: what it holds can grow behind it."""
_OURS: Final = re.compile(r"([0-9a-f]{12})-([1-9a-f][0-9a-f]{0,15})")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_CHARS: Final = 36
_UUID_BYTES: Final = 16


class Line(NamedTuple):
    """A line as it is kept. `session`: its number, `named`: its id where it has none; `prev`: the place of the line
    before it in the session's chain. `at` is None, as is all after it, for a commit that nobody asked for; `rev` is
    None for what was no commit. `actor` and `act` (the action and the outcome) are numbers of words."""

    session: int | None
    prev: int | None
    rev: int | None
    commit_id: bytes | None
    at: Instant | None = None
    actor: int = 0
    act: int = 0
    version: int | None = None
    request_id: str | None = None
    named: str | None = None


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """`back`: places from `prev` to the line, 0 for none. `later`: milliseconds since the line before it in its batch
    that has a time. `version`: of a commit, how far its rev is ahead of it. `request`: see `_pack`."""

    session: int | None
    back: int
    rev: int | None
    commit_id: bytes | None
    later: int | None = None
    actor: int = 0
    act: int = 0
    version: int | None = None
    request: Any = None
    named: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[_Packed])


class Batch:
    """The lines of one row: `first` is the place of the first, `count` how many there are, `is_stored` whether there is
    such a row."""

    __slots__ = ("_at", "_lines", "count", "first", "is_stored")

    def __init__(self, first: int) -> None:
        self.first = first
        self.count = 0
        self.is_stored = False
        self._lines = b""
        self._at = 0

    @property
    def bytes(self) -> int:
        return len(self._lines)

    def add(self, line: Line) -> None:
        """Take the line for the next place."""
        session, prev, rev, commit_id, at, actor, act, version, request_id, named = line
        back = 0 if prev is None else self.first + self.count - prev
        if at is None:
            kept: tuple[Any, ...] = (session, back, rev, commit_id)
        else:
            ms = instants.to_ms(at)
            later, self._at = ms - self._at, ms
            if rev is not None and version is not None:
                version = rev - version
            request = None if request_id is None else _pack(request_id)
            kept = (session, back, rev, commit_id, later, actor, act, version, request)
            if named is not None:
                kept = (*kept, named)
        self._lines += _encode(kept)
        self.count += 1

    def data(self) -> bytes:
        return frame(b"%b%b%b" % (_ARRAY, self.count.to_bytes(2, "big"), self._lines))

    @staticmethod
    def of(first: int, data: bytes) -> Batch:
        """A batch that goes on where a stored one ends."""
        batch = Batch(first)
        batch.is_stored = True
        lines = decode(first, data)
        batch.count = len(lines)
        batch._lines = unframe(data)[3:]
        batch._at = next((instants.to_ms(line.at) for line in reversed(lines) if line.at is not None), 0)
        return batch


def decode(first: int, data: bytes) -> list[Line]:
    """The lines of a row. Raises DataCorrupt."""
    try:
        kept = _decoder.decode(unframe(data))
    except msgspec.MsgspecError as error:
        raise DataCorrupt("stored lines of the trail do not read as such") from error
    lines: list[Line] = []
    ms = 0
    for pos, line in enumerate(kept, first):
        session, rev, version, at = line.session, line.rev, line.version, None
        if line.later is not None:
            ms += line.later
            at = instants.from_ms(ms)
            if rev is not None and version is not None:
                version = rev - version
        prev = pos - line.back if line.back else None
        request_id = _unpack(line.request)
        lines.append(
            Line(session, prev, rev, line.commit_id, at, line.actor, line.act, version, request_id, line.named)
        )
    return lines


def _pack(request_id: str) -> str | bytes:
    """Bytes for an id in one of two usual forms, which `_unpack` gives back letter by letter; else the text."""
    if request_id[12:13] == "-" and (ours := _OURS.fullmatch(request_id)):
        number = int(ours[2], 16)
        return bytes.fromhex(ours[1]) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(request_id) == _UUID_CHARS and _UUID.fullmatch(request_id):
        return bytes.fromhex(request_id.replace("-", ""))
    return request_id


def _unpack(kept: Any) -> str | None:
    if not isinstance(kept, bytes):
        return kept
    if len(kept) == _UUID_BYTES:
        text = kept.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return f"{kept[:6].hex()}-{int.from_bytes(kept[6:], 'big'):x}"


class Words:
    """Numbers of words, made as they are met. `forget` after a ROLLBACK."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._execute = cursor.execute
        self._known: dict[str, int] = {}

    def number(self, word: str) -> int:
        found = self._known.get(word)
        if found is None:
            row = self._execute("SELECT no FROM words WHERE word = ?", (word,)).fetchone()
            if row is None:
                row = self._execute("INSERT INTO words (word) VALUES (?) RETURNING no", (word,)).fetchone()
            if len(self._known) >= WORDS_MAX:
                self._known.clear()
            found = self._known[word] = int(row[0])
        return found

    def forget(self) -> None:
        self._known.clear()
