"""G.711 in both laws: one byte a sample ⇄ 16-bit samples, by tables.

Source: ITU-T G.711 (11/88), tables 1a to 2b. Cost: decoding runs at the speed of `bytes.translate`; encoding looks one
table of 64 KiB up for each sample, some 40 ns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, Literal, NamedTuple

from sessionmanager.bridges.media.samples import words_of

Law = Literal["mulaw", "alaw"]
MULAW_BIAS: Final = 132
SILENCE: Final = {"mulaw": b"\xff", "alaw": b"\xd5"}
"""The byte of a sample of silence."""


class _Tables(NamedTuple):
    low: bytes
    high: bytes
    codes: bytes


def decode(data: bytes, law: Law) -> bytes:
    """16-bit samples, little-endian, two bytes for each byte."""
    tables = _tables(law)
    pcm = bytearray(2 * len(data))
    pcm[::2] = data.translate(tables.low)
    pcm[1::2] = data.translate(tables.high)
    return bytes(pcm)


def encode(pcm: bytes, law: Law) -> bytes:
    """A byte for each 16-bit sample. pcm: whole samples."""
    return bytes(map(_tables(law).codes.__getitem__, words_of(pcm)))


@cache
def _tables(law: Law) -> _Tables:
    levels = [(_mulaw_level if law == "mulaw" else _alaw_level)(code) for code in range(256)]
    words = [level & 0xFFFF for level in levels]
    codes = _mulaw_codes() if law == "mulaw" else _alaw_codes()
    assert len(codes) == 65_536, "a code for each sample there is"
    return _Tables(bytes(word & 0xFF for word in words), bytes(word >> 8 for word in words), codes)


def _mulaw_level(code: int) -> int:
    inverted = ~code & 0xFF
    level = ((((inverted & 0x0F) << 3) + MULAW_BIAS) << (inverted >> 4 & 0x07)) - MULAW_BIAS
    return -level if inverted & 0x80 else level


def _alaw_level(code: int) -> int:
    toggled = code ^ 0x55
    segment, step = toggled >> 4 & 0x07, (toggled & 0x0F) << 4
    level = step + 8 if segment == 0 else (step + 0x108) << (segment - 1)
    return level if toggled & 0x80 else -level


def _mulaw_codes() -> bytes:
    """Code by sample, as an unsigned word: 0 to 32767, then -32768 to -1."""

    def runs() -> Iterator[bytes]:
        for place in range(128):
            length = 8 << (place >> 4)
            # The bias moves the first step down by half of it, and the last one up to the end.
            length += -4 if place == 0 else MULAW_BIAS if place == 127 else 0
            yield bytes((place,)) * length

    places = b"".join(runs())[:32_769].ljust(32_769, b"\x7f")
    positive = bytes(0xFF - place for place in places[:-1])
    negative = bytes(0x7F - place for place in reversed(places[1:]))
    return positive + negative


def _alaw_codes() -> bytes:
    places = b"".join(bytes((place,)) * (16 << max(0, (place >> 4) - 1)) for place in range(128))
    positive = bytes(place ^ 0xD5 for place in places)
    negative = bytes(place ^ 0x55 for place in reversed(places))
    return positive + negative
