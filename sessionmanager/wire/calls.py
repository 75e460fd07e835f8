"""Bodies, parameters and answers of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.fields import Name, SettableFields, Time
from sessionmanager.wire.common import END, NOT_A_TIME, Limits, PlainText, SessionId, is_time, pointer, raw_bytes
from sessionmanager.wire.legs import Call
from sessionmanager.wire.queries import Cursor
from sessionmanager.wire.requests import check_fields
from sessionmanager.words import CallState, Direction, EndedBy, Gateway

METADATA_BYTES_MAX: Final = 4_096
"""Of one call: 32 of them lie in the head, and each event rewrites them all."""
EXPORT_PAGE_MAX: Final = 1_000

Address = Annotated[PlainText, Meta(examples=["+12025550123"])]
CallMetadata = Annotated[Mapping[Name, Raw], Meta(max_length=64)]
Reason = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[a-z][a-z0-9_]*{END}", examples=["normal"])]
SipCode = Annotated[int, Meta(ge=100, le=699)]
Q850Cause = Annotated[int, Meta(ge=1, le=127)]
BegunState = Literal["initializing", "ringing", "active"]
CallFormat = Literal["json", "ndjson", "csv", "spreadsheet"]


def _check_metadata(metadata: Mapping[str, Raw] | UnsetType) -> Iterator[FieldError]:
    if metadata is not UNSET and (
        sum(len(name.encode()) + raw_bytes(value) + 4 for name, value in metadata.items()) > METADATA_BYTES_MAX
    ):
        yield FieldError(pointer("metadata"), f"over {METADATA_BYTES_MAX} bytes")


class CallBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/calls`: a leg at a gateway. The same `gateway` and `gateway_call_id` are the same call."""

    gateway: Gateway
    gateway_call_id: PlainText | None = None
    direction: Direction = "inbound"
    caller: Address | None = None
    callee: Address | None = None
    state: BegunState = "initializing"
    started_at: Time | None = None
    metadata: CallMetadata = {}

    def check(self, limits: Limits) -> Iterator[FieldError]:
        yield from _check_metadata(self.metadata)
        if self.started_at is not None and not is_time(self.started_at):
            yield FieldError("/started_at", NOT_A_TIME)


class CallAnywhere(CallBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /calls`: make or find the session, too. `session_id`: in this one, made where it is not there; else as the
    tenant's `resume_policy` says. `session`: fields of a session that is made; its `caller` and `callee` are the call's
    unless they are given."""

    session_id: SessionId | None = None
    session: SettableFields = SettableFields()

    def check(self, limits: Limits) -> Iterator[FieldError]:
        yield from super().check(limits)
        for error in check_fields(self.session, limits):
            yield FieldError(f"/session{error.pointer}", error.detail)


class CallPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH …/calls/{cid}`: what a gateway reports. What is known already is no change and no error.

    `metadata` is merged, null removes a key. `at`: when it happened at the gateway. `end_reason` and what follows it go
    with `state: ended` alone.
    """

    state: CallState | UnsetType = UNSET
    metadata: CallMetadata | UnsetType = UNSET
    caller: Address | UnsetType = UNSET
    callee: Address | UnsetType = UNSET
    at: Time | None = None
    end_reason: Reason | None = None
    ended_by: EndedBy | None = None
    sip_code: SipCode | None = None
    q850_cause: Q850Cause | None = None

    def check(self, limits: Limits) -> Iterator[FieldError]:
        yield from _check_metadata(self.metadata)
        if self.at is not None and not is_time(self.at):
            yield FieldError("/at", NOT_A_TIME)
        if self.state != "ended":
            for name in ("end_reason", "ended_by", "sip_code", "q850_cause"):
                if getattr(self, name) is not None:
                    yield FieldError(f"/{name}", 'only with state "ended"')


class CallEnd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST …/calls/{cid}/end`. A second end changes nothing: the first stays. Without a `reason` it follows from the
    SIP code, the Q.850 cause, or from whether anybody had answered."""

    reason: Reason | None = None
    ended_by: EndedBy | None = None
    sip_code: SipCode | None = None
    q850_cause: Q850Cause | None = None
    at: Time | None = None
    metadata: CallMetadata = {}

    def check(self, limits: Limits) -> Iterator[FieldError]:
        yield from _check_metadata(self.metadata)
        if self.at is not None and not is_time(self.at):
            yield FieldError("/at", NOT_A_TIME)


class ListCalls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /calls`: all that are given must match. `caller` and `callee` in any form; `after` bounds are inclusive,
    `before` exclusive, those of the end by `settled_at`. Exports (`ndjson`, `csv`, `spreadsheet`) have ended calls
    alone, oldest end first, up to 1,000 a page."""

    state: CallState | None = None
    gateway: Gateway | None = None
    direction: Direction | None = None
    caller: PlainText | None = None
    callee: PlainText | None = None
    session: SessionId | None = None
    started_after: Time | None = None
    started_before: Time | None = None
    ended_after: Time | None = None
    ended_before: Time | None = None
    sort: Literal["started_at", "ended_at"] = "started_at"
    format: CallFormat = "json"
    limit: Annotated[int, Meta(ge=1, le=EXPORT_PAGE_MAX)] | None = None
    cursor: Cursor | None = None


class CallAbout(Call, frozen=True, kw_only=True):
    """A call, with the session that it belongs to."""

    session_id: str


class CallOpened(Struct, frozen=True, kw_only=True):
    """The call and its session, which were made or found. `version`: of the session."""

    session_id: str
    version: int
    session_made: bool
    call: CallAbout


class CallPage(Struct, frozen=True, kw_only=True):
    """A page of calls."""

    items: tuple[CallAbout, ...]
    next_cursor: str | None = None
