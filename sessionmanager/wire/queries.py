"""Query parameters, one struct a route. A parameter that is not here is a 400 that names it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sessionmanager.fields import Label, Time
from sessionmanager.wire.common import (
    BYTES_MAX,
    END,
    PAGE,
    PAGE_MAX,
    RESUME_ENTRIES,
    RESUME_ENTRIES_MAX,
    PlainText,
    Seq,
    SessionId,
)
from sessionmanager.words import Placement, SessionType, Status

Cursor = Annotated[str, Meta(min_length=1, max_length=1024, pattern=rf"^[A-Za-z0-9._~=-]+{END}")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
MetadataName = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[^\x00-\x1f\x7f$\[\]]+{END}")]
FilterText = Annotated[str, Meta(min_length=0, max_length=255, pattern=rf"^[^\x00-\x1f\x7f]*{END}")]
Sort = Literal["created_at", "last_activity"]


class NoQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No parameters."""


class ListSessions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /sessions`: all that are given must match. `metadata.<key>=<value>` matches a scalar by its JSON text.

    `after` bounds are inclusive, `before` exclusive.
    """

    status: Status | None = None
    type: SessionType | None = None
    bridge_type: PlainText | None = None
    caller: PlainText | None = None
    callee: PlainText | None = None
    participant: PlainText | None = None
    label: Label | None = None
    placement: Placement | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    active_after: Time | None = None
    active_before: Time | None = None
    sort: Sort = "created_at"
    limit: Limit = PAGE
    cursor: Cursor | None = None
    metadata: Annotated[dict[MetadataName, FilterText], Meta(max_length=16)] = {}


class GetSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /sessions/{id}`: how many of the newest entries come with it, and at most how many bytes of them."""

    entries: Annotated[int, Meta(ge=0, le=RESUME_ENTRIES_MAX)] = RESUME_ENTRIES
    max_bytes: Annotated[int, Meta(ge=1, le=BYTES_MAX)] | None = None


class ListEntries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /sessions/{id}/entries`: `after` and `before` are seqs, both exclusive."""

    after: Seq | None = None
    before: Seq | None = None
    limit: Limit = PAGE
    type: Annotated[str, Meta(min_length=1, max_length=71, pattern=rf"^[a-z][A-Za-z0-9._*-]*{END}")] | None = None
    order: Literal["asc", "desc"] = "asc"
    cursor: Cursor | None = None


class Resumable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /sessions/{id}/resumable`: the age to judge by; not given = the service's default."""

    max_age_seconds: Annotated[float, Meta(gt=0, le=1e10)] | None = None


class Lookup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /lookup`: exactly one of them."""

    caller: PlainText | None = None
    callee: PlainText | None = None
    room: PlainText | None = None
    external_id: PlainText | None = None


class ListAudit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /audit`: newest first; `since` inclusive, `until` exclusive."""

    actor: PlainText | None = None
    session: SessionId | None = None
    action: PlainText | None = None
    outcome: PlainText | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class RevokeTokens(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DELETE /tokens`: whose tokens are void from now on; required."""

    subject: PlainText | None = None
