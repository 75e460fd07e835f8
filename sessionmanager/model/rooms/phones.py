"""Callers by SIP in a room are calls of its session: which of them are to be opened, reported on and ended. Pure.

LiveKit says what it knows of a leg in attributes of its participant. It has no hold, and tells no reason of an end.
Source: `attrs.go` of github.com/livekit/protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from sessionmanager.model.calls import legs
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.model.head import Call, Head
from sessionmanager.model.rooms.looking import Person, Seen
from sessionmanager.words import CallState, Instant

STATES: Final[Mapping[str, CallState]] = {
    "dialing": "initializing",
    "ringing": "ringing",
    "active": "active",
    "automation": "active",
    "hangup": "ended",
}
"""What `sip.callStatus` may say. Without it whoever is in the room has been answered."""
SEAT: Final = "livekit_participant"
"""In a call's metadata: the sid of the participant that it was opened for."""
TEXT_CHARS_MAX: Final = 255

_encode = msgspec.json.Encoder().encode


class Due(NamedTuple):
    """What is to be done about one call: opened (`wanted`), or reported on."""

    id: str
    wanted: NewCall | None = None
    report: Report | None = None


def due(head: Head, seen: Seen, id_of: Callable[[str], str], now: Instant) -> Iterator[Due]:
    """What a look at the room means for the session's calls. id_of: the id of a call from LiveKit's own."""
    here = {person.sid for person in seen.people}
    for person in seen.people:
        if person.kind == "sip":
            yield from _of(head, person, id_of(person.attributes.get("sip.callID") or person.sid), now)
    for call in head.detail.calls:
        # One that was opened since the look began is none of its business.
        if call.state != "ended" and call.started_at < seen.at and _seat(call) is not None and _seat(call) not in here:
            yield Due(call.id, report=Report(state="ended"))


def _of(head: Head, person: Person, cid: str, now: Instant) -> Iterator[Due]:
    state = STATES.get(person.attributes.get("sip.callStatus", ""), "active")
    call = legs.find(head, cid)
    if call is None:
        if state in ("initializing", "ringing", "active"):
            yield Due(cid, wanted=_wanted(person, cid, state))
    elif call.state != state and call.state not in ("ended", "on_hold"):
        # A leg that rings again after it was answered is an older look's.
        if not (call.state == "active" and state != "ended"):
            yield Due(cid, report=Report(state=state))
    elif legs.needs_news(call, now):
        yield Due(cid, report=Report())


def _wanted(person: Person, cid: str, state: CallState) -> NewCall:
    said = person.attributes
    inbound = "sip.ruleID" in said
    theirs, ours = _text(said.get("sip.phoneNumber")), _text(said.get("sip.trunkPhoneNumber"))
    return NewCall(
        id=cid,
        gateway="livekit",
        gateway_call_id=_text(said.get("sip.callID")),
        direction="inbound" if inbound else "outbound",
        state=state,
        caller=theirs if inbound else ours,
        callee=ours if inbound else theirs,
        metadata={SEAT: Raw(_encode(person.sid))},
    )


def _text(said: str | None) -> str | None:
    return said[:TEXT_CHARS_MAX] if said else None


def _seat(call: Call) -> str | None:
    raw = call.metadata.get(SEAT) if call.gateway == "livekit" else None
    return None if raw is None else str(msgspec.json.decode(bytes(raw)))
