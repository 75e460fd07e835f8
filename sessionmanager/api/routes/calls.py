"""Calls: opened, reported on, ended; listed across sessions and exported for billing."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw

from sessionmanager.api.context import Api, begin, commit_headers, encode, request_key, session_key, who
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import RawHeaders, Reply, json_reply
from sessionmanager.core.calls.export import csv_page, export, ndjson_page
from sessionmanager.core.calls.registry import CallAt
from sessionmanager.errors import FieldError, Malformed
from sessionmanager.fields import SETTABLE
from sessionmanager.model import instants
from sessionmanager.model.calls.addresses import searched
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.tiers.warm.protocol import CALL_COLUMNS, CallQuery, Position
from sessionmanager.wire.calls import EXPORT_PAGE_MAX, CallAnywhere, CallBody, CallEnd, CallPatch, ListCalls
from sessionmanager.wire.common import PAGE, PAGE_MAX
from sessionmanager.words import Instant, Key

CSV: Final = (b"content-type", b"text/csv; charset=utf-8; header=present")
NDJSON: Final = (b"content-type", b"application/x-ndjson")
_members = msgspec.json.Decoder(dict[str, Raw])


class CallRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._calls = api.core.calls

    # -- opening

    async def open(self, ex: Exchange) -> Reply:
        sent = await ex.read(CallAnywhere)
        members = _members.decode(msgspec.json.format(await ex.body(), indent=-1))
        asked = _members.decode(members["session"]) if "session" in members else {}
        request = await request_key(ex)
        await begin(ex, self._api)  # a key that was used for another call, in whatever session, is refused
        cid = self._calls.id_of(ex.tenant, sent.gateway, sent.gateway_call_id, request)
        wanted = self._wanted(sent, cid)
        fields = _fields(asked, sent)
        return self._opened(await self._calls.open(ex.tenant, who(ex), wanted, fields, sent.session_id, request))

    async def open_in(self, ex: Exchange) -> Reply:
        sent = await ex.read(CallBody)
        key, request = session_key(ex), await request_key(ex)
        cid = self._calls.id_of(key.tenant, sent.gateway, sent.gateway_call_id, request)
        return self._opened(await self._calls.open_in(key, who(ex), self._wanted(sent, cid), request))

    def _wanted(self, sent: CallBody, cid: str) -> NewCall:
        return NewCall(
            id=cid,
            gateway=sent.gateway,
            gateway_call_id=sent.gateway_call_id,
            direction=sent.direction,
            state=sent.state,
            caller=sent.caller,
            callee=sent.callee,
            started_at=_instant(sent.started_at),
            metadata=sent.metadata,
        )

    def _opened(self, at: CallAt) -> Reply:
        session = at.call.session_id
        body = {"session_id": session, "version": at.version, "session_made": at.session_made, "call": at.call}
        headers = commit_headers(at.version, replayed=at.replayed)
        if at.fresh:
            headers.append((b"location", f"/calls/{at.call.id}".encode()))
        return json_reply(201 if at.fresh else 200, encode(body), *headers)

    # -- reports

    async def patch(self, ex: Exchange) -> Reply:
        return await self._report(ex, session_key(ex), _reported(await ex.read(CallPatch)))

    async def end(self, ex: Exchange) -> Reply:
        return await self._report(ex, session_key(ex), _end(await ex.read(CallEnd)))

    async def patch_anywhere(self, ex: Exchange) -> Reply:
        report = _reported(await ex.read(CallPatch))
        return await self._report(ex, await self._located(ex), report)

    async def _report(self, ex: Exchange, key: Key, report: Report) -> Reply:
        at = await self._calls.report(key, ex.params["cid"], who(ex), report, await request_key(ex))
        return json_reply(200, encode(at.call), *commit_headers(at.version, replayed=at.replayed))

    async def _located(self, ex: Exchange) -> Key:
        return await self._calls.locate(ex.tenant, ex.params["cid"])

    # -- reading

    async def get(self, ex: Exchange) -> Reply:
        return json_reply(200, encode((await self._calls.get(await self._located(ex), ex.params["cid"])).call))

    async def of_session(self, ex: Exchange) -> Reply:
        calls = await self._calls.of_session(session_key(ex))
        return json_reply(200, encode({"items": calls, "next_cursor": None}))

    async def list(self, ex: Exchange) -> Reply:
        query = ex.query(ListCalls)
        exported = query.format != "json"
        if not exported and query.limit is not None and query.limit > PAGE_MAX:
            raise Malformed("limit", [FieldError("query/limit", f"at most {PAGE_MAX}; an export has up to 1,000")])
        wanted = _query(ex.tenant, query, EXPORT_PAGE_MAX if exported else PAGE)
        bounds = (wanted.started_after, wanted.started_before, wanted.settled_after, wanted.settled_before)
        # Whoever bills keeps a cursor for weeks: it is good for these members in this order.
        context = encode(("calls", ex.tenant, wanted.equal, exported, wanted.sort, *bounds))
        if query.cursor is not None:
            at, cid = self._api.cursors.decode(query.cursor, context=context)
            wanted = wanted._replace(after=Position(at, cid))
        if exported:
            return await self._export(ex, query, wanted, context)
        page = await self._api.warm.list_calls(wanted)
        cursor = self._api.cursors.encode(page.next, context=context) if page.next is not None else None
        items = b",".join([row.data for row in page.items])
        return json_reply(200, b'{"items":[%b],"next_cursor":%b}' % (items, encode(cursor)))

    async def _export(self, ex: Exchange, query: ListCalls, wanted: CallQuery, context: bytes) -> Reply:
        page = await export(self._api.warm, wanted)
        headers: RawHeaders = [(b"complete-until", page.complete_until.encode())]
        if page.end is not None:
            cursor = self._api.cursors.encode(page.end, context=context)
            headers.append((b"next-cursor", cursor.encode()))
            if page.more:
                headers.append((b"link", f'<{_next_page(ex, cursor)}>; rel="next"'.encode()))
        if query.format == "ndjson":
            return Reply(200, ndjson_page(page.rows), [NDJSON, *headers])
        first = query.cursor is None
        body = csv_page(page.rows, header=first, spreadsheet=query.format == "spreadsheet")
        kind = CSV if first else (CSV[0], CSV[1].replace(b"present", b"absent"))
        return Reply(200, body, [kind, *headers])


def _fields(asked: dict[str, Raw], sent: CallAnywhere) -> dict[str, Raw]:
    """The fields of a session that is made for a call: what was asked for, else the parties of the call."""
    fields = {name: asked[name] for name in SETTABLE if name in asked}
    for name in ("caller", "callee"):
        value = getattr(sent, name)
        if value is not None and name not in fields:
            fields[name] = Raw(encode(value))
    return fields


def _reported(sent: CallPatch) -> Report:
    return Report(
        state=None if sent.state is UNSET else sent.state,
        metadata={} if sent.metadata is UNSET else sent.metadata,
        caller=sent.caller,
        callee=sent.callee,
        at=_instant(sent.at),
        reason=sent.end_reason,
        ended_by=sent.ended_by,
        sip_code=sent.sip_code,
        q850_cause=sent.q850_cause,
    )


def _end(sent: CallEnd) -> Report:
    return Report(
        state="ended",
        metadata=sent.metadata,
        at=_instant(sent.at),
        reason=sent.reason,
        ended_by=sent.ended_by,
        sip_code=sent.sip_code,
        q850_cause=sent.q850_cause,
    )


def _query(tenant: str, query: ListCalls, page: int) -> CallQuery:
    equal: list[tuple[str, str]] = []
    for name in CALL_COLUMNS:
        value = getattr(query, name)
        if value is not None:
            equal.append((name, (searched(value) or value) if name in ("caller", "callee") else value))
    return CallQuery(
        tenant,
        query.limit or page,
        equal=tuple(equal),
        sort="settled_at" if query.sort == "ended_at" or query.format != "json" else "started_at",
        started_after=query.started_after,
        started_before=query.started_before,
        settled_after=query.ended_after,
        settled_before=query.ended_before,
    )


def _instant(text: str | None) -> Instant | None:
    return None if text is None else instants.parse(text)


def _next_page(ex: Exchange, cursor: str) -> str:
    """The same request with another cursor, as a path."""
    pairs = [part for part in ex.scope["query_string"].decode("ascii").split("&") if not part.startswith("cursor=")]
    return "/calls?" + "&".join([*pairs, f"cursor={quote(cursor, safe='')}"])
