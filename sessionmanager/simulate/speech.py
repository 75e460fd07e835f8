"""Speech for simulators: a sound in which a text can be read again, whatever telephone format it went through.

Each byte of the text (UTF-8) is one level, held for `CHAR_MS`: as the G.711 μ-law code of that number, so that μ-law
and PCM at any rate carry it. Silence is no byte of any text. Nobody would like to listen to it.
"""

from __future__ import annotations

import re
from typing import Final

from sessionmanager.bridges.media.convert import Converter, silence
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat

CHAR_MS: Final = 40
"""Twenty-five letters a second: a quick speaker."""
_CHAR: Final = RAW_MULAW.size_of(CHAR_MS)
_SILENT: Final = frozenset((0x7F, 0xFF))
_RUN: Final = re.compile(rb"(.)\1*", re.DOTALL)


def speech(text: str, media: MediaFormat) -> bytes:
    """The sound of a text. Raises ValueError for A-law, whose levels are others, and for what sounds like silence."""
    if media.encoding == "alaw":
        raise ValueError("simulated speech is carried by μ-law and PCM alone")
    data = text.encode()
    if _SILENT.intersection(data):
        raise ValueError("a text of simulated speech has no DEL")
    sound = b"".join(bytes((byte,)) * _CHAR for byte in data)
    return sound if media.name == RAW_MULAW.name else Converter(RAW_MULAW, media).push(sound)


def duration_ms(text: str) -> int:
    """How long it sounds."""
    return len(text.encode()) * CHAR_MS


def words_in(sound: bytes, media: MediaFormat) -> str:
    """The text of a sound; a silence within it is passed over, half a letter at an end is none."""
    plain = sound if media.name == RAW_MULAW.name else Converter(media, RAW_MULAW).push(sound)
    found = bytearray()
    for run in _RUN.finditer(plain):
        if run[1][0] not in _SILENT:
            found += run[1] * round(len(run[0]) / _CHAR)
    return found.decode("utf-8", "replace")


def is_silent(sound: bytes, media: MediaFormat) -> bool:
    """Whether nothing is said in it."""
    return sound == silence(media, media.duration_ms(len(sound)))


__all__ = ("CHAR_MS", "duration_ms", "is_silent", "silence", "speech", "words_in")
