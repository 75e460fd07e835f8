"""Calls at gateways: opened, reported on, ended, listed, exported for billing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

from msgspec import UNSET, UnsetType

from sessionmanager.client.bodies import Fields
from sessionmanager.client.caller import given, path, serves, session_path
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.wire.calls import BegunState, CallAbout, CallOpened, CallPage
from sessionmanager.words import CallState, Direction, EndedBy, Gateway, Instant


class NewCall(TypedDict, total=False):
    """What a gateway knows of a call that begins; without `gateway_call_id` a repeat is known by its key alone."""

    gateway_call_id: str | None
    direction: Direction
    caller: str | None
    callee: str | None
    state: BegunState
    started_at: Instant
    metadata: Mapping[str, Any]


class CallReport(TypedDict, total=False):
    """What a gateway says of a call; the last four go with `state="ended"` alone."""

    state: CallState
    metadata: Mapping[str, Any]
    caller: str
    callee: str
    at: Instant
    end_reason: str
    ended_by: EndedBy
    sip_code: int
    q850_cause: int


class CallFilters(TypedDict, total=False):
    """Which calls a list has: all that are given must match. `after` is inclusive, `before` exclusive."""

    state: CallState
    gateway: Gateway
    direction: Direction
    caller: str
    callee: str
    session: str
    started_after: Instant
    started_before: Instant
    ended_after: Instant
    ended_before: Instant


class CallRecords(NamedTuple):
    """A page of an export. cursor: from where to go on, now or tomorrow. more: there is another page by now.
    complete_until: every call whose end was recorded before is on this page or an earlier one."""

    data: bytes
    cursor: str | None
    more: bool
    complete_until: Instant


class TelephonyCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given. `id`: of a session, `cid`: of a call.
    Where the session is known, methods that take both save the service a look."""

    @serves("POST /calls")
    async def open_call(
        self,
        gateway: Gateway,
        *,
        session_id: str | None = None,
        session: Fields | None = None,
        key: str | None = None,
        **call: Unpack[NewCall],
    ) -> CallOpened:
        """Make or find a call and its session, in one commit. session_id: in this session, made where it is not there;
        else the tenant's policy chooses. session: fields of a session that is made.

        Raises Full, QuotaExceeded. IllegalTransition, Erased, NotResumable: the session that was named is over.
        """
        body = {"gateway": gateway, **call, "session": session or {}}
        if session_id is not None:
            body["session_id"] = session_id
        return self._knows(await self._caller.ask("POST", "/calls", CallOpened, body=body, key=key))

    @serves("POST /sessions/{id}/calls")
    async def add_call(
        self, id: str, gateway: Gateway, *, key: str | None = None, **call: Unpack[NewCall]
    ) -> CallOpened:
        """Open a call in a session, or find it there. Raises AlreadyExists: it is another session's. Full,
        IllegalTransition: the session is over."""
        body = {"gateway": gateway, **call}
        return await self._caller.ask("POST", session_path(id, "calls"), CallOpened, session=id, body=body, key=key)

    @serves("PATCH /calls/{cid}")
    async def report_call(self, cid: str, *, key: str | None = None, **report: Unpack[CallReport]) -> CallAbout:
        """Say what has become of a call; to repeat what is known is fine. Raises IllegalTransition."""
        return await self._caller.ask("PATCH", path("calls", cid), CallAbout, body=report, key=key)

    @serves("PATCH /sessions/{id}/calls/{cid}")
    async def change_call(
        self, id: str, cid: str, *, key: str | None = None, **report: Unpack[CallReport]
    ) -> CallAbout:
        """The same, of a call whose session is known."""
        return await self._caller.ask(
            "PATCH", session_path(id, "calls", cid), CallAbout, session=id, body=report, key=key
        )

    @serves("POST /sessions/{id}/calls/{cid}/end")
    async def end_call(
        self,
        id: str,
        cid: str,
        *,
        reason: str | UnsetType = UNSET,
        ended_by: EndedBy | UnsetType = UNSET,
        sip_code: int | UnsetType = UNSET,
        q850_cause: int | UnsetType = UNSET,
        at: Instant | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        key: str | None = None,
    ) -> CallAbout:
        """End a call. A second end changes nothing: the first is answered."""
        body = given(
            reason=reason, ended_by=ended_by, sip_code=sip_code, q850_cause=q850_cause, at=at, metadata=metadata
        )
        return await self._caller.ask(
            "POST", session_path(id, "calls", cid, "end"), CallAbout, session=id, body=body, key=key
        )

    @serves("GET /calls/{cid}")
    async def get_call(self, cid: str) -> CallAbout:
        """A call as it is now."""
        return await self._caller.ask("GET", path("calls", cid), CallAbout)

    @serves("GET /sessions/{id}/calls")
    async def calls(self, id: str) -> tuple[CallAbout, ...]:
        """The live calls of a session and the last that ended."""
        return (await self._caller.ask("GET", session_path(id, "calls"), CallPage)).items

    @serves("GET /calls")
    async def list_calls(
        self,
        *,
        sort: Literal["started_at", "ended_at"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **filters: Unpack[CallFilters],
    ) -> CallPage:
        """A page of calls of all sessions: newest start first, or of ended ones oldest end first."""
        query = {**filters, "sort": sort, "limit": limit, "cursor": cursor}
        return await self._caller.ask("GET", "/calls", CallPage, query=query)

    def all_calls(self, *, limit: int = 200, **filters: Unpack[CallFilters]) -> AsyncGenerator[CallAbout]:
        """Every call that matches, newest first, page after page. limit: of a page."""
        return walk(lambda cursor: self.list_calls(limit=limit, cursor=cursor, **filters))

    async def export_calls(
        self,
        format: Literal["csv", "ndjson", "spreadsheet"] = "csv",
        *,
        limit: int | None = None,
        cursor: str | None = None,
        **filters: Unpack[CallFilters],
    ) -> CallRecords:
        """A page of records for billing, oldest end first, its bytes as they came; pages one after the other are one
        file."""
        query = {**filters, "format": format, "limit": limit, "cursor": cursor}
        came = await self._caller.call("GET", "/calls", query=query)
        headers = came.headers
        after = headers.get("next-cursor", cursor)
        return CallRecords(came.body, after, "link" in headers, headers.get("complete-until", ""))

    def _knows(self, opened: CallOpened) -> CallOpened:
        self._caller.versions.wrote(opened.session_id, opened.version)
        return opened
