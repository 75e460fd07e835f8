"""What callers hand in, as dictionaries whose members are known: the wire's own types, for people who write Python."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from sessionmanager.words import Instant, MessageRole, SessionType


class Entry(TypedDict, total=False):
    """An entry to append; its `type` says which members it needs (`docs/reference/entries.md`)."""

    type: str
    id: str
    at: Instant
    role: MessageRole
    content: Any
    heard: Any
    generated: Any
    call_id: str
    name: str
    arguments: Any
    output: Any
    status: Literal["in_progress", "completed", "failed", "interrupted", "cancelled"]
    from_seq: int
    to_seq: int
    floor: int
    data: Any


class Fields(TypedDict, total=False):
    """Settable fields of a session."""

    type: SessionType | None
    bot_name: str | None
    caller: str | None
    callee: str | None
    external_ids: Mapping[str, str]
    media_format: str | None
    bridge_type: str | None
    labels: Sequence[str]
    expires_at: Instant | None
    metadata: Mapping[str, Any]
    context: Any
    realtime: Mapping[str, Any]
    audio: Mapping[str, Any]
    floor: Literal["optional", "required"]


class NewSession(Fields, total=False):
    """A session to create; without an `id` the service makes one."""

    id: str
    entries: Sequence[Entry]
    required_services: Sequence[str]
    room: bool


class SessionFilters(TypedDict, total=False):
    """Which sessions a list has: all that are given must match. `after` is inclusive, `before` exclusive."""

    status: str
    type: SessionType
    bridge_type: str
    caller: str
    callee: str
    participant: str
    label: str
    placement: Literal["warm", "cold"]
    created_after: Instant
    created_before: Instant
    active_after: Instant
    active_before: Instant
    sort: Literal["created_at", "last_activity"]


class AuditFilters(TypedDict, total=False):
    """Which lines of the audit trail; `since` is inclusive, `until` exclusive."""

    actor: str
    session: str
    action: str
    outcome: str
    since: Instant
    until: Instant


class ResumeOptions(TypedDict, total=False):
    """How old a session may be that is resumed, and how much of it to hand out."""

    max_age_seconds: float | None
    replay: Literal["none", "tail", "since", "full"]
    since_version: int
    entries: int
    max_bytes: int
    participant: Mapping[str, Any] | None


def message(role: MessageRole, content: Any, *, id: str | None = None, floor: int | None = None) -> Entry:
    """Something said. floor: the number of the floor it is said with."""
    entry = Entry(type="message", role=role, content=content)
    if id is not None:
        entry["id"] = id
    if floor is not None:
        entry["floor"] = floor
    return entry


def function_call(call_id: str, name: str, arguments: Any = None, *, floor: int | None = None) -> Entry:
    """A model asks for a function."""
    entry = Entry(type="function_call", call_id=call_id, name=name)
    if arguments is not None:
        entry["arguments"] = arguments
    if floor is not None:
        entry["floor"] = floor
    return entry


def function_call_output(call_id: str, output: Any) -> Entry:
    """What the function answered."""
    return Entry(type="function_call_output", call_id=call_id, output=output)


def with_ids(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same with an id for each: made before the first send, so that no repeat, however late, adds one twice.

    Raises TypeError: one entry in the place of a list, or what is no entry.
    """
    given = cast("Sequence[object]", () if isinstance(entries, Mapping) else entries)
    if isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in given):
        raise TypeError('entries are a list of dictionaries: [message("user", "…")]')
    return [{**entry, "id": entry.get("id") or f"c-{uuid.uuid4().hex}"} for entry in entries]
