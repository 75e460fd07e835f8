"""Sessions that are read again and again: their JSON is joined once for each head, not for each reader.

A hot copy is one object until its session changes, and with it the newest lines; so the same head and as many lines
make the same bytes. Joining fifty lines touches as many places in memory: a quarter of what a GET costs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sessionmanager.core.reads import View, join_entries, render_session
from sessionmanager.model.codec import Stored
from sessionmanager.words import Key

BYTES_MAX: Final = 16 * 1024 * 1024
ONE_BYTES_MAX: Final = 256 * 1024
"""A larger one is joined each time."""


class JoinedSessions:
    """The last ones, bounded by their bytes; those longest unused go first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._kept: OrderedDict[Key, tuple[Stored, int, bytes]] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def body(self, view: View) -> bytes:
        """The JSON of a session with its newest lines. Cost: a look-up where it was asked for since it changed last."""
        stored, count = view.stored, len(view.lines)
        kept = self._kept.get(stored.key)
        if kept is not None and kept[0] is stored and kept[1] == count and not view.stale:
            self._kept.move_to_end(stored.key)
            return kept[2]
        head = render_session(stored, stale=view.stale)
        body = b"".join((head, b',"entries":[', join_entries(view.lines), b"]}"))
        # What was read from warm is an object of its own: nobody will ask for it again.
        if view.tier == "hot" and not view.stale and len(body) <= ONE_BYTES_MAX:
            self._keep(stored, count, body)
        return body

    def forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept[2])

    def _keep(self, stored: Stored, count: int, body: bytes) -> None:
        self.forget(stored.key)
        self._kept[stored.key] = (stored, count, body)
        self._bytes += len(body)
        while self._bytes > self._bytes_max:
            _, (_, _, gone) = self._kept.popitem(last=False)
            self._bytes -= len(gone)
