"""The bot's side of a call: its sound and words go to the line, and what was heard of them goes to the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from sessionmanager.bridges.base.playback import FASTEST_MS_PER_CHAR, TEXT_MS_PER_CHAR, Playback, Utterance
from sessionmanager.bridges.base.record import CUT_OFF, Record, entry_id
from sessionmanager.bridges.carrier import LINE_SECONDS, Line, LineGone, Piece, Token
from sessionmanager.bridges.media.convert import Converter
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.errors import SessionManagerError

RATE_CHARS_MIN: Final = 20
"""An utterance this long shows how quick the voice is."""
FIRST_NOTE_SECONDS: Final = 1.0
"""How long the first words of all wait for the service to know that they are being said, lest they are said again."""
PASSED_MAX: Final = 256

CutBy = Literal["caller", "line", "floor", "hold", "hang-up"]
_log: Final = logging.getLogger("sessionmanager.bridges")


class Cut(NamedTuple):
    """An utterance that was cut. heard_ms: how much of its sound was heard. heard: the words."""

    utterance: Utterance
    heard_ms: int
    heard: str


class Speech:
    """What the bot says on one line. model_media: the sound that the model makes; None = a line of text."""

    def __init__(self, line: Line, record: Record, model_media: MediaFormat | None, note_seconds: float) -> None:
        self._line = line
        self._record = record
        self._media = model_media
        self._note_seconds = note_seconds
        self._playback = Playback(by_marks=line.marks and line.media is not None)
        self._converters: dict[str, Converter] = {}
        self._passed: dict[tuple[str, str], None] = {}
        """Items that were cut or are whole: what still comes of them is not played."""
        self._ms_per_char = FASTEST_MS_PER_CHAR
        self._marks = 0
        self._moved = asyncio.Event()
        self.careful = False
        """Whether the next utterance is the first of the conversation."""
        self.muted = False

    @property
    def is_playing(self) -> bool:
        return bool(self._playback.utterances)

    async def wait_silent(self, seconds: float) -> None:
        """Until everything has been heard, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_playing:
                    self._moved.clear()
                    await self._moved.wait()

    # -- what the model makes

    async def sound(self, connection: str, item: str, audio: bytes) -> None:
        """Some sound of an item. Raises LineGone."""
        utterance = await self._utterance(connection, item)
        if utterance is None or self._media is None or self._line.media is None:
            return
        converter = self._converters.get(utterance.id)
        if converter is None:
            converter = self._converters[utterance.id] = Converter(self._media, self._line.media)
        lasts, made = self._media.duration_ms(len(audio)), converter.push(audio)
        self._marks += 1
        mark = f"{utterance.id}-{self._marks}"
        self._playback.add(utterance, mark, lasts, _now())
        await self._to_line(self._line.play(Piece(utterance.id, made, mark, lasts)))

    async def words(self, connection: str, item: str, delta: str) -> None:
        """Some words of an item, spoken or written. Raises LineGone."""
        utterance = await self._utterance(connection, item)
        if utterance is None:
            return
        utterance.text += delta
        if self._line.media is None:
            self._playback.add(utterance, "", len(delta) * TEXT_MS_PER_CHAR, _now())
            await self._to_line(self._line.show(Token(utterance.id, delta, last=False)))

    async def done(self, connection: str, item: str, text: str | None) -> None:
        """All of an item has come. Raises LineGone."""
        if (connection, item) in self._passed:
            return
        utterance = self._find(connection, item)
        if utterance is None:
            return
        if text and self._line.media is not None:
            utterance.text = text
        if len(utterance.text) >= RATE_CHARS_MIN and self._line.media is not None and utterance.total_ms > 0:
            self._ms_per_char = utterance.total_ms / len(utterance.text)
        await self._is_whole(utterance)

    async def _is_whole(self, utterance: Utterance) -> None:
        utterance.whole = True
        self._pass(utterance)
        self._moved.set()
        if self._line.media is None:
            await self._to_line(self._line.show(Token(utterance.id, "", last=True)))
        else:
            await self._to_line(self._line.finish(utterance.id))

    async def _utterance(self, connection: str, item: str) -> Utterance | None:
        if self.muted or (connection, item) in self._passed:
            return None
        found = self._find(connection, item)
        if found is not None:
            return found
        utterance = Utterance(entry_id(connection, item), item, connection, instant())
        self._playback.begin(utterance)
        kept = await self._note(utterance, "")
        if self.careful and kept is not None:
            # A greeting that nobody knows of would be said again by the next bridge.
            with suppress(TimeoutError, SessionManagerError):
                async with asyncio.timeout(FIRST_NOTE_SECONDS):
                    await kept.receipt()
        self.careful = False
        self._moved.set()
        # While it was noted down the caller may have cut it off.
        return self._find(connection, item)

    def _find(self, connection: str, item: str) -> Utterance | None:
        of = (u for u in self._playback.utterances if u.item == item and u.connection == connection)
        return next(of, None)

    async def _to_line(self, asked: Any) -> None:
        try:
            async with asyncio.timeout(LINE_SECONDS):
                await asked
        except TimeoutError:
            raise LineGone("it takes nothing") from None

    # -- what becomes of it

    def played(self, mark: str) -> None:
        """The line says that a piece was heard."""
        self._playback.reached(mark, _now())
        self._moved.set()

    async def connection_lost(self, connection: str) -> bool:
        """No more will come of what was being made there: what has come is played to its end. Answers whether something
        was cut off by it."""
        cut = False
        for utterance in self._playback.utterances:
            if utterance.connection == connection and not utterance.whole:
                utterance.text = utterance.heard_text(utterance.total_ms, self._ms_per_char)
                utterance.cut_short = cut = True
                await self._is_whole(utterance)
        return cut

    def provisional(self) -> list[dict[str, Any]]:
        """What is still being said, as a model is told of it that did not make it."""
        return [
            {"id": one.id, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
            for one in self._playback.utterances
            if (text := one.text)
        ]

    async def cut(self, by: CutBy, *, heard: str | None = None, clear: bool = True) -> list[Cut]:
        """Stop speaking. heard: the words of the running utterance that were heard, where somebody knows. clear:
        whether the line is still to be told. Answers what was cut, settled already."""
        now = _now()
        cuts: list[Cut] = []
        for utterance, heard_ms in self._playback.clear(now):
            words = utterance.heard_text(heard_ms, self._ms_per_char)
            if heard is not None:
                words, heard = heard, ""
            self._pass(utterance)
            self._settle(utterance, words, by)
            cuts.append(Cut(utterance, int(heard_ms), words))
        self._moved.set()
        if cuts and clear:
            await self._to_line(self._line.clear())
        return cuts

    def _pass(self, utterance: Utterance) -> None:
        self._passed[utterance.connection, utterance.item] = None
        self._converters.pop(utterance.id, None)
        if len(self._passed) > PASSED_MAX:
            del self._passed[next(iter(self._passed))]

    def _settle(self, utterance: Utterance, heard: str, by: CutBy | None) -> None:
        generated = utterance.text
        cut = {} if by is None or (heard == generated and utterance.whole) else {"cut": by}
        if not heard and (generated or utterance.total_ms <= 0):
            # Nobody heard it: no turn of the conversation, but what the model meant to say.
            self._record.write_soon(_spoken(utterance, utterance.id, "cancelled", heard, cut))
            return
        content: Any = heard if generated else [{"type": "output_audio"}]
        if utterance.cut_short and not cut:
            cut = {"cut": "model"}
        entry: dict[str, Any] = {"type": "message", "id": utterance.id, "role": "assistant", "content": content}
        entry["at"] = utterance.began_at
        if heard != generated:
            entry |= {"heard": heard, "generated": generated}
        if cut:
            entry["data"] = cut
        self._record.write_soon(entry)

    async def watch(self) -> None:
        """Settle what has been heard, and note down how far the rest has come, for ever."""
        noted_at = _now()
        while True:
            now = _now()
            for utterance in self._playback.finished(now):
                self._settle(utterance, utterance.text, None)
                self._moved.set()
            if now - noted_at >= self._note_seconds:
                noted_at = now
                for utterance in self._playback.utterances[:1]:
                    heard = utterance.heard_text(self._playback.position_ms(utterance, now), self._ms_per_char)
                    if heard != utterance.noted:
                        await self._note(utterance, heard)
            ends_in = self._playback.ends_in(now)
            wait = None if ends_in is None else max(0.005, min(ends_in, noted_at + self._note_seconds - now))
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._moved.wait()

    async def _note(self, utterance: Utterance, heard: str) -> Any:
        utterance.noted = heard
        utterance.notes += 1
        note = _spoken(utterance, f"{utterance.id}-{utterance.notes}", "in_progress", heard, {})
        return await self._record.write_now(note)


def _spoken(utterance: Utterance, id: str, status: str, heard: str, more: Mapping[str, str]) -> dict[str, Any]:
    data = {"id": utterance.id, "heard": heard, "generated": utterance.text, **more}
    return {"type": CUT_OFF, "id": id, "at": instant(), "status": status, "data": data}


def _now() -> float:
    return asyncio.get_running_loop().time()


def instant() -> str:
    """The time now, as entries have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
