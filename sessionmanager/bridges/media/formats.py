"""The names of media formats, and what each says: one vocabulary for carriers, models and sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

Container = Literal["raw", "wav"]
Encoding = Literal["lpcm16", "mulaw", "alaw"]


class MediaFormat(NamedTuple):
    """One format. rate: samples a second; one channel always, 16-bit samples little-endian."""

    name: str
    container: Container
    encoding: Encoding
    rate: int

    @property
    def sample_bytes(self) -> int:
        return 2 if self.encoding == "lpcm16" else 1

    def duration_ms(self, count: int) -> float:
        """How long so many bytes of it sound, a container's header left out."""
        return count * 1000 / (self.rate * self.sample_bytes)

    def size_of(self, milliseconds: float) -> int:
        """How many bytes sound so long, whole samples only."""
        return int(self.rate * milliseconds / 1000) * self.sample_bytes


def _both(suffix: str, encoding: Encoding, rate: int) -> tuple[MediaFormat, MediaFormat]:
    raw = MediaFormat(f"raw/{suffix}", "raw", encoding, rate)
    return raw, MediaFormat(f"wav/{suffix}", "wav", encoding, rate)


FORMATS: Final = {
    one.name: one
    for pair in (
        _both("lpcm16_24", "lpcm16", 24_000),
        _both("lpcm16", "lpcm16", 16_000),
        _both("lpcm16_8", "lpcm16", 8_000),
        _both("mulaw", "mulaw", 8_000),
        _both("alaw", "alaw", 8_000),
    )
    for one in pair
}
"""Every format by its name; the names of AudioCodes (audiocodes.md section 3), and A-law after the same pattern."""

RAW_LPCM16_24: Final = FORMATS["raw/lpcm16_24"]
RAW_LPCM16: Final = FORMATS["raw/lpcm16"]
RAW_MULAW: Final = FORMATS["raw/mulaw"]
RAW_ALAW: Final = FORMATS["raw/alaw"]

PREFERRED: Final = ("raw/lpcm16_24", "raw/lpcm16", "raw/lpcm16_8", "raw/mulaw", "raw/alaw",
                    "wav/lpcm16_24", "wav/lpcm16", "wav/lpcm16_8", "wav/mulaw", "wav/alaw")  # fmt: skip
"""Best first: what a realtime model speaks itself, then what loses least, then what carries headers."""


def choose_format(offered: Iterable[str], preferred: Sequence[str] = PREFERRED) -> MediaFormat | None:
    """The first of `preferred` that is offered and known; None = there is none in common."""
    names = frozenset(offered)
    return next((FORMATS[name] for name in preferred if name in names and name in FORMATS), None)
