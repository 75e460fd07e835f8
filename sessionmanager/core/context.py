"""Reads what a model's window is made of: the newest lines, and the little of the older ones that must not be missing.

1. The newest lines, as any read gets them: from hot while it may be trusted.   2. While those say too little, at most
`PAGES_MAX` pages of older entries that say something.   3. The calls whose outputs the lines begin with.   4. The
newest summary.   5. The system entries at the very beginning.

Each of 3 to 5 is one page, so the cost is bounded by what is asked for and the same at any length of the log: a page
skips segments without the types it looks for, and opens `SEGMENTS_READ_MAX` of the others at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from sessionmanager.core.history import Range
from sessionmanager.core.reads import Reads, View, within
from sessionmanager.errors import TierUnavailable
from sessionmanager.model.entry import Entry, StoredEntry, decode_entry, peek_entry
from sessionmanager.model.window.units import SPOKEN, units_of
from sessionmanager.model.window.window import Asked, Window, make
from sessionmanager.words import Key, TierName

EXTRA_LINES: Final = 50
"""Lines read beyond those asked for: for the other halves of calls, and for entries that say nothing to a model."""
LINES_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of the newest lines; older ones are left out."""
PAGES_MAX: Final = 4
CALLS_LOOKED_AT_MAX: Final = 64
"""Older function calls among which those are looked for whose outputs the window begins with."""
FIRST_LINES: Final = 20
"""Lines at the beginning of the log whose system entries are kept, however long it is."""


class Context(NamedTuple):
    """A window, and the view of the session that it was made from. unavailable: a tier that older lines lie in, and
    that did not answer: the window is legal, and may lack a summary, a system entry or older turns."""

    view: View
    window: Window
    unavailable: TierName | None


def lines_for(asked: Asked) -> int:
    """How many of the newest lines a view must hold for this window."""
    return asked.entries_max + EXTRA_LINES


class Contexts:
    """Windows of sessions; shares the reads with everything else in the process."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def read(self, key: Key, asked: Asked, *, min_version: int = 0, latest: bool = False) -> Context:
        """The window of a session. Raises NotFound, Erased, MinVersionAhead, TierUnavailable, DataCorrupt.

        Cost: see the module; while hot holds the whole window and there is no more history, one read of hot.
        """
        view = await self._reads.view(key, lines=lines_for(asked), min_version=min_version, latest=latest)
        return await self.of_view(key, view, asked)

    async def of_view(self, key: Key, view: View, asked: Asked) -> Context:
        """The window of a view that holds `lines_for(asked)` lines, or all there are. A view that warm could not
        confirm is not looked behind: warm is away."""
        look = _Look(self._reads, key, within(view.lines, LINES_BYTES_MAX), asked)
        if not view.stale:
            await look.back()
        window = make(view.stored.head, look.lines, floor=look.floor, asked=asked)
        return Context(view, window, look.unavailable)


class _Look:
    """One look at a log. floor: everything after it that says something to a model is among the lines."""

    def __init__(self, reads: Reads, key: Key, lines: Sequence[StoredEntry], asked: Asked) -> None:
        self._reads = reads
        self._key = key
        self._asked = asked
        self.lines: list[StoredEntry] = list(lines)
        self.floor = lines[0].seq - 1 if lines else 0
        self.unavailable: TierName | None = None

    async def back(self) -> None:
        """Steps 2 to 5 of the module. A tier that does not answer ends the looking, not the window."""
        try:
            for _ in range(PAGES_MAX):
                missing = self._missing()
                if missing <= 0 or not await self._older(missing):
                    break
            if self.floor > 0:
                await self._calls()
                await self._summary()
                await self._beginning()
        except TierUnavailable as error:
            self.unavailable = error.tier

    def _missing(self) -> int:
        """How many entries that say something are asked for beyond those that were read; none where there are no
        older lines."""
        if self.floor == 0:
            return 0
        found = units_of(decode_entry(line.data) for line in self.lines)
        return self._asked.entries_max - sum(len(unit.seqs) for unit in found.units if unit.kind != "nothing")

    def _room(self) -> int:
        return LINES_BYTES_MAX - sum(len(line.data) + 1 for line in self.lines)

    async def _older(self, missing: int) -> bool:
        """One page more; False where there was no room for all of it."""
        span = Range(0, self.floor + 1, missing + EXTRA_LINES, SPOKEN | {"status"}, descending=True)
        _, found = await self._reads.lines(self._key, span)
        fitting = within(found.lines[::-1], self._room())
        self._add(fitting)
        if len(fitting) < len(found.lines):
            self.floor = found.lines[len(fitting)].seq
            return False
        self.floor = 0 if found.done else found.reached - 1
        return True

    async def _calls(self) -> None:
        """An output answers the call of its id that was made last; as many calls as there are outputs without one."""
        found = units_of(decode_entry(line.data) for line in self.lines)
        wanted = Counter(output.call_id for output in found.unpaired)
        if not wanted:
            return
        span = Range(0, self.floor + 1, CALLS_LOOKED_AT_MAX, frozenset(("function_call",)), descending=True)
        _, calls = await self._reads.lines(self._key, span)

        def is_wanted(entry: Entry) -> bool:
            wanted[entry.call_id] -= 1
            return wanted[entry.call_id] >= 0

        self._add([line for line in calls.lines if is_wanted(decode_entry(line.data))])

    async def _summary(self) -> None:
        if any(peek_entry(line.data).type == "summary" for line in self.lines):
            return
        span = Range(0, self.floor + 1, 1, frozenset(("summary",)), descending=True)
        _, found = await self._reads.lines(self._key, span)
        self._add(found.lines)

    async def _beginning(self) -> None:
        span = Range(0, min(self.floor, FIRST_LINES) + 1, FIRST_LINES, frozenset(("message",)))
        _, found = await self._reads.lines(self._key, span)
        self._add(found.lines)  # of what lies before the floor, a window takes system entries alone

    def _add(self, lines: Sequence[StoredEntry]) -> None:
        known = {line.seq for line in self.lines}
        self.lines += [line for line in lines if line.seq not in known]
        self.lines.sort(key=lambda line: line.seq)
