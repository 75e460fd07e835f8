"""The services that a session asks for: their seats, and what each event does to the head. Pure.

A session names kinds of services; each is a seat that one registered instance fills. What is to be done about seats,
and when, stands in the head as data (`Seat.due_at`), so that any process can go on where another one died. What may
happen next is decided in `model/service_steps.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from sessionmanager.model import instants
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head, Participant, Seat
from sessionmanager.words import Instant, Key, ParticipantKind, Status

ATTEMPTS_MAX: Final = 10
"""Attempts in a row to fill a seat; then it is given up, until the session wakes anew or somebody speaks after
`ABANDONED_SECONDS`. Bounds what the log holds, and lets a session rest to which nobody speaks."""
ABANDONED_SECONDS: Final = 600.0
FAILED_MAX: Final = 4
CLIENT_SECONDS: Final = 300.0
JOIN_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 30.0
WAITING: Final = ("waiting_for_services", "ready")
"""Statuses of a session that nobody has begun to use."""
LIVE: Final = (*WAITING, "initiated", "active")
CLIENT_KINDS: Final[frozenset[ParticipantKind]] = frozenset(("client", "human", "bridge"))
"""Whose coming makes a session that is ready active."""

Event = Literal["required", "asked", "joining", "ready", "disconnected", "abandoned"]


class Rules(NamedTuple):
    """What holds for one kind of service. optional: the session goes on without it."""

    optional: bool = False
    join_seconds: float = JOIN_SECONDS
    retry_seconds: float = RETRY_SECONDS


class ServiceRules(NamedTuple):
    """The settings of seats: `others` for every kind that `types` does not name."""

    others: Rules = Rules()
    types: Mapping[str, Rules] = {}

    def of(self, kind: str) -> Rules:
        return self.types.get(kind, self.others)


class ServiceData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of a `service` entry. seats: of `required`, all of them. seat: of other events, as it is afterwards."""

    event: Event
    seats: tuple[Seat, ...] = ()
    seat: Seat | None = None


_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(ServiceData).decode


def seats(kinds: Iterable[str], rules: ServiceRules, now: Instant) -> tuple[Seat, ...]:
    """Empty seats, one a kind, each to be filled at once."""
    made: list[Seat] = []
    for kind in dict.fromkeys(kinds):
        optional, join_seconds, retry_seconds = rules.of(kind)
        made.append(
            Seat(type=kind, optional=optional, join_seconds=join_seconds, retry_seconds=retry_seconds, due_at=now)
        )
    return tuple(made)


def required(wanted: tuple[Seat, ...]) -> Draft:
    """The log entry by which a session asks for services."""
    return Draft(type="service", data=Raw(_encode(ServiceData(event="required", seats=wanted))))


def draft(event: Event, seat: Seat) -> Draft:
    """The log entry of an event."""
    return Draft(type="service", data=Raw(_encode(ServiceData(event=event, seat=seat))))


# -- folds


def folded(head: Head, data: ServiceData) -> Head:
    """The head after an event."""
    if data.event == "required":
        kinds = tuple(seat.type for seat in data.seats)
        head = replace(head, profile=replace(head.profile, required_services=kinds))
        return _with_seats(head, data.seats)
    seat = data.seat
    if seat is None:
        return head
    return _with_seats(head, tuple(seat if one.type == seat.type else one for one in head.detail.services))


def after_status(head: Head, status: Status, before: str, at: Instant) -> Head:
    """A session that rests or is over has empty seats and is owed nothing; one that wakes asks for services anew."""
    if not head.detail.services:
        return head
    if status in LIVE and before not in LIVE:
        return _with_seats(head, tuple(_empty(seat, at) for seat in head.detail.services))
    if status not in LIVE and before in LIVE:
        return _with_seats(head, tuple(_empty(seat, None) for seat in head.detail.services))
    return head


def stirred(head: Head, at: Instant) -> Head:
    """Somebody speaks: seats that were given up a while ago are tried again."""

    def tried(seat: Seat) -> Seat:
        given_up = seat.status == "disconnected" and seat.due_at is None and seat.asked_at is not None
        if not given_up or instants.plus(seat.asked_at or at, ABANDONED_SECONDS) > at:
            return seat
        return replace(seat, attempts=0, due_at=at)

    after = tuple(tried(seat) for seat in head.detail.services)
    return head if after == head.detail.services else _with_seats(head, after)


def _empty(seat: Seat, due_at: Instant | None) -> Seat:
    return Seat(
        type=seat.type,
        optional=seat.optional,
        join_seconds=seat.join_seconds,
        retry_seconds=seat.retry_seconds,
        due_at=due_at,
    )


def _with_seats(head: Head, after: tuple[Seat, ...]) -> Head:
    """The head with these seats; its profile names the instances that fill them and those that are ready."""
    profile = head.profile
    filled = tuple(seat.service for seat in after if seat.service is not None)
    ready = tuple(seat.service for seat in after if seat.service is not None and seat.status == "ready")
    if (filled, ready) != (profile.registered_services, profile.ready_services):
        profile = replace(profile, registered_services=filled, ready_services=ready)
    return replace(head, profile=profile, detail=replace(head.detail, services=after))


# -- what is owed


def due(head: Head, client_seconds: float) -> Instant | None:
    """When something must be done about the session's services, or about nobody having come; None = never."""
    if not head.detail.services or head.status not in LIVE:
        return None
    if must_move(head) or any(drifted(head, seat) for seat in head.detail.services):
        return head.pulse.updated_at
    times = [seat.due_at for seat in head.detail.services if seat.due_at is not None]
    if head.status in WAITING:
        times.append(client_by(head, client_seconds))
    return min(times, default=None)


def client_by(head: Head, client_seconds: float) -> Instant:
    """Until when somebody must have come, or the session is over."""
    return instants.plus(head.profile.created_at, client_seconds)


def must_move(head: Head) -> bool:
    """Whether its status is to be moved on."""
    if head.status == "waiting_for_services":
        return is_complete(head)
    return head.status == "ready" and client_is_here(head)


def is_complete(head: Head) -> bool:
    """Every seat is filled, but optional ones that were tried in vain."""
    return all(
        seat.status == "ready" or (seat.optional and seat.status == "disconnected" and seat.attempts > 0)
        for seat in head.detail.services
    )


def client_is_here(head: Head) -> bool:
    return any(person.kind in CLIENT_KINDS and person.status == "attached" for person in head.detail.participants)


def person_of(head: Head, seat: Seat) -> Participant | None:
    """The participant by which an instance takes part."""
    if seat.participant is None:
        return None
    return next((person for person in head.detail.participants if person.id == seat.participant), None)


def drifted(head: Head, seat: Seat) -> bool:
    """Whether the participant came or went and its seat does not say so yet."""
    if seat.status == "disconnected":
        return False
    person = person_of(head, seat)
    if person is None or person.status in ("left", "disconnected"):
        return True
    return seat.status != "ready" and person.status == "attached"


# -- which instance


class Candidate(NamedTuple):
    """An instance that may be asked. load: what it says of itself, 0 (idle) to 1 (full)."""

    id: str
    type: str
    load: float = 0.0


def choose(key: Key, seat: Seat, candidates: Sequence[Candidate]) -> str | None:
    """The instance to ask: by its place in an order that is the session's own (rendezvous hashing), of the first two
    the one with less to do; one that has failed lately only where there is no other. None = there is none."""
    fitting = [one for one in candidates if one.type == seat.type]
    fresh = [one for one in fitting if one.id not in seat.failed]
    ranked = sorted(fresh or fitting, key=lambda one: _rank(key, one.id))[:2]
    return min(ranked, key=lambda one: one.load).id if ranked else None


def _rank(key: Key, service: str) -> bytes:
    return hashlib.blake2b(f"{key.text}/{service}".encode(), digest_size=8).digest()


def effect_name(key: Key, seat: Seat) -> str:
    """The name of the request that asks an instance to join: the same however often it is sent."""
    text = f"{key.text}/{seat.type}/{seat.asked_version}".encode()
    return "join_" + hashlib.blake2b(text, digest_size=16).hexdigest()
