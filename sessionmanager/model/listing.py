"""By which exact terms lists and look-ups find a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from msgspec import Raw

from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.change import Listing
from sessionmanager.model.head import Head
from sessionmanager.words import TERMINAL_STATUSES, Placement

TERM_BYTES_MAX: Final = 256
LOOKUP_FIELDS: Final = ("caller", "callee", "room", "external_id")


def term(name: str, value: str) -> str:
    """One exact filter, `name:value`. Values are data: nothing in them is ever read as an operator."""
    return f"{name}:{value}"


def live_term(name: str, value: str) -> str:
    """The same, of sessions that have neither ended nor failed: makes a look-up one exact step."""
    return f"live.{name}:{value}"


def metadata_term(key: str, value: str) -> str:
    """A scalar of `metadata`, by its JSON text without quotes (`metadata.queue:billing`, `metadata.vip:true`)."""
    return f"metadata.{key}:{value}"


def listing_of(head: Head, placement: Placement) -> Listing:
    """The listing of a head. Cost: one pass over labels, metadata and participants."""
    return Listing(
        head.status,
        placement,
        head.profile.created_at,
        head.pulse.last_activity,
        tuple(sorted(set(_terms(head, placement)))),
    )


def _terms(head: Head, placement: Placement) -> Iterator[str]:
    profile = head.profile
    yield term("status", head.status)
    yield term("placement", placement)
    for name in ("type", "bridge_type"):
        value = getattr(profile, name)
        if value is not None:
            yield term(name, value)
    for label in profile.labels:
        yield term("label", label)
    for key, raw in profile.metadata.items():
        text = scalar_text(raw)
        if text is not None and len(text) <= TERM_BYTES_MAX:
            yield metadata_term(key, text)
    for participant in head.detail.participants:
        yield term("participant", participant.identity)
    live = head.status not in TERMINAL_STATUSES
    for name, value in _lookups(head):
        yield term(name, value)
        if live:
            yield live_term(name, value)


def _lookups(head: Head) -> Iterator[tuple[str, str]]:
    """What a look-up finds a session by: parties as they were given and as they are searched for, its own and those of
    the calls that the head remembers."""
    profile = head.profile
    yield from _parties("caller", profile.caller)
    yield from _parties("callee", profile.callee)
    for call in head.detail.calls:
        yield from _parties("caller", call.caller)
        yield from _parties("callee", call.callee)
        if call.gateway_call_id is not None:
            yield "external_id", call.gateway_call_id
    for value in profile.external_ids.values():
        yield "external_id", value
    if head.detail.room is not None:
        yield "room", head.detail.room.name


def _parties(name: str, given: str | None) -> Iterator[tuple[str, str]]:
    if given is None:
        return
    yield name, given
    found = searched(given)
    if found is not None and found != given:
        yield name, found


def scalar_text(raw: Raw) -> str | None:
    """The text under which a filter finds a metadata value; None for objects and arrays, which filters do not match."""
    data = bytes(raw)
    if data[:1] == b'"':
        return str(json.loads(data))
    return None if data[:1] in (b"{", b"[") else data.decode()
