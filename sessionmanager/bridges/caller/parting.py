"""The end of a call, for what its caller said last: the model that heard it may still make words of it, and the sound
of what it has no words of waits for whoever hears this caller next.

Where the call is taken up in this process, or in another one by what the service keeps (`keeping`), the sound is heard
again, as one turn with what follows. Meanwhile the model is asked for the words, and they are written down where nobody
has taken the sound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from sessionmanager.bridges.base.parts import Parts
from sessionmanager.bridges.base.record import entry_id
from sessionmanager.bridges.base.speaking import instant
from sessionmanager.bridges.caller.halves import Half
from sessionmanager.bridges.caller.keeping import Keeping
from sessionmanager.bridges.caller.listening import SPEECH_OF_OWN, Caller
from sessionmanager.bridges.carrier import OverReason
from sessionmanager.bridges.upstream import CallerSaid, Connection, ModelEvent, ModelLost, SpeechStarted
from sessionmanager.errors import SessionManagerError

COMES_BACK: Final = frozenset[OverReason](("line-lost", "superseded", "model-lost"))
"""Ends of a call that the caller may be back from."""
WORDS_SECONDS: Final = 0.5
"""How long the words of turns that are over are waited for, before their sound is handed on in their place."""
NOTICE_SECONDS: Final = 0.5
"""How long a model that has heard the end of a line may take to say that somebody spoke there."""
OUT_SECONDS: Final = 3.0
"""How long a model may take to make words of a half sentence."""


class Parting:
    """Of one call. Does nothing before `begin`."""

    def __init__(self, parts: Parts, session_id: str, caller: Caller, keeping: Keeping) -> None:
        self._parts = parts
        self._session_id = session_id
        self._caller = caller
        self._keeping = keeping
        self._connection: Connection | None = None
        self._key = ""
        self._half: Half | None = None
        self._kept: asyncio.Task[None] | None = None
        self._words: dict[str, str] = {}
        """Of what was left, by the model's item."""
        self._turns: dict[str, str] = {}
        """What was left: when it began, by the model's item."""
        self._cut = False
        """Whether the last of them was cut off."""
        self._came = asyncio.Event()

    def begin(self, connection: Connection | None, key: str) -> None:
        """The call is over; connection: on which its model may still tell something. key: its name here."""
        self._connection, self._key = connection, key
        self._parts.tasks.spawn(self._keeping.keep(), "keeps what a caller was saying")

    def on_event(self, connection: Connection, event: ModelEvent) -> None:
        """What the model tells after the end: nothing but speech and its words counts."""
        if connection is not self._connection:
            return
        half = self._half
        match event:
            case CallerSaid(item, text) if half is None:
                self._caller.said(self._key, item, text)
            case CallerSaid(item, str(text)):
                self._words[item] = text
            case SpeechStarted(item) if half is None:
                self._caller.started(item)
            case SpeechStarted(item) if half is not None and not half.is_speech:
                self._turns[item or SPEECH_OF_OWN] = instant()
                half.is_speech = self._cut = True
            case _:
                return
        self._came.set()

    async def words(self) -> None:
        """Wait for those of turns that are over, not long; and for what was left to this call, to leave it again."""
        await self._keeping.begun()
        if self._connection is not None:
            await self._caller.words(WORDS_SECONDS)

    def leave(self, reason: OverReason) -> None:
        """Hand on what there are no words of, where the caller may come back. reason: of the end."""
        if reason in COMES_BACK and self._half is None:
            self._half = self._caller.leave()
            if self._half is not None:
                self._half.by = self._keeping.holder if self._keeping.kept else None
                self._parts.halves.keep(self._session_id, self._half)
                last = self._keeping.last(self._half)
                self._kept = self._parts.tasks.spawn(last, "keeps what a caller said last", last=True)

    @property
    def may_hear_out(self) -> bool:
        """Whether there may be a half sentence, and a model that has heard it."""
        return self._half is not None and self._connection is not None

    async def hear_out(self) -> bool:
        """Have the model make words of the half sentence, once it has noticed that there is one. Answers whether there
        are all of them."""
        connection, half = self._connection, self._half
        assert connection is not None, "there is a model"
        assert half is not None, "there is what it has heard"
        if half.is_speech:
            self._turns, self._cut = self._caller.without_words, self._caller.is_speaking
        try:
            async with asyncio.timeout(NOTICE_SECONDS):
                await self._until(lambda: half.is_speech)
            async with asyncio.timeout(OUT_SECONDS):
                if self._cut:
                    await connection.turn_over()
                await self._until(lambda: len(self._words) >= len(self._turns))
        except (TimeoutError, ModelLost):
            return False
        return True

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._came.clear()
            await self._came.wait()

    async def write(self) -> None:
        """Write the words down if nobody here takes the sound in time; it is given up for them then."""
        half, entries = self._half, self._entries()
        assert half is not None, "there is a half sentence"
        halves = self._parts.halves
        await halves.nobody_came(half)
        if self._kept is not None:
            await asyncio.wait((self._kept,))
        if not entries or not halves.replace(self._session_id, half) or not await self._keeping.may_say(entries):
            return
        try:
            await self._parts.outbox.append(self._session_id, entries)
        except SessionManagerError:
            halves.keep(self._session_id, half)
        else:
            self._parts.counts.half("written")

    def _entries(self) -> list[dict[str, Any]]:
        """In the order in which they were said."""
        turns, own = self._turns, self._turns.get(SPEECH_OF_OWN, instant())
        said = sorted((turns.get(item, own), item, text) for item, text in self._words.items() if text.strip())
        entries: list[dict[str, Any]] = [
            {"type": "message", "id": entry_id(self._key, item), "role": "user", "content": text, "at": at}
            for at, item, text in said
        ]
        if self._cut and entries:
            entries[-1]["data"] = {"cut": "line"}
        return entries
