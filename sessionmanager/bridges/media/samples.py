"""16-bit samples, little-endian bytes ⇄ numbers, on any machine."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable


def words_of(pcm: bytes) -> array[int]:
    """Samples as unsigned words: -1 is 65535. pcm: whole samples."""
    return little(array("H", pcm))


def numbers_of(pcm: bytes) -> array[int]:
    """Samples as signed numbers. pcm: whole samples."""
    return little(array("h", pcm))


def bytes_of(samples: Iterable[int]) -> bytes:
    """Signed numbers as samples. Raises OverflowError for one that is none."""
    return little(array("h", samples)).tobytes()


def little(samples: array[int]) -> array[int]:
    """The same array, its bytes turned on a machine that has them the other way round."""
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
