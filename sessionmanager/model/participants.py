"""Who takes part in a session: what may happen to participants, and what each event does to the head. Pure.

A participant is known by its `identity`: whoever joins under one that is there comes back as the same participant. Its
`epoch` counts how often it was let in anew after it had left; a token names the epoch it was made for, so that leaving
voids it at once and coming back does not revive it. A lease says how long it is believed to live without news; renewals
are no commits (design notes, "Timers, feed, identity") and so no part of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from sessionmanager.errors import AlreadyExists, Full, IllegalTransition, NotFound, Unauthenticated
from sessionmanager.model import floor as floors
from sessionmanager.model import instants
from sessionmanager.model.entry import Draft
from sessionmanager.model.floor import Floor, leave_floor
from sessionmanager.model.head import PARTICIPANTS_GONE_MAX, PARTICIPANTS_MAX, Head, Participant
from sessionmanager.words import TERMINAL_STATUSES, Instant, ParticipantKind

LEASE_SECONDS: Final = 60.0
LEASE_SECONDS_MIN: Final = 5.0
LEASE_SECONDS_MAX: Final = 86_400.0
LEFT_IN_LEASE: Final = 0.5
"""A renewal is written when less than this share of the lease is left; a sooner one changes nothing."""

Event = Literal["expected", "joined", "reattached", "changed", "disconnected", "left", "floor"]


class ParticipantData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of a `participant` entry: what happened, to whom, and the floor where it changed with it.

    participant: as it is afterwards, but its lease, which moves without commits. floor: as it is afterwards.
    """

    event: Event
    participant: Participant | None = None
    floor: Floor | None = None
    reason: str | None = None


class Join(NamedTuple):
    """Somebody who wants in. lease_seconds: None = it is never given up for want of news."""

    id: str
    kind: ParticipantKind
    identity: str
    role: str
    lease_seconds: float | None = LEASE_SECONDS
    metadata: Mapping[str, Raw] = {}


_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(ParticipantData).decode


def draft(
    event: Event, person: Participant | None = None, floor: Floor | None = None, reason: str | None = None
) -> Draft:
    """The log entry of an event."""
    return Draft(
        type="participant",
        data=Raw(_encode(ParticipantData(event=event, participant=person, floor=floor, reason=reason))),
    )


def find(head: Head, pid: str) -> Participant:
    """The participant with this id, gone ones included while the head remembers them. Raises NotFound."""
    for person in head.detail.participants:
        if person.id == pid:
            return person
    raise NotFound("no such participant")


def require_here(head: Head, pid: str) -> Participant:
    """The participant, as long as it takes part. Raises NotFound."""
    person = find(head, pid)
    if person.status == "left":
        raise NotFound("this participant has left the session")
    return person


def require_present(head: Head, pid: str, epoch: int) -> Participant:
    """The participant that a bound token speaks for. Raises Unauthenticated: it has left since the token was made."""
    for person in head.detail.participants:
        if person.id == pid and person.epoch == epoch and person.status != "left":
            return person
    raise Unauthenticated("the participant has left the session; join again for a new token")


def join(head: Head, wanted: Join, now: Instant) -> tuple[tuple[Draft, ...], Participant]:
    """Let somebody in, or back in under its identity: the entries, none where nothing changes, and who it is.

    Raises IllegalTransition: the session is over. AlreadyExists: the identity is another kind's. Full: of the head's
    bound.
    """
    if head.status in TERMINAL_STATUSES:
        raise IllegalTransition(head.status, (), f"nobody joins a session that is {head.status}")
    known = next((person for person in head.detail.participants if person.identity == wanted.identity), None)
    if known is not None and known.kind != wanted.kind and known.status != "left":
        raise AlreadyExists(f"the identity is taken by a participant of kind {known.kind}")
    lease = None if wanted.lease_seconds is None else instants.plus(now, wanted.lease_seconds)
    if known is None or known.status == "left":
        present = sum(person.status != "left" for person in head.detail.participants)
        if present >= PARTICIPANTS_MAX:
            raise Full(f"a session has at most {PARTICIPANTS_MAX} participants at once")
    if known is None:
        person = Participant(
            id=wanted.id,
            kind=wanted.kind,
            identity=wanted.identity,
            role=wanted.role,
            status="attached",
            joined_at=now,
            lease_seconds=wanted.lease_seconds,
            lease_expires_at=lease,
            metadata=dict(wanted.metadata),
        )
        return (draft("joined", person),), person
    person = replace(
        known,
        kind=wanted.kind,
        role=wanted.role,
        status="attached",
        epoch=known.epoch + (known.status == "left"),
        joined_at=now if known.status == "left" else known.joined_at,
        left_at=None,
        lease_seconds=wanted.lease_seconds,
        lease_expires_at=lease,
        metadata=dict(wanted.metadata) if wanted.metadata else known.metadata,
    )
    return (draft("joined" if known.status == "joining" else "reattached", person),), person


def change(head: Head, pid: str, metadata: Mapping[str, Raw] | None, last_seen: int | None) -> tuple[Draft, ...]:
    """Set what a participant says of itself. `last_seen` only grows. Raises NotFound."""
    person = find(head, pid)
    after = person if metadata is None else replace(person, metadata=dict(metadata))
    if last_seen is not None and last_seen > person.last_seen_version:
        after = replace(after, last_seen_version=min(last_seen, head.version))
    return () if after == person else (draft("changed", after),)


def reattach(head: Head, pid: str, now: Instant) -> tuple[Draft, ...]:
    """News of somebody who was expected, or whose lease was missed: attached, with a new lease. Nothing for others."""
    person = find(head, pid)
    if person.status not in ("disconnected", "joining"):
        return ()
    event: Event = "joined" if person.status == "joining" else "reattached"
    return (draft(event, renewed(replace(person, status="attached"), now)),)


def leave(head: Head, pid: str, now: Instant, reason: str | None = None) -> tuple[Draft, ...]:
    """Take somebody out, by its own wish or another's; it gives the floor back. Nothing where it has left already."""
    person = find(head, pid)
    if person.status == "left":
        return ()
    gone = replace(person, status="left", left_at=now, lease_expires_at=None)
    return (draft("left", gone, leave_floor(head.detail.floor, pid, now), reason),)


def renewed(person: Participant, now: Instant) -> Participant:
    """With its whole lease before it."""
    if person.lease_seconds is None:
        return person
    return replace(person, lease_expires_at=instants.plus(now, person.lease_seconds))


def needs_renewal(person: Participant, now: Instant) -> bool:
    """Whether less than half of the lease is left."""
    if person.lease_seconds is None or person.lease_expires_at is None:
        return False
    return instants.seconds_between(now, person.lease_expires_at) < LEFT_IN_LEASE * person.lease_seconds


def expire(head: Head, now: Instant) -> tuple[Draft, ...]:
    """What is over by now: an entry for each missed lease (disconnected, and without the floor), one for the floor."""
    drafts: list[Draft] = []
    floor = head.detail.floor
    for person in head.detail.participants:
        if person.status in ("attached", "joining") and person.lease_expires_at is not None:
            if person.lease_expires_at > now:
                continue
            after = leave_floor(floor, person.id, now)
            floor = after or floor
            gone = replace(person, status="disconnected", lease_expires_at=None)
            drafts.append(draft("disconnected", gone, after, "lease"))
    after = floors.expire(floor, now)
    if after is not None:
        drafts.append(draft("floor", floor=after, reason="lease"))
    return tuple(drafts)


def folded(head: Head, data: ParticipantData) -> Head:
    """The head after an event. The present are all kept, of the gone the newest."""
    detail = head.detail
    if data.floor is not None:
        detail = replace(detail, floor=data.floor)
    if data.participant is not None:
        detail = replace(detail, participants=_put(detail.participants, data.participant))
    return replace(head, detail=detail)


def due(head: Head) -> Instant | None:
    """When somebody's lease, the floor's or an offer is over; None = nothing of the kind runs."""
    times = [person.lease_expires_at for person in head.detail.participants if person.lease_expires_at is not None]
    at = floors.due(head.detail.floor)
    return min([*times, at] if at is not None else times, default=None)


def _put(everybody: tuple[Participant, ...], person: Participant) -> tuple[Participant, ...]:
    if any(known.id == person.id for known in everybody):
        everybody = tuple(person if known.id == person.id else known for known in everybody)
    else:
        everybody = (*everybody, person)
    gone = [known for known in everybody if known.status == "left"]
    if len(gone) <= PARTICIPANTS_GONE_MAX:
        return everybody
    oldest = min(gone, key=lambda known: known.left_at or known.joined_at)
    return tuple(known for known in everybody if known is not oldest)
