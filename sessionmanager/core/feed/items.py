"""What comes out of a session's feed."""

from __future__ import annotations

from typing import Final, NamedTuple

from sessionmanager.model.entry import StoredEntry, peek_entry

FAR: Final = 2**53
"""Beyond every seq."""


class Line(NamedTuple):
    """A line of the log on its way out. data: the entry's JSON as it is stored. trace: the `traceparent` of the request
    that wrote it, where that is traced and its bell was heard."""

    seq: int
    type: str
    data: bytes
    version: int
    trace: str | None = None


class Signal(NamedTuple):
    """Said to whoever listens, and kept nowhere: it has no place in the log."""

    data: bytes


Item = Line | Signal


def line_of(stored: StoredEntry) -> Line:
    peek = peek_entry(stored.data)
    return Line(stored.seq, peek.type, stored.data, peek.version)
