"""Heads that this process committed last: what the next decision on them begins with.

Only ever a guess: a decision on an old head loses its compare-and-set, and an error decided on one is decided again on
warm's. So nothing here needs to be right, and no reader is shown it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sessionmanager.model.codec import Stored
from sessionmanager.words import Key

HEADS_MAX: Final = 10_000
BYTES_MAX: Final = 64 * 1024 * 1024


class RecentHeads:
    """The last heads, bounded by number and by the bytes of their parts. Cost: under a microsecond a call."""

    def __init__(self) -> None:
        self._heads: OrderedDict[Key, tuple[Stored, int]] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key) -> Stored | None:
        found = self._heads.get(key)
        return found[0] if found is not None else None

    def keep(self, stored: Stored) -> None:
        """Remember a head that was just committed or read from warm, whole; an older one of its session goes."""
        size = sum(map(len, stored.parts.values()))
        if stored.key in self._heads:
            self.forget(stored.key)
        self._heads[stored.key] = (stored, size)
        self._bytes += size
        while self._bytes > BYTES_MAX or len(self._heads) > HEADS_MAX:
            _, (_, size) = self._heads.popitem(last=False)
            self._bytes -= size

    def forget(self, key: Key) -> None:
        found = self._heads.pop(key, None)
        if found is not None:
            self._bytes -= found[1]
