"""The bounds of all feeds of a process."""

from __future__ import annotations

from typing import NamedTuple


class FeedLimits(NamedTuple):
    """How many feeds there are, what waits for one, and how long anything takes.

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
