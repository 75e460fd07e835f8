"""The caller's side of a call: sound to the model, words to the record, keys gathered to what was keyed in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sessionmanager.bridges.base.record import Record, entry_id
from sessionmanager.bridges.base.restoring import VOICE
from sessionmanager.bridges.base.speaking import instant
from sessionmanager.bridges.caller.backlog import Backlog
from sessionmanager.bridges.caller.halves import Half
from sessionmanager.bridges.carrier import Line
from sessionmanager.bridges.media.convert import Converter
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.voice_activity import Heard, VoiceActivity, VoiceState

KEYS_MAX: Final = 64
FRAME_MS: Final = 20
END_OF_KEYS: Final = "#"
WORDS_SECONDS: Final = 10.0
"""A model that has made no words of a turn for so long, and has answered it, does not write down what it hears."""
SEEN_MAX: Final = 1_000
SPEECH_OF_OWN: Final = "own"
"""The turn's name where the bridge, not the model, notices speech."""


class Caller:
    """What one caller says. media: what the model hears; None = a line of text. voice: as the last bridge left it.
    on_words: is told of each turn what is to be written of it, None = nothing. Nothing is heard before `begin`."""

    def __init__(
        self,
        line: Line,
        record: Record,
        media: MediaFormat | None,
        options: BridgeOptions,
        *,
        voice: VoiceState,
    ) -> None:
        self._record = record
        self.on_words: Callable[[str, dict[str, Any] | None], None] = record.words
        self._converter = None if media is None or line.media is None else Converter(line.media, media)
        self.backlog = None if media is None else Backlog(media)
        self._hears = options.hears
        self._was = voice
        self._voice: VoiceActivity | None = None
        self._early: list[bytes] | None = []
        """Sound that came before `begin`; None = it has begun."""
        self._keys_seconds = options.keys_seconds
        self._changes: list[Heard] = []
        self._began: dict[str, str] = {}
        """By the model's item: when the caller began to say it."""
        self._stopped: dict[str, float] = {}
        """When, by the loop's clock."""
        self._spoke: str | None = None
        self._keys = ""
        self._timer: asyncio.TimerHandle | None = None
        self._seen: dict[str, None] = {}
        self._heard = asyncio.Event()

    def begin(self, half: Half | None) -> None:
        """half: what this caller was saying when a line of theirs was lost: heard before all that has come since."""
        early, self._early = self._early, None
        if self.backlog is None:
            return
        media = self.backlog.media
        if self._hears is not None:
            self._voice = self._hears(media, self._was if half is None else VoiceState())
        if half is not None:
            sound, size = Converter(half.media, media).push(half.sound), media.size_of(FRAME_MS)
            for at in range(0, len(sound), size):
                self._take_in(sound[at : at + size])
        for sound in early or ():
            self._take_in(sound)

    @property
    def is_speaking(self) -> bool:
        return self._spoke is not None

    @property
    def without_words(self) -> dict[str, str]:
        """Turns that there are no words of yet, by the model's item: when the caller began them."""
        return dict(self._began)

    # -- sound

    def hear(self, audio: bytes) -> bytes:
        """The caller's sound as the model hears it."""
        if self._converter is None or self.backlog is None:
            return b""
        sound = self._converter.push(audio)
        if self._early is not None:
            self._early.append(sound)
            return b""
        self._take_in(sound)
        return sound

    def _take_in(self, sound: bytes) -> None:
        if self.backlog is None or not sound:
            return
        self.backlog.hear(sound)
        if self._voice is not None:
            self._changes += self._voice.hear(sound)

    def changes(self) -> list[Heard]:
        """What the bridge itself has noticed since it was asked last."""
        changes, self._changes = self._changes, []
        return changes

    def started(self, item: str | None) -> None:
        """The caller speaks."""
        name = item or SPEECH_OF_OWN
        self._spoke = name
        self._began[name] = instant()
        if self.backlog is not None:
            self.backlog.started(name)
        self._record.write_soon(self.voice_entry(True))

    def stopped(self, item: str | None) -> None:
        """The caller is done; words are to come."""
        name = item or self._spoke or SPEECH_OF_OWN
        self._spoke = None
        self._stopped[name] = asyncio.get_running_loop().time()
        if self.backlog is not None:
            self.backlog.stopped(name)
        self._record.expect_words(name)

    def said(self, connection: str, item: str, text: str | None) -> dict[str, Any] | None:
        """The words are there. Answers the entry that was written of them, None = nothing was said."""
        name = item if item in self._began else SPEECH_OF_OWN if SPEECH_OF_OWN in self._began else item
        began_at = self._began.pop(name, None)
        self._stopped.pop(name, None)
        if self._spoke == name:
            self._spoke = None
        self._heard.set()
        if self.backlog is not None:
            self.backlog.words_came(name)
        if text is not None and not text.strip():
            self.on_words(name, None)
            self._record.write_soon(self.voice_entry(False))
            return None
        content: Any = [{"type": "input_audio"}] if text is None else text
        entry: dict[str, Any] = {
            "type": "message", "id": entry_id(connection, item), "role": "user", "content": content,
            "at": began_at or instant(),
        }  # fmt: skip
        self.on_words(name, entry)
        return entry

    def give_up_words(self, connection: str) -> None:
        """The model has answered: what it has made no words of for long, it never will. It was said all the same."""
        long_ago = asyncio.get_running_loop().time() - WORDS_SECONDS
        for name in [name for name, at in self._stopped.items() if at < long_ago]:
            self.said(connection, name, None)

    def connection_lost(self) -> bool:
        """The model that was listening is gone. Answers whether something was said of which there are no words: the
        next model hears it again (`take_backlog`), and notices it anew."""
        for name in self._began:
            self._record.words(name, None)
        self._began.clear()
        self._stopped.clear()
        self._spoke = None
        if self.backlog is None:
            return False
        self.backlog.connection_lost()
        return self.backlog.has_speech

    async def words(self, seconds: float) -> None:
        """Wait until there are words of every turn that is over, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._stopped:
                    self._heard.clear()
                    await self._heard.wait()

    def take_backlog(self) -> tuple[bytes, bool]:
        """The sound that a new model is to hear first, and whether it is a turn that the bridge has seen the end of:
        such a model notices none by itself."""
        if self.backlog is None:
            return b"", False
        is_over = self._voice is not None and self.backlog.has_speech and not self._voice.state.speaking
        sound = self.backlog.take()
        if is_over:
            self.started(None)
            self.stopped(None)
        return sound, is_over

    def leave(self) -> Half | None:
        """What was said that there are no words of, for whoever hears this caller next; None = nothing, or no sound."""
        if self.backlog is None:
            return None
        for name in self._began:
            self._record.words(name, None)
        is_speech, sound = self.backlog.has_speech, self.backlog.leave()
        now = asyncio.get_running_loop().time()
        return Half(sound, self.backlog.media, is_speech=is_speech, left_at=now) if sound else None

    @staticmethod
    def voice_entry(speaking: bool) -> dict[str, Any]:
        """The entry that says whether the caller is speaking."""
        return {"type": VOICE, "id": f"v{uuid.uuid4().hex}", "at": instant(), "data": {"speaking": speaking}}

    # -- words and keys

    def is_repeat(self, id: str) -> bool:
        """Whether the carrier has told this before."""
        if id in self._seen:
            return True
        self._seen[id] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return False

    def press(self, digits: str, later: Callable[[str], None]) -> str | None:
        """Gather keys. Answers what was keyed in where `#` ends it; later: told, where silence does."""
        if self._keys_seconds is None:
            return None
        if self._timer is not None:
            self._timer.cancel()
        self._keys = (self._keys + digits)[-KEYS_MAX:]
        if self._keys.endswith(END_OF_KEYS):
            return self._take_keys()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._keys_seconds, lambda: later(self._take_keys()))
        return None

    def leftover(self) -> str:
        """What was keyed in and not told yet."""
        return self._take_keys()

    def _take_keys(self) -> str:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        keys, self._keys = self._keys, ""
        return keys


def keyed(keys: str) -> str:
    """Keys that were pressed, as the caller's message."""
    return f"[keys: {keys}]"
