"""Lines of the log at any depth, from whichever tier they lie in. Cost: that of the page, never of the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sessionmanager.core.bodies import Bodies
from sessionmanager.errors import DataCorrupt, NotFound
from sessionmanager.model.entry import StoredEntry, peek_entry, type_family
from sessionmanager.model.head import Head
from sessionmanager.model.index import find
from sessionmanager.tiers.warm.protocol import WarmHeads
from sessionmanager.words import Key

SEGMENTS_READ_MAX: Final = 16
"""How many segments one page may open while it looks for rare types; the cursor goes on from there."""
TAIL_LINES_READ_MAX: Final = 2_000


class Range(NamedTuple):
    """Which lines: `after < seq < before`, of these types (empty = all), in this order, at most `limit`."""

    after: int
    before: int
    limit: int
    types: frozenset[str] = frozenset()
    descending: bool = False


class Lines(NamedTuple):
    """Lines found, and the seq up to which was looked (going on from it misses nothing and repeats nothing)."""

    lines: list[StoredEntry]
    reached: int
    done: bool


class Moved(Exception):
    """The tail was sealed, or a body has moved, between the head and the lines: load the head again."""


class History:
    """Reads ranges against one head. tail: lines that the caller holds already (an archived tail), else warm's."""

    def __init__(self, warm: WarmHeads, bodies: Bodies) -> None:
        self._warm = warm
        self._bodies = bodies

    async def read(self, key: Key, head: Head, span: Range, tail: Sequence[StoredEntry] | None = None) -> Lines:
        """A page of lines. Raises Moved, DataCorrupt, TierUnavailable.

        `head` needs its index and its keys. Cost: at most SEGMENTS_READ_MAX bodies and one read of the tail.
        """
        last = min(span.before - 1, head.pulse.entry_count)
        first = max(span.after + 1, 1)
        found: list[StoredEntry] = []
        position = last if span.descending else first
        opened = 0
        while first <= position <= last and len(found) < span.limit:
            if position >= head.work.tail_first_seq:
                chunk = await self._tail_chunk(key, head, span, position, first, last, tail)
            elif opened == SEGMENTS_READ_MAX:
                break
            else:
                chunk, opened = await self._sealed_chunk(key, head, span, position, first, last, opened)
            for line in chunk:
                position = line.seq - 1 if span.descending else line.seq + 1
                if _wanted(line, span.types):
                    found.append(line)
                    if len(found) == span.limit:
                        break
        reached = position + 1 if span.descending else position - 1
        return Lines(found, reached, not first <= position <= last)

    async def _tail_chunk(
        self,
        key: Key,
        head: Head,
        span: Range,
        position: int,
        first: int,
        last: int,
        tail: Sequence[StoredEntry] | None,
    ) -> list[StoredEntry]:
        low = max(first, head.work.tail_first_seq)
        lower, upper = (low, position) if span.descending else (position, last)
        if tail is not None:
            chunk = [line for line in tail if lower <= line.seq <= upper]
            chunk = chunk[::-1] if span.descending else chunk
        else:
            limit = TAIL_LINES_READ_MAX if span.types else span.limit
            chunk = await self._warm.read(
                key, after=lower - 1, before=upper + 1, limit=limit, descending=span.descending
            )
        step = -1 if span.descending else 1
        if not chunk or any(line.seq != position + step * i for i, line in enumerate(chunk)):
            raise Moved
        return chunk

    async def _sealed_chunk(
        self, key: Key, head: Head, span: Range, position: int, first: int, last: int, opened: int
    ) -> tuple[list[StoredEntry], int]:
        ref = find(head.index, position)
        if ref is None:
            raise DataCorrupt("the index does not hold the history")
        if span.types and not span.types.intersection(ref.types) and not _any_custom(span.types, ref.types):
            seq = max(ref.first_seq, first) if span.descending else min(ref.last_seq, last)
            return [StoredEntry(seq, b"")], opened
        try:
            ref, lines = await self._bodies.segment_of(key, head.keys, ref, position)
        except NotFound as error:
            raise Moved from error
        low, high = max(ref.first_seq, first), min(ref.last_seq, last)
        low, high = (low, position) if span.descending else (position, high)
        chunk = [StoredEntry(seq, lines[seq - ref.first_seq]) for seq in range(low, high + 1)]
        return (chunk[::-1] if span.descending else chunk), opened + 1


def _wanted(line: StoredEntry, types: frozenset[str]) -> bool:
    """An empty line stands for a run that was skipped whole."""
    return bool(line.data) and (not types or peek_entry(line.data).type in types)


def _any_custom(types: frozenset[str], held: Sequence[str]) -> bool:
    return "custom.*" in held and any(type_family(name) == "custom.*" for name in types)
