"""Sessions: create, list, look up, read, patch, erase."""

from __future__ import annotations

from time import perf_counter

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from sessionmanager.api.conditional import etag, matches
from sessionmanager.api.context import (
    Api,
    commit_headers,
    drafts_of,
    encode,
    expected,
    marks,
    request_key,
    session_key,
    tier_headers,
    view_headers,
    who,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.joined import JoinedSessions
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.rooms import NO_ROOMS
from sessionmanager.api.routes.waiting import until_ready
from sessionmanager.core.command import Written
from sessionmanager.core.reads import render_session, render_summary, within
from sessionmanager.errors import FieldError, Invalid, Malformed, NotFound
from sessionmanager.fields import SETTABLE
from sessionmanager.model.listing import LOOKUP_FIELDS, metadata_term, term
from sessionmanager.tiers.warm.protocol import ListQuery, Position
from sessionmanager.wire.common import pointer
from sessionmanager.wire.queries import GetSession, ListSessions, Lookup
from sessionmanager.wire.requests import NewSession
from sessionmanager.wire.services import CreateSession
from sessionmanager.words import Key

_members = msgspec.json.Decoder(dict[str, Raw])
_version = msgspec.json.Decoder(int)
_FILTERS = ("status", "type", "bridge_type", "caller", "callee", "participant", "label", "placement")
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATCH_MEDIA = (MERGE_PATCH, "application/json", JSON_PATCH)


class SessionRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sessions = api.core.sessions
        self._joined = JoinedSessions()

    async def create(self, ex: Exchange) -> Reply:
        seconds = ex.query(CreateSession).wait_seconds
        sent = await ex.read(NewSession)
        if sent.room and not self._api.core.rooms.exist:
            raise Invalid([FieldError("/room", NO_ROOMS)])
        body = await ex.body()
        members = _members.decode(msgspec.json.format(body, indent=-1)) if body else {}
        fields = {name: members[name] for name in SETTABLE if name in members}
        key, written = await self._sessions.create(
            ex.tenant,
            None if sent.id is UNSET else sent.id,
            fields,
            drafts_of(sent.entries),
            who(ex),
            await request_key(ex),
            sent.required_services,
            room=sent.room,
        )
        if seconds and sent.required_services:
            await until_ready(self._api, ex, key, seconds)
            written = replace(written, stored=None)
        return await self._session_reply(key, written, 201)

    async def _session_reply(self, key: Key, written: Written, status: int) -> Reply:
        """The session as it is now, under the ETag of the commit."""
        stored = written.stored
        if stored is None or "detail" not in stored.parts:
            stored = (await self._sessions.view_after(key, written)).stored
        headers = commit_headers(written.version, replayed=written.replayed)
        if status == 201:
            headers.append((b"location", f"/sessions/{key.id}".encode()))
        return json_reply(status, render_session(stored) + b"}", *headers)

    async def get(self, ex: Exchange) -> Reply:
        began = perf_counter()
        query = ex.query(GetSession)
        none_match = ex.if_none_match()
        min_version = ex.min_version()
        view = await self._sessions.view(
            session_key(ex),
            lines=query.entries,
            min_version=min_version or 0,
            latest=none_match is not None or min_version is not None,
        )
        headers = view_headers(view, began)
        if none_match is not None and matches(none_match, view.stored.version):
            return Reply(304, b"", headers[1:])
        if query.max_bytes is not None:
            view = replace(view, lines=within(view.lines, query.max_bytes))
        return Reply(200, self._joined.body(view), headers)

    async def patch(self, ex: Exchange) -> Reply:
        patch = await ex.read_raw()
        is_merge = ex.media_type() != JSON_PATCH
        version = None
        if is_merge:
            patch, version = _merge_patch(patch)
        key = session_key(ex)
        written = await self._sessions.patch(
            key,
            patch,
            who(ex),
            is_merge=is_merge,
            expected=expected(ex.if_match(), version),
            request=await request_key(ex),
        )
        return await self._session_reply(key, written, 200)

    async def erase(self, ex: Exchange) -> Reply:
        key = session_key(ex)
        erasure, replayed = await self._sessions.erase(key, who(ex), await request_key(ex))
        self._joined.forget(key)
        body = encode({"id": key.id, "erasure_id": erasure.erasure_id})
        location = (b"location", f"/erasures/{erasure.erasure_id}".encode())
        return json_reply(202, body, location, *marks(replayed=replayed))

    async def erasure(self, ex: Exchange) -> Reply:
        return json_reply(200, encode(await self._sessions.erasure(ex.tenant, ex.params["erasure_id"])))

    async def list(self, ex: Exchange) -> Reply:
        query = ex.query(ListSessions)
        terms = [term(name, value) for name in _FILTERS if (value := getattr(query, name)) is not None]
        terms += [metadata_term(name, value) for name, value in query.metadata.items()]
        context = encode(
            (
                "sessions",
                ex.tenant,
                terms,
                query.sort,
                query.created_after,
                query.created_before,
                query.active_after,
                query.active_before,
            )
        )
        after = None
        if query.cursor is not None:
            at, session_id = self._api.cursors.decode(query.cursor, context=context)
            after = Position(at, session_id)
        page = await self._sessions.list(
            ListQuery(
                ex.tenant,
                query.limit,
                terms=tuple(terms),
                sort=query.sort,
                after=after,
                created_after=query.created_after,
                created_before=query.created_before,
                active_after=query.active_after,
                active_before=query.active_before,
            )
        )
        cursor = self._api.cursors.encode(page.next, context=context) if page.next is not None else None
        items = b",".join([render_summary(stored) for stored in page.items])
        return json_reply(200, b'{"items":[%b],"next_cursor":%b}' % (items, encode(cursor)))

    async def lookup(self, ex: Exchange) -> Reply:
        began = perf_counter()
        query = ex.query(Lookup)
        given = [(name, value) for name in LOOKUP_FIELDS if (value := getattr(query, name)) is not None]
        if len(given) != 1:
            errors = [FieldError(f"query/{name}", "give exactly one of these") for name in LOOKUP_FIELDS]
            raise Malformed(f"give exactly one of {', '.join(LOOKUP_FIELDS)}", errors)
        try:
            stored = await self._sessions.lookup(ex.tenant, *given[0])
        except NotFound:
            stored = await self._api.core.calls.last_session(ex.tenant, *given[0])
        headers = tier_headers("warm", began)
        return json_reply(200, render_summary(stored), (b"etag", etag(stored.version)), *headers)


def _merge_patch(patch: Raw) -> tuple[Raw, int | None]:
    """The patch without `version`, which is a precondition. Raises Invalid for members that cannot be set."""
    if bytes(patch)[:1] != b"{":
        raise Invalid([FieldError("", "a merge patch of a session is an object")])
    members = _members.decode(patch)
    version = members.pop("version", None)
    errors = [FieldError(pointer(name), "unknown or not settable") for name in members if name not in SETTABLE]
    number = None
    if version is not None:
        try:
            number = _version.decode(version)
        except msgspec.ValidationError:
            errors.append(FieldError("/version", "an integer"))
    if errors:
        raise Invalid(errors[:100])
    return (Raw(encode(members)) if version is not None else patch), number
