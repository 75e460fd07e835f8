"""What happens next about a session's services: head + answers + now → the entries of one commit. Pure.

    seat   disconnected ─ask→ registered ─told→ joining ─joined→ ready
              ↑  └─ no instance, every retry_seconds        │        │
              └──────── refused, too late, gone ────────────┴────────┘
    session   waiting_for_services ─every seat filled→ ready ─a client comes→ active
              ─nobody in client_seconds→ error (services missing) or ended (ready, but no client)

Each step is decided on the newest head, so a step that another process has done already decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.errors import AlreadyExists, Full
from sessionmanager.model import decide, instants, participants, services
from sessionmanager.model.entry import Draft
from sessionmanager.model.fold import StatusData, encode_data
from sessionmanager.model.head import Head, Participant, Seat
from sessionmanager.model.participants import Join, ParticipantData
from sessionmanager.model.services import ATTEMPTS_MAX, FAILED_MAX, WAITING, ServiceData
from sessionmanager.words import Instant

TELL_SECONDS: Final = 20.0
"""Whoever asked an instance has its answer by then, or died: the next one asks again. More than a call may take."""
CLIENT_TIMEOUT: Final = "client-timeout"
JOIN_TIMEOUT: Final = "join-timeout"

Outcome = Literal["joined", "accepted", "refused"]
_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What an instance said when it was asked to join. reason: why it is refused, a word of ours."""

    outcome: Outcome
    reason: str | None = None


class _Run:
    """The entries so far, and the head as they leave it."""

    def __init__(self, head: Head, now: Instant) -> None:
        self.head = head
        self.at = now
        self.drafts: list[Draft] = []

    def seat(self, event: services.Event, seat: Seat) -> None:
        self.drafts.append(services.draft(event, seat))
        self.head = services.folded(self.head, ServiceData(event=event, seat=seat))

    def person(self, event: participants.Event, person: Participant) -> None:
        self.drafts.append(participants.draft(event, person))
        self.head = participants.folded(self.head, ParticipantData(event=event, participant=person))

    def leave(self, person: Participant | None, reason: str) -> None:
        """Its token is void from here on."""
        if person is None:
            return
        for made in participants.leave(self.head, person.id, self.at, reason):
            self.drafts.append(made)
            self.head = participants.folded(self.head, participants.decode_event(bytes(made.data or b"")))

    def tell_error(self, seat: Seat, reason: str) -> None:
        """Whoever reads the session must know that it lacks something it cannot do without."""
        who = seat.service if seat.service is not None else "any instance"
        text = f"service {seat.type} ({who}): {reason}"
        self.drafts.append(Draft(type="error", content=Raw(_encode(text))))

    def status(self, transition: str, after: str) -> None:
        self.drafts.append(_status(transition, self.head.status, after))
        self.head = replace(self.head, pulse=replace(self.head.pulse, status=after))


def _status(transition: str, before: str, after: str) -> Draft:
    return Draft(type="status", status=after, data=encode_data(StatusData(transition=transition, from_=before)))


def step(
    head: Head,
    now: Instant,
    *,
    client_seconds: float,
    choose: Callable[[Seat], str | None] | None,
    new_pid: Callable[[], str],
) -> tuple[Draft, ...]:
    """Everything that is due: time-outs, who is asked next, the session's own status. Nothing where nothing is due.

    choose: the instance to ask, None = there is none; None in its place = nobody has looked, so nobody is asked.
    """
    if not head.detail.services or head.status not in services.LIVE:
        return ()
    if head.status in WAITING and services.client_by(head, client_seconds) <= now and not services.must_move(head):
        return _too_late(head)
    run = _Run(head, now)
    for seat in head.detail.services:
        _look(run, seat, choose, new_pid)
    if run.head.status == "waiting_for_services" and services.must_move(run.head):
        run.status("ready", "ready")
    if run.head.status == "ready" and services.must_move(run.head):
        run.status("activate", "active")
    return tuple(run.drafts)


def _too_late(head: Head) -> tuple[Draft, ...]:
    """Nobody came in time. A session that was ready has ended; one that lacks a service has failed."""
    if head.status == "ready":
        return decide.transition(head, "end", reason=CLIENT_TIMEOUT)
    missing = [seat.type for seat in head.detail.services if seat.status != "ready" and not seat.optional]
    return decide.transition(head, "fail", error=f"services did not join in time: {', '.join(missing)}"[:255])


def _look(run: _Run, seat: Seat, choose: Callable[[Seat], str | None] | None, new_pid: Callable[[], str]) -> None:
    now = run.at
    if services.drifted(run.head, seat):
        person = services.person_of(run.head, seat)
        if person is not None and person.status == "attached":
            _ready(run, seat)
        else:
            _failed(run, seat, "gone")
        return
    if seat.due_at is None or seat.due_at > now:
        return
    if seat.status == "joining":
        _failed(run, seat, JOIN_TIMEOUT)
    elif seat.status == "registered" and seat.attempts >= ATTEMPTS_MAX:
        _failed(run, seat, "not-told")
    elif seat.status == "registered":
        # Whoever was to tell it died, or could not write down the answer. Told twice, it has joined once.
        _ask(run, seat, seat.service or "", new_pid)
    elif seat.status == "disconnected" and choose is not None:
        service = choose(seat)
        if service is None:
            _failed(run, replace(seat, attempts=seat.attempts + 1, asked_at=now), "no-instance")
        else:
            _ask(run, seat, service, new_pid)


def _ask(run: _Run, seat: Seat, service: str, new_pid: Callable[[], str]) -> None:
    """Give the seat to an instance that is yet to be told, and let it in as a participant that is yet to come."""
    asked = replace(
        seat,
        status="registered",
        service=service,
        attempts=seat.attempts + 1,
        asked_at=run.at,
        asked_version=run.head.version + 1,
        due_at=instants.plus(run.at, TELL_SECONDS),
        reason=None,
    )
    wanted = Join(new_pid(), "service", service, seat.type, None)
    try:
        person = expected(run.head, wanted, run.at)
    except (Full, AlreadyExists) as error:
        _failed(run, replace(asked, participant=None), error.type)
        return
    run.seat("asked", replace(asked, participant=person.id))
    run.person("expected", person)


def expected(head: Head, wanted: Join, now: Instant) -> Participant:
    """Somebody who is let in and has yet to come: `joining` until its first news. Raises as `participants.join`."""
    return replace(participants.join(head, wanted, now)[1], status="joining")


def _ready(run: _Run, seat: Seat) -> None:
    run.seat("ready", replace(seat, status="ready", attempts=0, due_at=None, reason=None, failed=()))


def _failed(run: _Run, seat: Seat, reason: str, *, at_once: bool = False) -> None:
    """The seat is empty again. at_once: somebody else is asked now, not after `retry_seconds`."""
    person = services.person_of(run.head, seat)
    failed = seat.failed
    if seat.service is not None:
        failed = (*(one for one in failed if one != seat.service), seat.service)[-FAILED_MAX:]
    given_up = seat.attempts >= ATTEMPTS_MAX
    due_at = None if given_up else instants.plus(run.at, 0 if at_once else seat.retry_seconds)
    empty = replace(
        seat, status="disconnected", service=None, participant=None, due_at=due_at, reason=reason, failed=failed
    )
    run.seat("abandoned" if given_up else "disconnected", empty)
    run.leave(person, reason)
    if not seat.optional:
        run.tell_error(seat, reason)


# -- what comes from outside


def answered(head: Head, kind: str, asked_version: int, answer: Answer, now: Instant) -> tuple[Draft, ...]:
    """The answer to the request by which an instance was asked. Nothing where it was asked anew since, or has come."""
    seat = _seat(head, kind)
    if seat is None or seat.asked_version != asked_version or seat.status not in ("registered", "joining"):
        return ()
    run = _Run(head, now)
    if answer.outcome == "refused":
        _failed(run, seat, answer.reason or "refused")
    elif answer.outcome == "joined":
        person = services.person_of(head, seat)
        _ready(run, seat)
        if person is not None and person.status == "joining":
            run.person("joined", replace(person, status="attached"))
    elif seat.status == "registered" and not services.drifted(head, seat):
        run.seat("joining", replace(seat, status="joining", due_at=instants.plus(now, seat.join_seconds)))
    return tuple(run.drafts)


def lost(head: Head, service: str, asked_before: Instant, reason: str, now: Instant) -> tuple[Draft, ...]:
    """An instance is gone, or began a new life at `asked_before`: what it was asked earlier it knows nothing of."""
    if head.status not in services.LIVE:
        return ()
    run = _Run(head, now)
    for seat in head.detail.services:
        if seat.service == service and seat.asked_at is not None and seat.asked_at < asked_before:
            _failed(run, seat, reason, at_once=seat.status == "ready")
    return tuple(run.drafts)


def _seat(head: Head, kind: str) -> Seat | None:
    if head.status not in services.LIVE:
        return None
    return next((seat for seat in head.detail.services if seat.type == kind), None)
