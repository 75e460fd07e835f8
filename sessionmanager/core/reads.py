"""Reads across the tiers: hot while it may be trusted, else warm, else the object of an archived session.

A plain read is linearizable while nothing is broken and at most one lease old whatever is; `latest` always asks warm
(reliability notes, corrections 3 and 4). Nothing that a tier stored is parsed to be served again, and no read writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Final, Protocol

from msgspec import Struct

from sessionmanager.core.history import History, Lines, Moved, Range
from sessionmanager.core.ledger import Ledger, counted_from
from sessionmanager.core.moves.rehydrate import Thaw
from sessionmanager.errors import Contended, DataCorrupt, Erased, MinVersionAhead, OutcomeUnknown, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry, peek_entry
from sessionmanager.model.head import Head
from sessionmanager.tiers.hot.protocol import Copy, Hot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key, TierName

TAIL_LINES_KEPT: Final = 50
"""Lines that a fill takes along for hot, whatever its reader asked for."""
_data: Final = attrgetter("data")
RELOADS_MAX: Final = 16
"""How often a read looks again while the session's bodies move under it, before it is told `contended`."""


class View(Struct, frozen=True):
    """A head and the newest lines of its log, ascending, as of one moment.

    age_seconds, stale: set on a copy that warm could not confirm.
    """

    stored: Stored
    lines: tuple[StoredEntry, ...]
    tier: TierName
    age_seconds: int | None = None

    @property
    def stale(self) -> bool:
        return self.age_seconds is not None


class ReadEvents(Protocol):
    """What reads tell metrics."""

    def read(self, tier: str, hit: bool) -> None: ...


class Reads:
    """Reads of sessions; shares ledger and tiers with everything else in the process."""

    def __init__(
        self,
        ledger: Ledger,
        hot: Hot,
        warm: Warm,
        thaw: Thaw,
        history: History,
        *,
        lease_seconds: float,
        events: ReadEvents,
    ) -> None:
        self._ledger = ledger
        self._hot = hot
        self._warm = warm
        self._thaw = thaw
        self._history = history
        self._lease_ms = round(lease_seconds * 1000)
        self._events = events

    async def view(self, key: Key, *, lines: int, min_version: int = 0, latest: bool = False) -> View:
        """The head and its newest `lines` lines. Raises NotFound, Erased, MinVersionAhead, TierUnavailable,
        DataCorrupt.

        Cost: one read of hot; where that may not be trusted, one of warm; one object where the session is archived;
        one body more for every segment that `lines` reach into.
        """
        copy = None if latest else await self._recall(key)
        if copy is not None and self._is_fresh(copy) and copy.stored.version >= min_version:
            tail = _newest(copy, lines)
            if tail is not None:
                self._events.read("hot", True)
                return View(copy.stored, tail, "hot")
        self._events.read("hot", False)
        try:
            return await self._from_warm(key, lines, min_version)
        except TierUnavailable as error:
            if error.tier != "warm" or copy is None or copy.stored.version < min_version:
                raise
            tail = _newest(copy, lines)
            if tail is None:
                raise
            age = max(0, self._now_ms() - instants.to_ms(copy.as_of)) // 1000
            return View(copy.stored, tail, "hot", age)

    async def view_after(self, key: Key, version: int, *, lines: int) -> View:
        """The session as it is since a commit that stands.

        Raises OutcomeUnknown where it cannot be read: the commit is not to be told as refused, and a repeat with the
        same key gets the answer.
        """
        try:
            return await self.view(key, lines=lines, min_version=version)
        except (TierUnavailable, Contended) as error:
            raise OutcomeUnknown("the write stands, but the session cannot be read back now") from error

    async def head(self, key: Key) -> tuple[Stored, tuple[StoredEntry, ...] | None]:
        """The newest head with all its parts, and the tail where it is archived. Linearizable."""
        source = await self._ledger.exact(key)
        self._ledger.raise_floor(key, source.stored.rev)
        return source.stored, source.restored

    async def lines(self, key: Key, span: Range) -> tuple[Stored, Lines]:
        """A page of lines at any depth, and the head it was read against. Linearizable in its newest line."""
        rev = 0
        for _ in range(RELOADS_MAX):
            stored, tail = await self.head(key)
            try:
                return stored, await self._history.read(key, stored.head, span, tail)
            except Moved:
                # Sealed or offloaded between the head and the lines: the newest head knows where they are. Where it is
                # still the head of the last look, it does not, and nobody does.
                if stored.rev == rev:
                    raise DataCorrupt("lines of the log are missing") from None
                rev = stored.rev
        raise Contended

    async def first_seq_after(self, key: Key, view: View, version: int) -> int:
        """The seq of the first line of a later version; one past the last where there is none.

        Cost: none where the view reaches back so far, else one read of the tail or one body a level of the index.
        """
        head = view.stored.head
        if version >= head.version:
            return head.pulse.entry_count + 1
        if view.lines and peek_entry(view.lines[0].data).version <= version:
            return next(line.seq for line in view.lines if peek_entry(line.data).version > version)
        stored, _ = await self.head(key)
        ref = next(
            (ref for refs in reversed(stored.head.index.levels) for ref in refs if ref.last_version > version), None
        )
        low = ref.first_seq if ref is not None else stored.head.work.tail_first_seq
        high = ref.last_seq if ref is not None else stored.head.pulse.entry_count
        while low < high:  # versions ascend with seqs, so halves of the range decide it
            middle = (low + high) // 2
            _, found = await self.lines(key, Range(middle - 1, middle + 1, 1))
            if peek_entry(found.lines[0].data).version > version:
                high = middle
            else:
                low = middle + 1
        return low

    async def _recall(self, key: Key) -> Copy | None:
        try:
            copy = await self._hot.recall(key)
        except TierUnavailable:
            return None
        if copy is None or copy.stored.placement == "cold" or copy.stored.rev < self._ledger.floor(key):
            return None
        return copy

    def _is_fresh(self, copy: Copy) -> bool:
        """Whether the copy's lease stands whatever our clock may be off by; whoever wrote the copy took off its own
        error (`ledger.counted_from`)."""
        age_ms = self._now_ms() - instants.to_ms(copy.as_of)
        return age_ms + self._warm.clock_error() * 1000 < self._lease_ms

    def _now_ms(self) -> int:
        return instants.to_ms(self._warm.now())

    async def _from_warm(self, key: Key, lines: int, min_version: int) -> View:
        for _ in range(RELOADS_MAX):
            view = await self._look(key, lines, min_version)
            if view is not None:
                return view
        raise Contended

    async def _look(self, key: Key, lines: int, min_version: int) -> View | None:
        """The session as warm has it; None where it came back from cold while its object was read: look again."""
        token = await self._begin_fill(key)
        as_of = self._warm.now()
        loaded = await self._warm.load(key, tail=max(lines, TAIL_LINES_KEPT))
        stored = loaded.stored
        if stored.tombstone is not None:
            raise Erased
        if stored.version < min_version:
            raise MinVersionAhead(stored.version)
        self._ledger.raise_floor(key, stored.rev)
        if stored.placement == "cold":
            full, tail = await self._thaw(stored)
            if tail is None:
                return None
            self._events.read("cold", True)
            return View(full, await self._reach_back(key, full.head, tail, lines), "cold")
        if token is not None:
            await self._end_fill(key, token, Copy(stored, loaded.tail, counted_from(self._warm, as_of)))
        self._events.read("warm", True)
        if len(loaded.tail) >= lines or (loaded.tail and loaded.tail[0].seq == 1):
            return View(stored, loaded.tail[-lines:] if lines else (), "warm")
        return View(stored, await self._reach_back(key, stored.head, loaded.tail, lines), "warm")

    async def _reach_back(
        self, key: Key, head: Head, tail: Sequence[StoredEntry], lines: int
    ) -> tuple[StoredEntry, ...]:
        """The newest lines, out of segments where the tail is shorter than what was asked for."""
        if lines <= len(tail) or (tail and tail[0].seq == 1):
            return tuple(tail[-lines:]) if lines else ()
        before = tail[0].seq if tail else head.pulse.entry_count + 1
        try:
            older = await self._history.read(key, head, Range(0, before, lines - len(tail), descending=True), tail)
        except Moved:
            _, older = await self.lines(key, Range(0, before, lines - len(tail), descending=True))
        return (*reversed(older.lines), *tail)

    async def _begin_fill(self, key: Key) -> str | None:
        try:
            return await self._hot.begin_fill(key)
        except TierUnavailable:
            return None

    async def _end_fill(self, key: Key, token: str, copy: Copy) -> None:
        with suppress(TierUnavailable):  # the guard has counted it; the next reader tries again
            await self._hot.end_fill(key, token, copy)


def _newest(copy: Copy, lines: int) -> tuple[StoredEntry, ...] | None:
    """The newest lines of a copy, or None where it does not hold that many and there are more."""
    tail = copy.tail
    if len(tail) >= lines:
        return tail[-lines:] if lines else ()
    return tail if tail and tail[0].seq == 1 else None


def render_session(stored: Stored, *, stale: bool = False) -> bytes:
    """The public JSON of a session without its closing brace: stored texts joined, none of them parsed."""
    parts = stored.parts
    head = b'{"placement":"cold",' if stored.placement == "cold" else b'{"placement":"warm",'
    if stale:
        head += b'"stale":true,'
    return b"".join(
        (
            head,
            parts["pulse"][1:-1],
            b",",
            parts["profile"][1:-1],
            b",",
            parts["detail"][1:-1],
            b',"context":',
            parts["context"],
        )
    )


def render_summary(stored: Stored) -> bytes:
    """The public JSON of a list item: no context, participants, calls, realtime, audio."""
    placement = stored.placement.encode()
    return b"".join(
        (b'{"placement":"', placement, b'",', stored.parts["pulse"][1:-1], b",", stored.parts["profile"][1:-1], b"}")
    )


def join_entries(lines: Sequence[StoredEntry]) -> bytes:
    return b",".join(map(_data, lines))


def within(lines: Sequence[StoredEntry], max_bytes: int | None) -> tuple[StoredEntry, ...]:
    """The newest lines whose bytes, commas included, stay within the bound."""
    if max_bytes is None:
        return tuple(lines)
    size, kept = 0, 0
    for line in reversed(lines):
        size += len(line.data) + 1
        if size > max_bytes:
            break
        kept += 1
    return tuple(lines[len(lines) - kept :])
