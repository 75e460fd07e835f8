"""How the simulated model hears: sound gathers, loud sound is speech, silence ends it."""

from __future__ import annotations

import uuid
from typing import Final, Literal, NamedTuple

from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.simulate.speech import is_silent, words_in

FRAME_MS: Final = 20
BEFORE_MS: Final = 300
COMMIT_MS_MIN: Final = 100


class TurnEvent(NamedTuple):
    """The caller's turn begins or ends. text: of one that ends."""

    what: Literal["started", "stopped"]
    item: str
    at_ms: int
    text: str = ""


class Hearing:
    """The input buffer of one connection. has_turns: whether it notices turns by itself."""

    def __init__(self, silence_ms: int) -> None:
        self._silence_ms = silence_ms
        self._buffer = bytearray()
        self._rest = b""
        self._total_ms = 0.0
        self._quiet_ms = 0.0
        self._item: str | None = None

    def clear(self) -> None:
        self._buffer.clear()
        self._item = None

    def hear(self, audio: bytes, media: MediaFormat, *, has_turns: bool) -> list[TurnEvent]:
        """What is noticed in the next sound."""
        if not has_turns:
            self._buffer += audio
            return []
        events: list[TurnEvent] = []
        data, size = self._rest + audio, media.size_of(FRAME_MS)
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        for at in range(0, whole, size):
            event = self._frame(data[at : at + size], media)
            if event is not None:
                events.append(event)
        return events

    def _frame(self, frame: bytes, media: MediaFormat) -> TurnEvent | None:
        self._total_ms += FRAME_MS
        self._buffer += frame
        quiet = is_silent(frame, media)
        self._quiet_ms = self._quiet_ms + FRAME_MS if quiet else 0.0
        if self._item is None:
            if quiet:
                del self._buffer[: -media.size_of(BEFORE_MS)]
                return None
            self._item = new_item()
            return TurnEvent("started", self._item, int(self._total_ms))
        if self._quiet_ms < self._silence_ms:
            return None
        item, self._item = self._item, None
        text = words_in(bytes(self._buffer), media)
        self._buffer.clear()
        return TurnEvent("stopped", item, int(self._total_ms), text)

    def so_far(self, media: MediaFormat) -> str:
        """What the caller has said of the turn that is not over."""
        return words_in(bytes(self._buffer), media)

    def commit(self, media: MediaFormat) -> tuple[str, str] | None:
        """The turn that the client says is over: its item and words; None = there is too little."""
        if media.duration_ms(len(self._buffer)) < COMMIT_MS_MIN:
            return None
        item, text = self._item or new_item(), words_in(bytes(self._buffer), media)
        self.clear()
        return item, text


def new_item() -> str:
    """A name for an item."""
    return f"item_{uuid.uuid4().hex[:21]}"
