"""What a session is owed, and when: pure sums over its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sessionmanager.model import instants, participants, services
from sessionmanager.model.calls import legs
from sessionmanager.model.head import Head, Intent
from sessionmanager.model.rooms import events as rooms
from sessionmanager.words import Instant, Placement

DAY_SECONDS: Final = 86_400
SUSPENDABLE: Final = frozenset({"initiated", "waiting_for_services", "ready", "active"})
OWED_OBJECTS_MAX: Final = 64
"""With so many objects to be removed no further move begins: their names are rewritten by every commit."""


class Policy(NamedTuple):
    """The settings that timers and moves go by. Zero seconds or days switch a timer off.

    intent_grace_seconds: how long a move that has written its intent may go on, and how long it may begin to upload,
    before another worker gives it up. upload_deadline_seconds: how long an upload that was begun may still land.
    archive_after_days and retention_days (after its end a session is erased) may be a tenant's own. client_seconds: how
    long a session that asks for services waits for them and for its client. silence: how long a call may go without
    news. rooms: whether there is a LiveKit to hold rooms against.
    """

    idle_suspend_seconds: float = 3_600.0
    archive_after_days: float = 365.0
    retention_days: float = 0.0
    tail_entries_max: int = 1_000
    tail_bytes_max: int = 320 * 1024
    tail_entries_kept: int = 100
    tail_bytes_kept: int = 64 * 1024
    warm_segments_max: int = 8
    warm_segments_kept: int = 4
    node_fanout: int = 16
    intent_objects_max: int = 64
    keys_keep_seconds: float = 2 * DAY_SECONDS
    intent_grace_seconds: float = 60.0
    upload_deadline_seconds: float = 30.0
    client_seconds: float = services.CLIENT_SECONDS
    silence: legs.Silence = legs.Silence()
    rooms: bool = False


class Due(NamedTuple):
    """One timer: `work` is `expire`, `lease`, `services`, `calls`, `rooms`, `archive`, `suspend`, `seal`, `offload`,
    `finish` or `erase`."""

    at: Instant
    work: str


def timers(head: Head, placement: Placement, policy: Policy) -> Iterator[Due]:
    """Every timer of a head. A stub has only its expiry and what its intents still owe.

    Any session that is quiet for long enough is archived, whatever its status: that stays, and whoever comes back finds
    everything. What the hourly cap holds back is not due before `held_until`.
    """
    pulse, work = head.pulse, head.work
    held = work.held_until or ""
    for at in expiries(head, policy):
        yield Due(max(at, held), "expire")
    for intent in work.intents:
        yield Due(finish_at(intent, policy), "finish")
    if placement == "cold":
        return
    yield from _of_those_who_take_part(head, policy)
    is_used = legs.is_live(head) or rooms.is_used(head)
    if policy.idle_suspend_seconds and head.status in SUSPENDABLE and not is_used:
        yield Due(instants.plus(pulse.last_activity, policy.idle_suspend_seconds), "suspend")
    if policy.archive_after_days:
        quiet_until = instants.plus(pulse.last_activity, policy.archive_after_days * DAY_SECONDS)
        yield Due(max(quiet_until, held), "archive")
    if work.archive_asked_by is not None:
        yield Due(pulse.updated_at, "archive")
    if tail_is_over(head, policy):
        yield Due(pulse.updated_at, "seal")
    if work.warm_bodies >= policy.warm_segments_max and not is_moving(head):
        yield Due(pulse.updated_at, "offload")


def _of_those_who_take_part(head: Head, policy: Policy) -> Iterator[Due]:
    owed = (
        ("lease", participants.due(head)),
        ("services", services.due(head, policy.client_seconds)),
        ("calls", legs.due(head, policy.silence)),
        ("rooms", rooms.due(head) if policy.rooms else None),
    )
    for work, at in owed:
        if at is not None:
            yield Due(at, work)


def expiries(head: Head, policy: Policy) -> Iterator[Instant]:
    """When the session is erased by the clock: at the time that a caller set, and so long after its end."""
    if head.profile.expires_at is not None:
        yield head.profile.expires_at
    if policy.retention_days and head.pulse.ended_at is not None:
        yield instants.plus(head.pulse.ended_at, policy.retention_days * DAY_SECONDS)


def finish_at(intent: Intent, policy: Policy) -> Instant:
    """When an intent is given up, or the objects of one that was given up are removed: then none can land any more."""
    uploads = intent.kind == "collect" and intent.objects
    return instants.plus(intent.at, policy.upload_deadline_seconds if uploads else policy.intent_grace_seconds)


def is_moving(head: Head) -> bool:
    """Whether a move is under way that another must wait for. What waits only to be cleaned up holds nobody up."""
    intents = head.work.intents
    owed = sum([len(intent.objects) or 1 for intent in intents])
    return owed >= OWED_OBJECTS_MAX or any(intent.kind != "collect" for intent in intents)


def next_due(head: Head, placement: Placement, policy: Policy) -> Instant | None:
    return min((due.at for due in timers(head, placement, policy)), default=None)


def due_now(head: Head, placement: Placement, policy: Policy, now: Instant) -> list[str]:
    """The works that are due, each once, the longest owed first."""
    return list(dict.fromkeys(due.work for due in sorted(timers(head, placement, policy)) if due.at <= now))


def tail_is_over(head: Head, policy: Policy) -> bool:
    return head.tail_count >= policy.tail_entries_max or head.work.tail_bytes >= policy.tail_bytes_max
