"""What the caller has heard of what the bot says: told from the time that playing takes, and by marks where there are
any.

Pure: the clock is an argument, in seconds of any monotonic kind.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from sessionmanager.words import Instant

PIECES_MAX: Final = 20_000
TEXT_MS_PER_CHAR: Final = 65.0
"""How long a voice takes for one letter of a text: some fifteen a second."""
FASTEST_MS_PER_CHAR: Final = 40.0
"""No voice is quicker. Until a call has shown how quick its own is, words that came further ahead of their sound than
this are not taken for heard."""
WHOLE_MS: Final = 30.0
"""Of an utterance nobody says that so little was cut off at its end."""
MARK_SECONDS: Final = 5.0
"""A mark that is so late was lost on the way: what it stands for counts as heard."""
_last_word = re.compile(r"\S+$")


class Utterance:
    """Something that the bot says. id: of its entry. item: the model's name for it, and of which connection.

    text: the words so far. total_ms: how long the sound so far lasts. whole: nothing more of it will come. cut_short:
    because its model was lost. heard_ms: what is certain by marks. notes, noted: how often it was noted down, and how
    far.
    """

    def __init__(self, id: str, item: str, connection: str, began_at: Instant) -> None:
        self.id = id
        self.item = item
        self.connection = connection
        self.began_at = began_at
        self.text = ""
        self.total_ms = 0.0
        self.whole = False
        self.cut_short = False
        self.heard_ms = 0.0
        self.notes = 0
        self.noted = ""

    def heard_text(self, heard_ms: float, ms_per_char: float = FASTEST_MS_PER_CHAR) -> str:
        """The words that fit into so much of its sound, whole ones only: no realtime model says where a word lies, so
        they are taken to run evenly. ms_per_char: how quick the voice is; words of an utterance that is not whole may
        have come before their sound."""
        sound_ms = self.total_ms if self.whole else max(self.total_ms, len(self.text) * ms_per_char)
        if heard_ms >= sound_ms - WHOLE_MS and heard_ms > 0:
            return self.text
        if heard_ms <= 0 or sound_ms <= 0:
            return ""
        share = int(len(self.text) * heard_ms / sound_ms)
        cut = self.text[:share]
        if share < len(self.text) and not self.text[share].isspace():
            cut = _last_word.sub("", cut)
        return cut.rstrip()


class _Piece:
    """A run of sound. starts_at: when it begins to be played, by the clock. ends_ms: its end within its utterance."""

    __slots__ = ("duration_ms", "ends_ms", "mark", "starts_at", "utterance")

    def __init__(self, utterance: Utterance, mark: str, starts_at: float, duration_ms: float) -> None:
        self.utterance = utterance
        self.mark = mark
        self.starts_at = starts_at
        self.duration_ms = duration_ms
        self.ends_ms = utterance.total_ms

    @property
    def ends_at(self) -> float:
        return self.starts_at + self.duration_ms / 1000


class Playback:
    """What has been handed to a line and is not known to have been heard to its end, in order.

    by_marks: the line tells when a piece was heard; then nothing counts as heard beyond the piece that is being played.
    """

    def __init__(self, *, by_marks: bool) -> None:
        self._by_marks = by_marks
        self._utterances: deque[Utterance] = deque()
        self._pieces: deque[_Piece] = deque()
        self._free_at = 0.0
        self._marked_at = 0.0

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Not settled yet, oldest first."""
        return tuple(self._utterances)

    def begin(self, utterance: Utterance) -> None:
        self._utterances.append(utterance)

    def add(self, utterance: Utterance, mark: str, duration_ms: float, now: float) -> None:
        """So much of it is handed over."""
        utterance.total_ms += duration_ms
        starts_at = max(now, self._free_at)
        self._free_at = starts_at + duration_ms / 1000
        self._pieces.append(_Piece(utterance, mark, starts_at, duration_ms))
        if len(self._pieces) > PIECES_MAX:
            self._reach(self._pieces[0])
            self._pieces.popleft()

    def reached(self, mark: str, now: float) -> None:
        """The caller has heard a piece, and all before it."""
        if not any(piece.mark == mark for piece in self._pieces):
            return
        while self._pieces:
            piece = self._pieces.popleft()
            self._reach(piece)
            if piece.mark == mark:
                break
        self._marked_at = now

    def _reach(self, piece: _Piece) -> None:
        piece.utterance.heard_ms = max(piece.utterance.heard_ms, piece.ends_ms)

    def position_ms(self, utterance: Utterance, now: float) -> float:
        """How much of it has been heard by now."""
        heard = utterance.heard_ms
        for place, piece in enumerate(self._pieces):
            since = max(piece.starts_at, self._marked_at) if self._by_marks else piece.starts_at
            if now < since:
                break
            # By marks only the first piece can be playing, unless its mark was lost.
            certain = not self._by_marks or place == 0 or now >= piece.ends_at + MARK_SECONDS
            if piece.utterance is utterance and certain:
                played = min((now - since) * 1000, piece.duration_ms)
                heard = max(heard, piece.ends_ms - piece.duration_ms + played)
        return min(heard, utterance.total_ms)

    def finished(self, now: float) -> list[Utterance]:
        """Those that are whole and heard to their end; they are settled by that."""
        done: list[Utterance] = []
        while self._utterances and self._is_over(self._utterances[0], now):
            done.append(self._take(self._utterances[0]))
        return done

    def _is_over(self, utterance: Utterance, now: float) -> bool:
        if not utterance.whole:
            return False
        heard = (
            utterance.heard_ms
            if self._by_marks and not self._is_late(utterance, now)
            else self.position_ms(utterance, now)
        )
        return heard >= utterance.total_ms

    def _is_late(self, utterance: Utterance, now: float) -> bool:
        last = next((piece for piece in reversed(self._pieces) if piece.utterance is utterance), None)
        return last is not None and now >= last.ends_at + MARK_SECONDS

    def ends_in(self, now: float) -> float | None:
        """Seconds until something may be finished by the clock; None = nothing is being played."""
        if not self._utterances:
            return None
        late = MARK_SECONDS if self._by_marks else 0.0
        last = next((p for p in reversed(self._pieces) if p.utterance is self._utterances[0]), None)
        return 0.0 if last is None else max(0.0, last.ends_at + late - now)

    def clear(self, now: float) -> list[tuple[Utterance, float]]:
        """The line was cleared: what was not settled, and how much of each was heard."""
        cut = [(utterance, self.position_ms(utterance, now)) for utterance in self._utterances]
        self._utterances.clear()
        self._pieces.clear()
        self._free_at = now
        return cut

    def _take(self, utterance: Utterance) -> Utterance:
        self._utterances.remove(utterance)
        while self._pieces and self._pieces[0].utterance is utterance:
            self._pieces.popleft()
        return utterance
