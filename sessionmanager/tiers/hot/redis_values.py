"""Copies ⇄ what Redis holds of a session. Pure: no network, no clock.

Three keys with one hash tag, so that a cluster keeps them on one server and a script may touch them together:

| key | type | holds |
|---|---|---|
| `…:copy` | hash | `m` in the clear, for scripts; `h`, one field a part, one a run of lines |
| `…:floor` | text | the least `rev` that may be kept, or `x`: none ever |
| `…:fill` | text | the token of whoever fills |

`m` is `<format> <rev> <from> <first> <last> <bytes> <fields>`: lines below `from` are hidden, `first` to `last` lie
there in so many bytes, and the hash has so many fields. `h` is `<rev> <version> <placement> <as_of>`. A run of lines is
called by the seq of its first. Every value but `m` begins with a MAC over the session, the field's name and the rest:
another session's value, another field's, a flipped bit and what somebody else wrote are all told from ours. The MAC
does not bind a field to the rev of the others: who can write to Redis can bring back an older part of the same session
for as long as the lease of the copy lasts, and no other (decision 0021).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from sessionmanager.model.codec import Stored, join_lines, split_lines
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy
from sessionmanager.words import PLACEMENTS, Instant, Key, Placement

FORMAT: Final = b"1"
"""Stands at the beginning of `m`. Another one is a miss for us, and our commits drop it."""
MAC_BYTES: Final = 16
RUN_LINES_MAX: Final = 16
RUN_BYTES_MAX: Final = 8192
"""A run ends past either: what is trimmed are whole runs. A longer line is a run of its own."""
META: Final = b"m"
HEADER: Final = b"h"
_PARTS: Final[Mapping[bytes, str]] = {name.encode(): name for name in HOT_PARTS}
_META = re.compile(rb"1 (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", re.ASCII)
_AS_OF = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_PLACEMENTS: Final[Mapping[str, Placement]] = {name: name for name in PLACEMENTS}

Field = tuple[bytes, bytes]


class Mismatch(Exception):
    """What came is not what was kept for this session."""


class Names(NamedTuple):
    """What a session is called in Redis; `bell` is a channel."""

    copy: bytes
    floor: bytes
    fill: bytes
    bell: bytes


class Lines(NamedTuple):
    """Lines as fields: `first` to `last`, `bytes` of them as stored; all 0 where there are none. Where even the newest
    is too large to be kept, `first` is one past `last`: what lies there already would end before it, and goes."""

    first: int
    last: int
    bytes: int
    fields: tuple[Field, ...]


NO_LINES: Final = Lines(0, 0, 0, ())


def names_of(prefix: str, key: Key) -> Names:
    """The hash tag is the session (`Key.text`: no tenant is a prefix of another); `prefix` has no brace."""
    stem = f"{prefix}{{{key.text}}}:".encode()
    return Names(stem + b"copy", stem + b"floor", stem + b"fill", stem + b"bell")


class Seal:
    """The MAC of one session's values. Cost: about 0.6 µs a field and 0.8 µs a KiB."""

    def __init__(self, mac_key: bytes, key: Key) -> None:
        scope = key.text.encode()
        self._scope = blake2b(b"%d:%b" % (len(scope), scope), key=mac_key, digest_size=MAC_BYTES)

    def shut(self, name: bytes, data: bytes) -> bytes:
        return self._mac(name, data) + data

    def open(self, name: bytes, value: bytes) -> bytes:
        """The data of a value. Raises Mismatch."""
        data = value[MAC_BYTES:]
        if not hmac.compare_digest(self._mac(name, data), value[:MAC_BYTES]):
            raise Mismatch("a value does not check")
        return data

    def _mac(self, name: bytes, data: bytes) -> bytes:
        mac = self._scope.copy()
        mac.update(b"%b\0%b" % (name, data))
        return mac.digest()


def header_field(seal: Seal, rev: int, version: int, placement: Placement, as_of: Instant) -> Field:
    return HEADER, seal.shut(HEADER, f"{rev} {version} {placement} {as_of}".encode())


def part_fields(seal: Seal, parts: Mapping[str, bytes], names: Iterable[str]) -> list[Field]:
    """The parts of these names that a copy may hold."""
    return [(field, seal.shut(field, parts[name])) for field, name in _PARTS.items() if name in names and name in parts]


def part_names(names: Iterable[str]) -> list[bytes]:
    return [name.encode() for name in names if name in HOT_PARTS]


def line_fields(seal: Seal, lines: Sequence[StoredEntry], entries_max: int, bytes_max: int) -> Lines:
    """The newest lines within the bounds, in runs; contiguous, as they came."""
    begin, size = len(lines), 0
    while begin and len(lines) - begin < entries_max and size + len(lines[begin - 1].data) <= bytes_max:
        begin -= 1
        size += len(lines[begin].data)
    runs: list[Field] = []
    run: list[bytes] = []
    size, first = 0, 0
    for line in lines[begin:]:
        if run and (len(run) >= RUN_LINES_MAX or size + len(line.data) > RUN_BYTES_MAX):
            runs.append(_run(seal, first, run))
            run, size = [], 0
        if not run:
            first = line.seq
        run.append(line.data)
        size += len(line.data)
    if not run:
        return Lines(lines[-1].seq + 1, lines[-1].seq, 0, ()) if lines else NO_LINES
    runs.append(_run(seal, first, run))
    return Lines(lines[begin].seq, lines[-1].seq, sum(len(value) for _, value in runs), tuple(runs))


def _run(seal: Seal, first: int, run: Sequence[bytes]) -> Field:
    name = b"%d" % first
    return name, seal.shut(name, join_lines(run))


def whole_copy(seal: Seal, copy: Copy, entries_max: int, bytes_max: int) -> list[Field]:
    """Every field of a copy that is kept anew."""
    stored = copy.stored
    fields = [header_field(seal, stored.rev, stored.version, stored.placement, copy.as_of)]
    fields += part_fields(seal, stored.parts, stored.parts)
    lines = line_fields(seal, copy.tail, entries_max, bytes_max)
    if not lines.fields:
        lines = NO_LINES
    fields += lines.fields
    meta = b"%b %d 0 %d %d %d %d" % (FORMAT, stored.rev, lines.first, lines.last, lines.bytes, len(fields) + 1)
    return [(META, meta), *fields]


def read_copy(seal: Seal, key: Key, flat: Sequence[bytes]) -> Copy | None:
    """The copy from the names and values of a hash, one behind the other. None: nothing, or another format's.

    Raises Mismatch for everything that no writer of this format has left there.
    """
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    if not fields:
        return None
    meta = fields.pop(META, b"")
    if not meta.startswith(FORMAT + b" ") and re.match(rb"\d+ ", meta):
        return None
    match = _META.fullmatch(meta)
    if match is None:
        raise Mismatch("the meta field does not read as one")
    rev, hidden_below, first, last, _, count = map(int, match.groups())
    header = seal.open(HEADER, fields.pop(HEADER, b""))
    if count != len(fields) + 2:
        raise Mismatch("fields are missing or too many")
    stored_rev, version, placement, as_of = _read_header(header)
    if stored_rev != rev:
        raise Mismatch("the header is of another rev")
    tail = _read_tail(seal, fields, first, last, hidden_below)
    parts: dict[str, bytes] = {}
    for name, value in fields.items():
        if name not in _PARTS:
            raise Mismatch("a field that is none of ours")
        parts[_PARTS[name]] = seal.open(name, value)
    return Copy(Stored(key, rev, version, parts, placement=placement), tail, as_of)


def _read_header(header: bytes) -> tuple[int, int, Placement, Instant]:
    try:
        rev, version, placement, as_of = header.decode("ascii").split(" ")
        known = _PLACEMENTS.get(placement)
        if known is None or not _AS_OF.fullmatch(as_of):
            raise Mismatch("the header does not read as one")
        return int(rev), int(version), known, as_of
    except ValueError:
        raise Mismatch("the header does not read as one") from None


def _read_tail(
    seal: Seal, fields: dict[bytes, bytes], first: int, last: int, hidden_below: int
) -> tuple[StoredEntry, ...]:
    """The lines, taken out of the fields: each run says by its length how the next is called."""
    tail: list[StoredEntry] = []
    due = first
    while first and due <= last:
        name = b"%d" % due
        value = fields.pop(name, None)
        if value is None:
            raise Mismatch("a run of lines is missing")
        for line in split_lines(seal.open(name, value)):
            tail.append(StoredEntry(due, line))
            due += 1
    if due != (last + 1 if first else 0):
        raise Mismatch("lines are missing at the end, or too many")
    return tuple(line for line in tail if line.seq >= hidden_below) if first < hidden_below else tuple(tail)
