"""Entries that a client may append: one flat type, and one table of what each entry type needs.

Flat, because `custom.*` is an open family that a tagged union cannot hold; `draft_schema` makes one schema a type from
the same table, so that documents, lists of errors and checks cannot part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import compress, repeat
from operator import attrgetter, is_not
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.fields import Time
from sessionmanager.wire.common import END, NOT_A_TIME, ClientId, Limits, PlainText, Seq, is_time, pointer
from sessionmanager.words import CUSTOM_PREFIX, MessageRole

CUSTOM_PATTERN: Final = rf"^custom\.[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{END}"
_is_custom = re.compile(CUSTOM_PATTERN).search

CallId = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^[^\x00-\x1f\x7f]+{END}", examples=["call_9"])]
CallStatus = Literal["in_progress", "completed", "failed", "interrupted", "cancelled"]


class EntryDraft(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One entry to append; its `type` says which members it needs (see `ENTRY_MEMBERS`).

    Free members hold any JSON value and come back identical, the text of numbers included.
    """

    type: Annotated[str, Meta(min_length=1, max_length=71)]
    id: ClientId | UnsetType = UNSET
    at: Time | UnsetType = UNSET
    role: MessageRole | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    heard: Raw | UnsetType = UNSET
    generated: Raw | UnsetType = UNSET
    call_id: CallId | UnsetType = UNSET
    name: PlainText | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    status: CallStatus | UnsetType = UNSET
    from_seq: Seq | UnsetType = UNSET
    to_seq: Seq | UnsetType = UNSET
    floor: Seq | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class Members(NamedTuple):
    """The members of one entry type, beside `type`, `id` and `at`."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


ENTRY_MEMBERS: Final[Mapping[str, Members]] = {
    "message": Members(("role", "content"), ("heard", "generated", "floor", "data")),
    "function_call": Members(("call_id", "name"), ("arguments", "status", "floor", "data")),
    "function_call_output": Members(("call_id", "output"), ("status", "data")),
    "summary": Members(("from_seq", "to_seq", "content"), ("data",)),
    "error": Members(("content",), ("data",)),
    "custom.*": Members((), ("role", "content", "name", "call_id", "status", "floor", "data")),
}
"""Entry type → its members. `custom.*` stands for the whole family."""

_COMMON: Final = ("type", "id", "at")
_FREE: Final = tuple(f for f in EntryDraft.__struct_fields__ if f not in _COMMON)
_free: Final = attrgetter(*_FREE)
_MEMBERS: Final = {
    name: (frozenset(required), frozenset(required + optional)) for name, (required, optional) in ENTRY_MEMBERS.items()
}
"""Entry type → the members that it needs, and all that it may have."""
_size = msgspec.json.Encoder().encode


def family(entry_type: str) -> str | None:
    """The key of `ENTRY_MEMBERS` for an entry type, or None where clients may not append it."""
    if entry_type.startswith(CUSTOM_PREFIX):
        return "custom.*" if _is_custom(entry_type) else None
    return entry_type if entry_type in ENTRY_MEMBERS else None


def check_entries(entries: tuple[EntryDraft, ...], limits: Limits) -> Iterator[FieldError]:
    """Every broken rule of a batch. Cost: a few hundred nanoseconds an entry."""
    if len(entries) > limits.append_entries_max:
        yield FieldError(pointer("entries"), f"at most {limits.append_entries_max} entries")
    for i, entry in enumerate(entries):
        name = family(entry.type)
        if name is None:
            known = ", ".join(ENTRY_MEMBERS)
            yield FieldError(pointer("entries", i, "type"), f"not an entry type that clients append; allowed: {known}")
            continue
        given = frozenset(compress(_FREE, map(is_not, _free(entry), repeat(UNSET))))
        required, allowed = _MEMBERS[name]
        if not required <= given <= allowed:
            for member in ENTRY_MEMBERS[name].required:
                if member not in given:
                    yield FieldError(pointer("entries", i, member), "required")
            for member in _FREE:
                if member in given and member not in allowed:
                    yield FieldError(pointer("entries", i, member), f"not a member of {name}")
        if entry.at is not UNSET and not is_time(entry.at):
            yield FieldError(pointer("entries", i, "at"), NOT_A_TIME)
        if name == "summary" and _backwards(entry):
            yield FieldError(pointer("entries", i, "to_seq"), "not before from_seq")
        if len(_size(entry)) > limits.entry_bytes_max:
            yield FieldError(pointer("entries", i), f"over {limits.entry_bytes_max} bytes")


def _backwards(entry: EntryDraft) -> bool:
    first, last = entry.from_seq, entry.to_seq
    return first is not UNSET and last is not UNSET and last < first


def draft_schema(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an entry draft: one closed object a type, made from the flat type's schema and `ENTRY_MEMBERS`."""
    properties: Mapping[str, Any] = flat["properties"]
    branches: list[dict[str, Any]] = []
    for name, members in ENTRY_MEMBERS.items():
        tag: dict[str, Any] = {"const": name}
        if name == "custom.*":
            tag = {"type": "string", "pattern": CUSTOM_PATTERN, "examples": ["custom.dtmf"]}
        kept = {f: properties[f] for f in (*_COMMON[1:], *members.required, *members.optional)}
        branches.append(
            {
                "title": name,
                "type": "object",
                "properties": {"type": tag, **kept},
                "required": ["type", *members.required],
                "additionalProperties": False,
            }
        )
    return {"title": flat.get("title", "EntryDraft"), "description": flat.get("description", ""), "anyOf": branches}
