"""Another sample rate: a band-limited filter in polyphase form, whose sums are one multiplication of whole numbers.

Samples and coefficients are laid side by side in slots of 32 bits; the product of the two numbers then holds their
convolution, slot by slot (Kronecker's substitution), worked out by Python's own arithmetic in C. Decision 0036 has the
other ways and what each costs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from math import gcd, pi, sin
from typing import Final

from sessionmanager.bridges.media.samples import bytes_of, little, words_of

CROSSINGS: Final = 12
"""Zero crossings of the filter on each side: 24 taps at the lower rate, 1.5 ms late at 8 kHz."""
ROLL_OFF: Final = 0.92
"""Of half the lower rate: where the filter has fallen to a half."""
KAISER_BETA: Final = 6.0
"""Side lobes 60 dB down, past what G.711 can tell from silence."""
_SLOT: Final = 32
_SCALE_BITS: Final = 14
_SCALE: Final = 1 << _SCALE_BITS
_BIAS: Final = 1 << 30
"""Added to each slot of a product, so that none is negative and none borrows from its neighbour."""
_MIDDLE: Final = 0x8000
"""Silence, where samples are counted from 0."""


class Resampler:
    """A stream of 16-bit samples at one rate → the same at another; remembers what its filter still needs.

    Cost: some 100 µs for 20 ms of sound. Late by half the filter, at most 1.5 ms.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        common = gcd(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        self._filters = _filters(self._up, self._down)
        self._taps = _taps(self._up, self._down)
        self._kept = array("I", [_MIDDLE] * (self._taps - 1))
        self._rest = b""

    def push(self, pcm: bytes) -> bytes:
        """The next samples. pcm: any piece of the stream; what fills no whole step waits for the next piece."""
        if self._up == self._down:
            whole = len(self._rest) + len(pcm) & ~1
            data = self._rest + pcm
            self._rest = data[whole:]
            return data[:whole]
        data = self._rest + pcm
        whole = len(data) - len(data) % (2 * self._down)
        self._rest = data[whole:]
        if not whole:
            return b""
        self._kept.extend([word ^ _MIDDLE for word in words_of(data[:whole])])
        made = self._filtered(whole // 2)
        del self._kept[: whole // 2]
        return made

    def _filtered(self, count: int) -> bytes:
        slots = len(self._kept) + self._taps
        number = int.from_bytes(little(self._kept[:]).tobytes(), "little")
        bias = _biases(slots)
        made = [0] * (count // self._down * self._up)
        for phase, coefficients in enumerate(self._filters):
            product = (number * coefficients + bias).to_bytes(slots * 4, "little")
            first = self._taps - 1 + phase * self._down // self._up
            sums = little(array("I", product))[first : first + count : self._down]
            made[phase :: self._up] = _samples(sums)
        return bytes_of(made)


def _samples(totals: Sequence[int]) -> list[int]:
    """Rounded; what would be louder than sixteen bits can say is as loud as they can."""
    offset = _BIAS - _SCALE // 2
    levels = [(total - offset >> _SCALE_BITS) - _MIDDLE for total in totals]
    if max(levels, default=0) > 32767 or min(levels, default=0) < -32768:
        return [min(max(level, -32768), 32767) for level in levels]
    return levels


def _taps(up: int, down: int) -> int:
    """Of each phase."""
    return 2 * CROSSINGS * max(up, down) // up


@cache
def _biases(slots: int) -> int:
    return _BIAS * (((1 << _SLOT * slots) - 1) // ((1 << _SLOT) - 1))


@cache
def _filters(up: int, down: int) -> tuple[int, ...]:
    """One number a phase: its coefficients, slot by slot; each phase sums to 1, so that a constant stays what it is."""
    taps = _taps(up, down)
    length, slower = taps * up, max(up, down)
    middle = (length - 1) / 2
    window = [_bessel(KAISER_BETA * (1 - ((n - middle) / (middle + 1)) ** 2) ** 0.5) for n in range(length)]
    prototype = [w * _sinc(ROLL_OFF * (n - middle) / slower) for n, w in enumerate(window)]
    made: list[int] = []
    for phase in range(up):
        part = prototype[phase * down % up :: up]
        total = sum(part)
        scaled = [round(c * _SCALE / total) for c in part]
        scaled[len(scaled) // 2] += _SCALE - sum(scaled)
        high, low = sum(c for c in scaled if c > 0), sum(c for c in scaled if c < 0)
        assert low * 0xFFFF + _BIAS >= 0, "no slot borrows"
        assert high * 0xFFFF + _BIAS < 1 << _SLOT, "no slot runs over"
        made.append(sum(c << _SLOT * n for n, c in enumerate(scaled)))
    return tuple(made)


def _sinc(x: float) -> float:
    return sin(pi * x) / (pi * x) if x else 1.0


def _bessel(x: float) -> float:
    """I0, the modified Bessel function of the first kind, by its power series."""
    total = term = 1.0
    for k in range(1, 40):
        term *= (x / (2 * k)) ** 2
        total += term
    return total
