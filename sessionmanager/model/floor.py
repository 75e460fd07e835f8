"""The floor: at most one participant speaks for the bot. Pure.

A lease alone cannot keep that promise: whoever was stopped past its lease does not know it. So every holder gets a
number, greater than all before it, and what it says carries the number; an old number, or one whose lease is over, is
refused in the same compare-and-set that would have added the words (Kleppmann 2016, "How to do distributed locking",
fencing tokens). Times are warm's.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from sessionmanager.errors import FloorLost, FloorTaken
from sessionmanager.model import instants
from sessionmanager.words import Instant

FLOOR_SECONDS: Final = 30.0
FLOOR_SECONDS_MIN: Final = 1.0
FLOOR_SECONDS_MAX: Final = 3_600.0
QUEUE_MAX: Final = 16
OFFER_SECONDS: Final = 30.0
OFFER_SECONDS_MAX: Final = 3_600.0
TO_A_HUMAN: Final = "human"
"""Whom a hand-over may be for, beside one participant: the first human who claims."""

ClaimPolicy = Literal["reject", "queue", "interrupt"]


class Waiting(Struct, frozen=True, kw_only=True):
    """Somebody in the queue. It is served only while it takes part."""

    participant: str
    lease_seconds: float
    asked_at: Instant
    human: bool = False


class Offer(Struct, frozen=True, kw_only=True):
    """A hand-over: `to` (a participant, or `human` for any) may claim whatever the holder, until it expires."""

    to: str
    expires_at: Instant


class Floor(Struct, frozen=True, kw_only=True):
    """Who may speak. number: of the last holder, growing; 0 = nobody ever was. human: a person has taken over."""

    required: bool = False
    holder: str | None = None
    human: bool = False
    number: int = 0
    since: Instant | None = None
    lease_seconds: float = FLOOR_SECONDS
    lease_expires_at: Instant | None = None
    queue: tuple[Waiting, ...] = ()
    offer: Offer | None = None


class Claim(NamedTuple):
    """What came of a claim. floor: None = nothing changed. position: place in the queue, None = it holds the floor."""

    floor: Floor | None
    number: int
    position: int | None = None


def is_held(floor: Floor, now: Instant) -> bool:
    """Whether somebody may speak now: there is a holder and its lease is not over."""
    return floor.holder is not None and floor.lease_expires_at is not None and floor.lease_expires_at > now


def claim(
    floor: Floor | None, pid: str, *, human: bool, lease_seconds: float, policy: ClaimPolicy, now: Instant
) -> Claim:
    """Ask for the floor. Whoever holds it renews it and keeps its number.

    A human with `interrupt` takes it from anybody; nobody but a human takes it from a human.
    Raises FloorTaken: held by another under `reject`, a bot would interrupt a human, or the queue is full.
    """
    floor = floor or Floor()
    # What is over by now counts as over though the worker has not come yet: those who waited are served first.
    floor = expire(floor, now) or floor
    if is_held(floor, now):
        if floor.holder == pid:
            return Claim(_renewed(floor, lease_seconds, now), floor.number)
        offered = floor.offer is not None and floor.offer.expires_at > now and floor.offer.to in _names(pid, human)
        if not offered and not (policy == "interrupt" and (human or not floor.human)):
            return _wait(floor, pid, human=human, lease_seconds=lease_seconds, policy=policy, now=now)
    after = _given(floor, Waiting(participant=pid, lease_seconds=lease_seconds, asked_at=now, human=human), now)
    return Claim(after, after.number)


def _names(pid: str, human: bool) -> tuple[str, ...]:
    return (pid, TO_A_HUMAN) if human else (pid,)


def _wait(floor: Floor, pid: str, *, human: bool, lease_seconds: float, policy: ClaimPolicy, now: Instant) -> Claim:
    seconds = 0.0 if floor.lease_expires_at is None else instants.seconds_between(now, floor.lease_expires_at)
    if policy != "queue":
        raise FloorTaken(floor.holder, floor.number, seconds)
    place = next((i for i, waiting in enumerate(floor.queue) if waiting.participant == pid), None)
    if place is not None:
        return Claim(None, floor.number, place + 1)
    if len(floor.queue) >= QUEUE_MAX:
        raise FloorTaken(floor.holder, floor.number, seconds, f"{QUEUE_MAX} are waiting already")
    waiting = Waiting(participant=pid, lease_seconds=lease_seconds, asked_at=now, human=human)
    return Claim(replace(floor, queue=(*floor.queue, waiting)), floor.number, len(floor.queue) + 1)


def offer(floor: Floor | None, pid: str, to: str, seconds: float, now: Instant) -> Floor:
    """The holder offers the floor and keeps it until it is claimed; an offer that nobody claims expires.

    Raises FloorLost: `pid` does not hold it."""
    if floor is None or floor.holder != pid or not is_held(floor, now):
        raise FloorLost(floor.number if floor is not None else 0, "only the holder hands the floor over")
    return replace(floor, offer=Offer(to=to, expires_at=instants.plus(now, seconds)))


def leave_floor(floor: Floor | None, pid: str, now: Instant) -> Floor | None:
    """The floor after `pid` has given it back, left the queue or gone; None = it had no part in it."""
    if floor is None:
        return None
    queue = tuple(waiting for waiting in floor.queue if waiting.participant != pid)
    to_it = floor.offer is not None and floor.offer.to == pid
    if floor.holder != pid:
        if len(queue) == len(floor.queue) and not to_it:
            return None
        return replace(floor, queue=queue, offer=None if to_it else floor.offer)
    return _next(replace(floor, queue=queue), now)


def expire(floor: Floor | None, now: Instant) -> Floor | None:
    """The floor after what is over by now, a lease or an offer; None = nothing is."""
    if floor is None:
        return None
    after = floor
    if after.offer is not None and after.offer.expires_at <= now:
        after = replace(after, offer=None)
    if (after.holder is not None or after.queue) and not is_held(after, now):
        after = _next(after, now)
    return None if after is floor else after


def due(floor: Floor | None) -> Instant | None:
    """When the floor must be looked at."""
    if floor is None:
        return None
    times = [at for at in (floor.lease_expires_at, floor.offer and floor.offer.expires_at) if at is not None]
    return min(times, default=None)


def check_number(floor: Floor | None, number: int | None, now: Instant, *, speaks: bool) -> None:
    """Hold what is said against the floor. number: what the entry carries. speaks: it is assistant speech.

    Raises FloorLost: the number is old, or its lease is over; speech without one where the session requires it, or
    while a human has taken over.
    """
    if number is not None:
        if floor is None or number != floor.number or not is_held(floor, now):
            raise FloorLost(floor.number if floor is not None else 0)
        return
    if speaks and floor is not None and (floor.required or (floor.human and is_held(floor, now))):
        reason = "a human has taken over" if floor.human and is_held(floor, now) else "this session requires the floor"
        raise FloorLost(floor.number, f"{reason}: claim the floor, and send its number as `floor`")


def renewed(floor: Floor, now: Instant) -> Floor | None:
    """With its whole lease before it where the lease is not over and less than half is left, else None."""
    if not is_held(floor, now) or floor.lease_expires_at is None:
        return None
    if instants.seconds_between(now, floor.lease_expires_at) >= 0.5 * floor.lease_seconds:
        return None
    return replace(floor, lease_expires_at=instants.plus(now, floor.lease_seconds))


def emptied(floor: Floor | None) -> Floor | None:
    """When everybody has gone. The number stays, so that no old one is ever valid again."""
    if floor is None:
        return None
    return Floor(required=floor.required, number=floor.number)


def _renewed(floor: Floor, lease_seconds: float, now: Instant) -> Floor:
    return replace(floor, lease_seconds=lease_seconds, lease_expires_at=instants.plus(now, lease_seconds))


def _next(floor: Floor, now: Instant) -> Floor:
    if floor.queue:
        return _given(replace(floor, queue=floor.queue[1:]), floor.queue[0], now)
    return replace(floor, holder=None, human=False, since=None, lease_expires_at=None, offer=None)


def _given(floor: Floor, to: Waiting, now: Instant) -> Floor:
    return Floor(
        required=floor.required,
        holder=to.participant,
        human=to.human,
        number=floor.number + 1,
        since=now,
        lease_seconds=to.lease_seconds,
        lease_expires_at=instants.plus(now, to.lease_seconds),
        queue=tuple(waiting for waiting in floor.queue if waiting.participant != to.participant),
    )
