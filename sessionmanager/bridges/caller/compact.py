"""What a caller is saying, in few bytes: a byte a sample, 8,000 a second, made once of each piece of sound."""

from __future__ import annotations

import asyncio
from typing import Final

from sessionmanager.bridges.caller.backlog import Backlog
from sessionmanager.bridges.media.convert import Converter
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat

COMPACT_MS: Final = 30_000.0
"""Sound that is told at most: 240 KB. Of a longer turn the beginning is left out."""
SLICE_MS: Final = 100.0
"""Sound that is converted in one go, some milliseconds of work, before others have their turn."""


def compact_format(media: MediaFormat) -> MediaFormat:
    """G.711 stays as it is; anything else becomes μ-law."""
    return RAW_MULAW if media.encoding == "lpcm16" else media


async def converted(sound: bytes, source: MediaFormat, target: MediaFormat) -> bytes:
    """The newest `COMPACT_MS` of some sound in another format."""
    converter, size = Converter(source, target), source.size_of(SLICE_MS)
    made = bytearray()
    for at in range(max(0, len(sound) - source.size_of(COMPACT_MS)), len(sound), size):
        made += converter.push(sound[at : at + size])
        await asyncio.sleep(0)
    return bytes(made)


class Compact:
    """What a backlog has that is unsaid, in its compact format. Cost: nothing but copies for G.711; where the rate
    changes some 10 ms for a second of speech, each second once."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._source = backlog.media
        self.media = compact_format(backlog.media)
        self._converter = Converter(self._source, self.media)
        self._made = bytearray()
        self._first = self._last = 0
        """Of what sound of the backlog `_made` is."""

    async def sound(self) -> bytes:
        """All of it, or its newest `COMPACT_MS`."""
        first, last = self._backlog.unsaid
        first = max(first, last - self._source.size_of(COMPACT_MS))
        if self._first <= first <= self._last:
            del self._made[: self.media.size_of(self._source.duration_ms(first - self._first))]
        else:
            self._converter = Converter(self._source, self.media)
            self._made.clear()
            self._last = first
        self._first = first
        size = self._source.size_of(SLICE_MS)
        while self._last < last:
            until = min(last, self._last + size)
            self._made += self._converter.push(self._backlog.between(self._last, until))
            self._last = until
            await asyncio.sleep(0)
        return bytes(self._made)
