"""What the parts of the feed share: its bounds, what comes out of it, and how it ends."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from sessionmanager.model.entry import StoredEntry, peek_entry

FAR: Final = 2**53
"""Beyond every seq."""

Reason = Literal["draining", "slow", "erased", "failed"]
"""Why a feed ends: this replica stops; the reader does not keep up; the session is gone for ever; our own fault."""


class FeedLimits(NamedTuple):
    """The bounds of all feeds of a process.

    streams: open feeds; per session, per tenant and per subject are shares of them. pending: what waits for one reader
    before it is sent to read pages of its own. page: of those. slow_seconds: how long a reader that once kept up may be
    behind. bell_poll_seconds, poll_seconds: the longest time between two looks into warm, with the doorbell and while
    it cannot be heard; each turn takes between half of it and all of it. catch_ups: pages read at once.
    tenant_sessions: moved sessions that a tenant's feed looks at in one go. heartbeat_seconds: the longest silence.
    goaway_seconds: over so long a time those who are sent away come back, lest all come at once.
    """

    streams_max: int = 5_000
    streams_per_session_max: int = 2_500
    streams_per_tenant_max: int = 4_000
    streams_per_subject_max: int = 2_500
    pending_items_max: int = 1_000
    pending_bytes_max: int = 256 * 1024
    page_lines: int = 200
    page_bytes_max: int = 256 * 1024
    slow_seconds: float = 30.0
    bell_poll_seconds: float = 10.0
    poll_seconds: float = 2.0
    catch_ups_max: int = 16
    tenant_poll_seconds: float = 1.0
    tenant_sessions_max: int = 5_000
    heartbeat_seconds: float = 15.0
    goaway_seconds: float = 5.0


class Line(NamedTuple):
    """A line of the log on its way out. data: the entry's JSON as it is stored. trace: the `traceparent` of the request
    that wrote it, where that is traced and its bell was heard."""

    seq: int
    type: str
    data: bytes
    version: int
    trace: str | None = None


class Ephemeral(NamedTuple):
    """A signal: it has no place in the log."""

    data: bytes


Item = Line | Ephemeral


class Cut(Exception):
    """The feed has ended for this reader. Nothing is lost: whoever comes back with the last seq goes on there."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def line_of(stored: StoredEntry) -> Line:
    peek = peek_entry(stored.data)
    return Line(stored.seq, peek.type, stored.data, peek.version)
