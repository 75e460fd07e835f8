"""The caller's sound that no model has made words of yet: after a model's connection is lost, the next one is told it.

Pure. Positions are bytes since the call began, in this format; what is heard again keeps its own.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sessionmanager.bridges.media.formats import MediaFormat

BACKLOG_MS: Final = 60_000.0
"""Sound that is kept at most; of a longer turn the beginning is given up."""
BEFORE_MS: Final = 3_000.0
"""Kept from before speech is noticed: a model notices it some hundred milliseconds late, and says so over a network."""

UNSURE_MS: Final = 10_000.0
"""Sound sent to a connection that then proves dead: so long it may take until that is noticed."""


class Backlog:
    """Sound of the caller's open turns, and a little of what was before. media: its format."""

    def __init__(self, media: MediaFormat) -> None:
        self.media = media
        self._max = media.size_of(BACKLOG_MS)
        self._before = media.size_of(BEFORE_MS)
        self._unsure = media.size_of(UNSURE_MS)
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._end = 0
        self._spoken_until = 0
        self._again = (0, 0)
        """Of sound that is heard again, in one go: where it begins and ends."""
        self._unheard: int | None = 0
        """From where on no model hears it; None = one does."""
        self._turns: dict[str, tuple[int, int | None]] = {}
        """By the model's item: where the turn begins, and where it ends, once it has."""

    @property
    def has_speech(self) -> bool:
        """Whether something was said of which there are no words yet."""
        return bool(self._turns)

    @property
    def unsaid(self) -> tuple[int, int]:
        """From where to where there is sound that no model has heard, or made words of."""
        begins = [begin for begin, _ in self._turns.values()]
        if self._unheard is not None:
            begins.append(self._unheard)
        return max(min(begins, default=self._end), self._end - self._size), self._end

    def between(self, first: int, last: int) -> bytes:
        """The sound between two positions, as far as it is still there."""
        pieces: list[bytes] = []
        at = self._end - self._size
        for piece in self._pieces:
            if at + len(piece) > first and at < last:
                pieces.append(piece[max(0, first - at) : last - at])
            at += len(piece)
        return b"".join(pieces)

    def hear(self, audio: bytes) -> None:
        """The next sound."""
        self._pieces.append(audio)
        self._size += len(audio)
        self._end += len(audio)
        self._trim()

    def started(self, item: str) -> None:
        """Speech is noticed."""
        self._turns.setdefault(item, (self._beginning, None))

    def stopped(self, item: str) -> None:
        """The turn is over; its words are to come."""
        begin, _ = self._turns.get(item, (self._beginning, None))
        self._turns[item] = (begin, self._end)
        self._spoken_until = self._end

    @property
    def _beginning(self) -> int:
        """Where a turn begins that is noticed now: what belongs to the turn before is not heard again. In sound that
        came in one go it may begin anywhere."""
        begin = self._end - self._before
        again, until = self._again
        return max(self._spoken_until, again if begin < until else begin)

    def words_came(self, item: str) -> None:
        """The turn is words by now."""
        self._turns.pop(item, None)
        self._trim()

    def connection_lost(self) -> None:
        """No model hears what comes, nor has it heard for certain what came just now."""
        if self._unheard is None:
            self._unheard = max(self._spoken_until, self._end - self._unsure)

    def take(self) -> bytes:
        """Everything that no model has heard, or made words of: for a new connection, which hears it as new sound and
        notices turns anew."""
        first, end = self.unsaid
        kept = self.between(first, end)
        self._turns.clear()
        self._pieces.clear()
        self._size = 0
        self._end = self._spoken_until = first
        self._again = first, end
        self._unheard = None
        if kept:
            self.hear(kept)
        return kept

    def leave(self) -> bytes:
        """The line is lost: everything that no model has made words of, and the last moments, in which speech may have
        begun that no model has told of yet."""
        if self._unheard is None:
            self._unheard = self._beginning
        return self.take()

    def _trim(self) -> None:
        begins = [begin for begin, _ in self._turns.values()]
        begins.append(self._end - self._unsure if self._unheard is None else self._unheard)
        first = max(min(begins), self._end - self._max)
        while self._pieces and self._end - self._size + len(self._pieces[0]) <= first:
            self._size -= len(self._pieces.popleft())
