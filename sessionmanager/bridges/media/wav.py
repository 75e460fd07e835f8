"""WAV around a stream of sound: a header before its first byte, and whatever header came taken off again.

Sources: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), RFC 2361 for the codes of G.711.
"""

from __future__ import annotations

import struct
from typing import Final

from sessionmanager.bridges.media.formats import MediaFormat

_CODES: Final = {"lpcm16": 1, "alaw": 6, "mulaw": 7}
_MAGIC_BYTES: Final = 12
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
HEADER_BYTES_MAX: Final = 4096
"""A header that has not come to its data by then is none."""


class NotWav(ValueError):
    """What should be a WAV header is none; the stream cannot be read."""


def header(media: MediaFormat) -> bytes:
    """The header of a stream whose length is not known yet."""
    size = media.sample_bytes
    layout = struct.pack("<HHIIHH", _CODES[media.encoding], 1, media.rate, media.rate * size, size, 8 * size)
    parts = [b"WAVE", b"fmt ", struct.pack("<I", len(layout)), layout]
    parts += [b"data", struct.pack("<I", _UNKNOWN_LENGTH)]
    return b"RIFF" + struct.pack("<I", _UNKNOWN_LENGTH) + b"".join(parts)


class WavReader:
    """Takes the header off a stream, in whatever pieces it comes; also off a later piece that begins with one anew.

    A stream that begins without `RIFF` has no header: some senders leave it out after a resume.
    """

    def __init__(self) -> None:
        self._begun = b""
        self._inside = False

    def push(self, data: bytes) -> bytes:
        """The sound in the next piece. Raises NotWav; what came before it is forgotten."""
        if self._inside and not self._begun and not (len(data) >= _MAGIC_BYTES and _may_begin(data)):
            return data
        whole, self._begun = self._begun + data, b""
        if not _may_begin(whole):
            return self._enter(whole)
        start = _data_start(whole)
        if start is not None:
            return self._enter(whole[start:])
        if len(whole) > HEADER_BYTES_MAX:
            raise NotWav("no data in its header")
        self._begun = whole
        return b""

    def _enter(self, sound: bytes) -> bytes:
        self._inside = True
        return sound


def _may_begin(data: bytes) -> bool:
    """Whether it begins as a header does, as far as it goes. Four samples that happen to say RIFF and WAVE are none
    that anybody has heard."""
    return data[:4] == b"RIFF"[: len(data)] and data[8:12] == b"WAVE"[: max(0, len(data) - 8)] and bool(data)


def _data_start(data: bytes) -> int | None:
    """Where the sound begins; None = the header is not whole yet."""
    at = 12
    while len(data) >= at + 8:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return at + 8
        if length > HEADER_BYTES_MAX:
            raise NotWav("a chunk of its header is too long")
        at += 8 + length + (length & 1)
    return None
