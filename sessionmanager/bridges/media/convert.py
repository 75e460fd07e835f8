"""One media format → another, for one stream, piece by piece."""

from __future__ import annotations

from sessionmanager.bridges.media import g711
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.media.resample import Resampler
from sessionmanager.bridges.media.wav import NotWav, WavReader, header

__all__ = ("Converter", "NotWav", "silence")


class Converter:
    """A stream in `source` → the same in `target`. One for each stream and direction: it remembers what is between two
    pieces.

    Cost: nothing where both sides agree, 2 µs for 20 ms of G.711 that is read, some 200 µs where the rate changes.
    """

    def __init__(self, source: MediaFormat, target: MediaFormat) -> None:
        self.source = source
        self.target = target
        self._reader = WavReader() if source.container == "wav" else None
        self._head = header(target) if target.container == "wav" else b""
        self._plain = (source.encoding, source.rate) == (target.encoding, target.rate)
        self._resampler = Resampler(source.rate, target.rate)
        self._odd = b""

    def push(self, data: bytes) -> bytes:
        """The next piece. The header of a WAV comes before the first sound that is given back. Raises NotWav."""
        if self._reader is not None:
            data = self._reader.push(data)
        made = self._whole(data) if self._plain else self._converted(data)
        if made and self._head:
            made, self._head = self._head + made, b""
        return made

    def _whole(self, data: bytes) -> bytes:
        """No half samples: whoever plays a piece by itself would hear noise from there on."""
        if self.source.sample_bytes == 1:
            return data
        data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        return data[:whole]

    def _converted(self, data: bytes) -> bytes:
        law = self.source.encoding
        pcm = self._resampler.push(data if law == "lpcm16" else g711.decode(data, law))
        return pcm if self.target.encoding == "lpcm16" else g711.encode(pcm, self.target.encoding)


def silence(media: MediaFormat, milliseconds: float) -> bytes:
    """So much silence, without a header."""
    size = media.size_of(milliseconds)
    return b"\0" * size if media.encoding == "lpcm16" else g711.SILENCE[media.encoding] * size
