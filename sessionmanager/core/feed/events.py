"""Entries → events of a tenant's feed: what each line of a log is called there."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import Instant

SERVICES_OWN: Final = frozenset({"participant", "call", "room", "service"})
"""Entries that only the service writes; their `data.event` says what happened."""

_encode = msgspec.json.Encoder().encode
_THEIR_NAMES: Final = {"service": "microservice.joined", "client": "client.joined"}
"""Participants of these kinds join under names that robot-session's clients know; others as `participant.joined`."""


class Event(NamedTuple):
    """A line of a session's log, as an event of its tenant.

    type: see `name_of`. at: when it was committed. cursor: a feed that is begun again from here misses nothing after
    this event. data: the entry's JSON as it is stored.
    """

    session: str
    seq: int
    type: str
    at: Instant
    data: bytes
    cursor: Instant


def is_one_of(type_: str, wanted: Container[str]) -> bool:
    """Whether somebody who asked for these types gets this one: by its name, or by its family (`participant.*`)."""
    return type_ in wanted or f"{type_.partition('.')[0]}.*" in wanted


def cloud_event(id_: str, tenant: str, type_: str, subject: str, at: Instant, data: bytes) -> bytes:
    """A CloudEvent 1.0 in structured JSON. data: a JSON text, which is not parsed."""
    return (
        b'{"specversion":"1.0","id":%b,"source":%b,"type":%b,"subject":%b,"time":"%b",'
        b'"datacontenttype":"application/json","data":%b}'
    ) % (_encode(id_), _encode(f"/tenants/{tenant}"), _encode(type_), _encode(subject), at.encode(), data)


def cloud_event_of(tenant: str, event: Event) -> bytes:
    """An event as its tenant gets it, by the feed and by webhooks alike: the bytes of the entry as they lie."""
    return cloud_event(f"{event.session}:{event.seq}", tenant, event.type, event.session, event.at, event.data)


class Gap(NamedTuple):
    """More happened since than one feed can tell: read the lists instead. The feed goes on from `cursor`."""

    cursor: Instant


TenantItem = Event | Gap
"""What comes out of a tenant's feed."""


class _Peek(Struct, frozen=True):
    type: str
    recorded_at: Instant
    status: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class _Person(Struct, frozen=True):
    kind: str = ""


class _Data(Struct, frozen=True):
    created: Raw | UnsetType = UNSET
    event: str | UnsetType = UNSET
    participant: _Person | None = None


_peek = msgspec.json.Decoder(_Peek)
_data = msgspec.json.Decoder(_Data)


def recorded_at(data: bytes) -> Instant:
    return _peek.decode(data).recorded_at


def event_of(session: str, stored: StoredEntry, cursor: Instant) -> Event:
    """The event of a line. Cost: two looks into it at most; it is not parsed whole."""
    peek = _peek.decode(stored.data)
    return Event(session, stored.seq, _name_of(peek), peek.recorded_at, stored.data, cursor)


def _name_of(peek: _Peek) -> str:
    """`session.…` for what the session itself went through, `<noun>.<event>` for what takes part in it, `error`, and
    `entry.<type>` for what was said."""
    if peek.type == "error":
        return "error"
    if peek.type == "status":
        return "session.ready" if peek.status == "ready" else "session.status_changed"
    if peek.type != "state" and peek.type not in SERVICES_OWN:
        return f"entry.{peek.type}"
    data = _data.decode(peek.data) if peek.data is not UNSET else _Data()
    if peek.type == "state":
        return "session.updated" if data.created is UNSET else "session.created"
    event = data.event if data.event is not UNSET else peek.status if peek.status is not UNSET else "changed"
    if event == "joined" and data.participant is not None and data.participant.kind in _THEIR_NAMES:
        return _THEIR_NAMES[data.participant.kind]
    return "floor.changed" if event == "floor" else f"{peek.type}.{event}"
