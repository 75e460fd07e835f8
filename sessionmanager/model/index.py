"""The index of the sealed history: pure steps on its levels, and the nodes that old references fold into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessionmanager.errors import DataCorrupt
from sessionmanager.model.codec import join_lines, sha256
from sessionmanager.model.entry import StoredEntry, decode_entry, peek_entry, type_family
from sessionmanager.model.head import Index, Ref

_encode = msgspec.json.Encoder().encode
_refs = msgspec.json.Decoder(tuple[Ref, ...])


class Body(NamedTuple):
    """A body to be kept, and the reference that will point to it."""

    ref: Ref
    canonical: bytes


def segment(lines: Sequence[StoredEntry], body_id: str) -> Body:
    """The segment of these contiguous lines. Cost: one pass; only the first and last line are decoded whole."""
    assert lines, "a segment is not empty"
    assert lines[-1].seq - lines[0].seq + 1 == len(lines), "a segment is contiguous"
    canonical = join_lines(line.data for line in lines)
    types = sorted({type_family(peek_entry(line.data).type) for line in lines})
    return Body(replace(reference(lines, body_id, canonical), types=tuple(types)), canonical)


def reference(lines: Sequence[StoredEntry], body_id: str, canonical: bytes) -> Ref:
    """What points to a body that holds these lines, whatever else it holds. Cost: the first and last are decoded."""
    first, last = decode_entry(lines[0].data), decode_entry(lines[-1].data)
    return Ref(
        id=body_id,
        level=0,
        first_seq=first.seq,
        last_seq=last.seq,
        first_version=first.version,
        last_version=last.version,
        first_at=first.recorded_at,
        last_at=last.recorded_at,
        bytes=len(canonical),
        sha256=sha256(canonical),
    )


def node(refs: Sequence[Ref], body_id: str) -> Body:
    """The immutable node of these contiguous references of one level."""
    canonical = _encode(tuple(refs))
    first, last = refs[0], refs[-1]
    ref = Ref(
        id=body_id,
        level=first.level + 1,
        first_seq=first.first_seq,
        last_seq=last.last_seq,
        first_version=first.first_version,
        last_version=last.last_version,
        first_at=first.first_at,
        last_at=last.last_at,
        bytes=len(canonical),
        sha256=sha256(canonical),
        types=tuple(sorted({name for child in refs for name in child.types})),
    )
    return Body(ref, canonical)


def decode_node(canonical: bytes) -> tuple[Ref, ...]:
    try:
        return _refs.decode(canonical)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("a node of the index does not read as one") from error


def push(index: Index, ref: Ref) -> Index:
    """The index with one more segment at its newest end."""
    newest = (*(index.levels[0] if index.levels else ()), ref)
    return Index(levels=(newest, *index.levels[1:]))


def fold_oldest(index: Index, level: int, count: int, body_id: str) -> tuple[Index, Body]:
    """The index with the `count` oldest references of a level folded into one node of the next, and that node."""
    refs = index.levels[level]
    body = node(refs[:count], body_id)
    return replace_folded(index, level, count, body.ref), body


def replace_folded(index: Index, level: int, count: int, ref: Ref) -> Index:
    """The index with the `count` oldest references of a level replaced by `ref`, the newest of the next level."""
    levels = list(index.levels)
    levels[level] = levels[level][count:]
    if level + 1 == len(levels):
        levels.append(())
    levels[level + 1] = (*levels[level + 1], ref)
    return Index(levels=tuple(levels))


def relocate(index: Index, moved: dict[str, Ref]) -> Index:
    """The index with some references replaced by others of the same id and range."""
    return Index(levels=tuple(tuple(moved.get(ref.id, ref) for ref in refs) for refs in index.levels))


def full_level(index: Index, fanout: int, may_fold: Callable[[Ref], bool]) -> int | None:
    """The lowest level whose `fanout` oldest references may all be folded, or None."""
    for level, refs in enumerate(index.levels):
        if len(refs) >= fanout and all(may_fold(ref) for ref in refs[:fanout]):
            return level
    return None


def find(index: Index, seq: int) -> Ref | None:
    """The reference of the head's index whose range holds `seq`; None where it is in the tail or beyond."""
    for refs in index.levels:
        if refs and refs[0].first_seq <= seq:
            return find_in(refs, seq)
    return None


def find_in(refs: Sequence[Ref], seq: int) -> Ref | None:
    for ref in refs:
        if ref.first_seq <= seq <= ref.last_seq:
            return ref
    return None


def count_warm(index: Index) -> int:
    """How many references of the head's index point to bodies in warm."""
    return sum(1 for refs in index.levels for ref in refs if ref.object is None)
