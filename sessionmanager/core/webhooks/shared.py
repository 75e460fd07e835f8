"""What all of webhooks share: bounds, what metrics hear, and how a record is put where an answer may be lost."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from sessionmanager.errors import OutcomeUnknown, RevConflict
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant

HOOKS_PER_TENANT_MAX: Final = 50
PAGE: Final = 200
TRIES: Final = 5


class WebhookLimits(NamedTuple):
    """The bounds of all deliveries of a process. Times are seconds.

    request: one attempt. poll: the longest time between two looks at hooks, and at what has happened. news:
    hooks that have not been read for so long are not delivered to, for they may have been deleted. lease: how long a
    process may deliver for a tenant without renewing it, which it does after `renew`. at_once: requests under way, of
    one hook, of all that are well and of all that fail: whoever fails takes no room from the others. retry: how long a
    line is tried; first, longest: the gaps between attempts; pause: of a hook that fails. disable: how long a hook may
    fail before it is disabled. letters: dead letters that a hook may have, and how long they are kept. owed: sessions
    with lines that a hook has not got; beyond it the hook waits, and the log keeps the rest. look_sessions: of one
    look. lines: of one read. fresh: how old what was read may be when it is sent. drain: how long a process that stops
    waits for answers.
    """

    request_seconds: float = 10.0
    poll_seconds: float = 1.0
    news_seconds: float = 10.0
    lease_seconds: float = 30.0
    renew_seconds: float = 10.0
    hook_at_once: int = 8
    well_at_once: int = 24
    failing_at_once: int = 8
    retry_seconds: float = 86_400.0
    first_gap_seconds: float = 5.0
    longest_gap_seconds: float = 7_200.0
    pause_seconds_max: float = 60.0
    disable_seconds: float = 3 * 86_400.0
    letters_max: int = 10_000
    letters_keep_seconds: float = 30 * 86_400.0
    owed_max: int = 10_000
    look_sessions_max: int = 5_000
    lines_page: int = 16
    fresh_seconds: float = 2.0
    drain_seconds: float = 5.0


class WebhookEvents(Protocol):
    """What deliveries tell metrics."""

    def webhook(self, outcome: str) -> None:
        """An attempt ended: `delivered`, `failed`, `gone`; or a line went to the dead letters: `dead`."""
        ...

    def webhook_lag(self, seconds: float) -> None:
        """A line was delivered so long after its commit."""
        ...


class Lost(Exception):
    """Somebody else has written the record: whoever believed it was theirs has to stop."""


async def put(
    warm: Warm, tenant: str, kind: str, name: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
) -> int:
    """Move a record from `rev` on, and answer its new rev (0 = it is gone). What got no answer is looked up.

    Raises Lost: it is not at `rev`. OutcomeUnknown: it cannot be told. TierUnavailable. Cost: one write of warm.
    """
    try:
        await warm.put_record(tenant, kind, name, data, rev=rev, expires_at=expires_at)
    except RevConflict:
        raise Lost from None
    except OutcomeUnknown:
        record = await warm.get_record(tenant, kind, name)
        if (record.data if record is not None else None) != data:
            raise
        return record.rev if record is not None else 0
    return rev + 1 if data is not None else 0
