"""What a session is owed, and when: pure sums over its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sessionmanager.model import instants
from sessionmanager.model.head import Head, Tombstone
from sessionmanager.words import Instant, Placement

DAY_SECONDS: Final = 86_400
SUSPENDABLE: Final = frozenset({"initiated", "waiting_for_services", "ready", "active"})
INTENT_GRACE_SECONDS: Final = 60.0
"""How long a move that has written its intent may go on before another worker finishes it."""


class Policy(NamedTuple):
    """The settings that timers and moves go by. Zero seconds or days switch a timer off."""

    idle_suspend_seconds: float = 3_600.0
    archive_after_days: float = 365.0
    tail_entries_max: int = 1_000
    tail_bytes_max: int = 320 * 1024
    tail_entries_kept: int = 100
    tail_bytes_kept: int = 64 * 1024
    warm_segments_max: int = 8
    warm_segments_kept: int = 4
    node_fanout: int = 16
    intent_objects_max: int = 64
    keys_keep_seconds: float = 2 * DAY_SECONDS


class Due(NamedTuple):
    """One timer: `work` is `expire`, `archive`, `suspend`, `seal`, `offload`, `finish` or `erase`."""

    at: Instant
    work: str


def timers(head: Head, placement: Placement, policy: Policy) -> Iterator[Due]:
    """Every timer of a head. A stub has only its expiry and what its intents still owe."""
    pulse, work = head.pulse, head.work
    if head.profile.expires_at is not None:
        yield Due(head.profile.expires_at, "expire")
    for intent in work.intents:
        yield Due(instants.plus(intent.at, INTENT_GRACE_SECONDS), "finish")
    if placement == "cold":
        return
    if policy.idle_suspend_seconds and head.status in SUSPENDABLE:
        yield Due(instants.plus(pulse.last_activity, policy.idle_suspend_seconds), "suspend")
    if policy.archive_after_days:
        yield Due(instants.plus(pulse.last_activity, policy.archive_after_days * DAY_SECONDS), "archive")
    if work.archive_asked_by is not None:
        yield Due(pulse.updated_at, "archive")
    if tail_is_over(head, policy):
        yield Due(pulse.updated_at, "seal")
    if work.warm_bodies >= policy.warm_segments_max and not work.intents:
        yield Due(pulse.updated_at, "offload")


def next_due(head: Head, placement: Placement, policy: Policy) -> Instant | None:
    return min((due.at for due in timers(head, placement, policy)), default=None)


def due_now(head: Head, placement: Placement, policy: Policy, now: Instant) -> list[str]:
    """The works that are due, the longest owed first."""
    return [due.work for due in sorted(timers(head, placement, policy)) if due.at <= now]


def tombstone_due(tombstone: Tombstone) -> Instant | None:
    return None if tombstone.done else tombstone.erased_at


def tail_is_over(head: Head, policy: Policy) -> bool:
    return head.tail_count >= policy.tail_entries_max or head.work.tail_bytes >= policy.tail_bytes_max
