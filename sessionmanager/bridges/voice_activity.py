"""Who says that the caller speaks, and when the caller is done: the model itself, or the bridge by what it hears.

Most models listen for themselves (`Setup.turns` is `model`). For one that does not, the bridge looks at the sound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol

from msgspec import Struct

from sessionmanager.bridges.media import g711
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.media.samples import numbers_of

SPEECH_LEVEL: Final = 500
"""Mean distance from silence, of 32,767: a quiet voice on a telephone has a thousand and more, its noise some
hundred."""
START_MS: Final = 60.0
STOP_MS: Final = 500.0

Heard = Literal["started", "stopped"]


class VoiceState(Struct, frozen=True, kw_only=True):
    """What is kept of it through a reconnect: whether the caller was speaking, and for how long it had been so or
    otherwise."""

    speaking: bool = False
    for_ms: float = 0.0


class VoiceActivity(Protocol):
    """Looks at one caller's sound."""

    state: VoiceState

    def hear(self, audio: bytes) -> list[Heard]:
        """What changed with this piece, in order."""
        ...


MakeVoiceActivity = Callable[[MediaFormat, VoiceState], VoiceActivity]
"""Makes one for a call, with the state that the last bridge left, or the first state of all."""


class Energy:
    """Speech is what is louder than a level for long enough; silence has to last. Cost: some 20 µs for 20 ms of
    sound."""

    def __init__(
        self,
        media: MediaFormat,
        state: VoiceState | None = None,
        *,
        level: int = SPEECH_LEVEL,
        start_ms: float = START_MS,
        stop_ms: float = STOP_MS,
    ) -> None:
        self.state = state or VoiceState()
        self._media = media
        self._level = level
        self._start_ms = start_ms
        self._stop_ms = stop_ms
        self._against_ms = 0.0
        """How long the sound has said otherwise than the state."""

    def hear(self, audio: bytes) -> list[Heard]:
        """As the protocol says. audio: one piece of some 10 to 100 ms, judged as a whole."""
        lasted = self._media.duration_ms(len(audio))
        was = self.state
        if self._is_loud(audio) == was.speaking:
            self._against_ms = 0.0
            self.state = VoiceState(speaking=was.speaking, for_ms=was.for_ms + lasted)
            return []
        self._against_ms += lasted
        if self._against_ms < (self._stop_ms if was.speaking else self._start_ms):
            self.state = VoiceState(speaking=was.speaking, for_ms=was.for_ms + lasted)
            return []
        self.state = VoiceState(speaking=not was.speaking, for_ms=self._against_ms)
        self._against_ms = 0.0
        return ["started" if self.state.speaking else "stopped"]

    def _is_loud(self, audio: bytes) -> bool:
        encoding = self._media.encoding
        pcm = audio[: len(audio) & ~1] if encoding == "lpcm16" else g711.decode(audio, encoding)
        samples = numbers_of(pcm)
        return bool(samples) and sum(map(abs, samples)) > self._level * len(samples)
