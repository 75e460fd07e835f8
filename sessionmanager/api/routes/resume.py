"""Bring a session back, and move it from status to status."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from msgspec import UNSET, Struct
from msgspec.structs import replace

from sessionmanager.api.conditional import etag
from sessionmanager.api.context import (
    Api,
    check_min_version,
    encode,
    marks,
    receipt_reply,
    request_key,
    session_key,
    tier_headers,
    view_headers,
    who,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.admission import Admission
from sessionmanager.api.routes.context import render_context
from sessionmanager.api.routes.log import FAR, entries_cursor
from sessionmanager.core.context import Contexts, lines_for
from sessionmanager.core.history import Range
from sessionmanager.core.participants import participant_of
from sessionmanager.core.reads import View, join_entries, render_session, within
from sessionmanager.core.sessions import Resumed, open_calls
from sessionmanager.errors import SessionManagerError
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import Head
from sessionmanager.model.participants import find
from sessionmanager.model.states import Transition
from sessionmanager.model.window.window import BYTES_PER_TOKEN, Asked
from sessionmanager.wire.context import CONTEXT_TOKENS_MAX
from sessionmanager.wire.queries import Resumable
from sessionmanager.wire.requests import EndBody, FailBody, NoFields, ResumeBody
from sessionmanager.words import Key


class Handed(Struct, frozen=True):
    """Lines that a resume hands out. omitted: how many were left out; on: from where, and in which order, to go on."""

    lines: Sequence[StoredEntry]
    omitted: int
    after: int
    before: int
    descending: bool


class ResumeRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sessions = api.core.sessions
        self._contexts = Contexts(api.core.reads)
        self._admission = Admission(api)

    async def resumable(self, ex: Exchange) -> Reply:
        began = perf_counter()
        query = ex.query(Resumable)
        max_age = query.max_age_seconds
        if max_age is None:
            max_age = self._api.core.tenants.max_age_seconds(ex.tenant)
        found = await self._sessions.resumable(session_key(ex), max_age)
        check_min_version(ex, found.stored.version)
        body = {"resumable": found.reason is None, "reason": found.reason, "age_seconds": found.age_seconds}
        return json_reply(200, encode(body), (b"etag", etag(found.stored.version)), *tier_headers("warm", began))

    async def resume(self, ex: Exchange) -> Reply:
        began = perf_counter()
        sent = await ex.read(ResumeBody)
        key = session_key(ex)
        max_age = sent.max_age_seconds
        if max_age is UNSET:
            max_age = self._api.core.tenants.max_age_seconds(ex.tenant)
        wanted = sent.entries if sent.replay in ("tail", "since") else 0
        asked = _asked(sent)
        try:
            resumed = await self._sessions.resume(
                key,
                who(ex),
                max_age_seconds=max_age,
                lines=max(wanted, lines_for(asked) if asked else 0),
                joining=None if sent.participant is None else self._admission.wanted(ex, sent.participant),
                request=await request_key(ex),
            )
        except SessionManagerError as error:
            self._api.metrics.resume("warm", error.type)
            raise
        view = resumed.view
        stored = resumed.written.stored
        if stored is not None and stored.rev == view.stored.rev:
            view = replace(view, stored=stored)  # the same head, decoded already
        self._api.metrics.resume(resumed.written.tier, "ok")
        newest = replace(view, lines=view.lines[-wanted:] if wanted else ())
        joined = await self._joined(key, resumed, sent)
        body = self._render(key, newest, await self._hand_out(key, newest, sent), joined)
        if asked is not None:
            context = await self._contexts.of_view(key, view, asked)
            body = b'%b,"context":%b}' % (body[:-1], render_context(context, key, asked, self._api.cursors))
        headers = view_headers(replace(view, tier=resumed.written.tier), began, version=resumed.written.version)
        return Reply(200, body, [*headers, *marks(replayed=resumed.written.replayed)])

    async def _hand_out(self, key: Key, view: View, sent: ResumeBody) -> Handed:
        max_bytes = None if sent.max_bytes is UNSET else sent.max_bytes
        count = view.stored.head.pulse.entry_count
        if sent.replay == "full":
            _, found = await self._sessions.entries(key, Range(0, count + 1, sent.entries))
            lines = _oldest_within(found.lines, max_bytes)
            last = lines[-1].seq if lines else 0
            return Handed(lines, count - last, last, FAR, False)
        first = 1
        if sent.since_version is not UNSET:
            first = await self._api.core.reads.first_seq_after(key, view, sent.since_version)
        newer = view.lines if first == 1 else [line for line in view.lines if line.seq >= first]
        lines = within(newer, max_bytes)
        before = lines[0].seq if lines else count + 1
        return Handed(lines, before - first, first - 1, before, True)

    async def _joined(self, key: Key, resumed: Resumed, sent: ResumeBody) -> dict[str, object]:
        """Who has joined with this resume, and its credentials, new in each answer."""
        if sent.participant is None:
            return {"participant": None, "token": None, "livekit": None}
        head = resumed.view.stored.head
        person = find(head, participant_of(resumed.written.answer))
        made = await self._admission.credentials(key, person, sent.participant.token_seconds, head)
        return {"participant": person, **made}

    def _render(self, key: Key, view: View, handed: Handed, joined: dict[str, object]) -> bytes:
        head = view.stored.head
        lines = handed.lines
        entries = join_entries(lines)
        running, interrupted = open_calls(head)
        cursor = None
        if handed.omitted > 0:
            cursor = entries_cursor(self._api.cursors, key, handed.after, handed.before, frozenset(), handed.descending)
        rest = {
            "function_calls": {"open": running, "interrupted": interrupted},
            "partial_turn": partial_turn(head),
            "realtime": head.detail.realtime,
            "audio": head.detail.audio,
            **joined,
            "included": {
                "from_seq": lines[0].seq if lines else None,
                "to_seq": lines[-1].seq if lines else None,
                "bytes": len(entries) - max(0, len(lines) - 1),
            },
            "omitted": {"count": handed.omitted, "cursor": cursor},
        }
        return b"".join(
            (
                b'{"session":',
                render_session(view.stored),
                b'},"entries":[',
                entries,
                b"],",
                encode(rest)[1:],
            )
        )

    async def suspend(self, ex: Exchange) -> Reply:
        await ex.read(NoFields)
        return await self._transition(ex, "suspend")

    async def activate(self, ex: Exchange) -> Reply:
        await ex.read(NoFields)
        return await self._transition(ex, "activate")

    async def end(self, ex: Exchange) -> Reply:
        sent = await ex.read(EndBody)
        return await self._transition(ex, "end", reason=sent.reason)

    async def fail(self, ex: Exchange) -> Reply:
        sent = await ex.read(FailBody)
        return await self._transition(ex, "fail", error=sent.error)

    async def _transition(
        self, ex: Exchange, name: Transition, *, reason: str | None = None, error: str | None = None
    ) -> Reply:
        versions = ex.if_match()
        written = await self._sessions.transition(
            session_key(ex),
            name,
            who(ex),
            reason=reason,
            error=error,
            expected="*" if versions is None else versions,
            request=await request_key(ex),
        )
        return receipt_reply(written)

    async def archive(self, ex: Exchange) -> Reply:
        await ex.read(NoFields)
        return receipt_reply(await self._sessions.archive(session_key(ex), who(ex), await request_key(ex)), 202)


def _asked(sent: ResumeBody) -> Asked | None:
    """The window that a resume hands out beside its entries, within the same bounds; None where no model is named."""
    if sent.for_ is None:
        return None
    tokens = CONTEXT_TOKENS_MAX if sent.max_bytes is UNSET else sent.max_bytes // BYTES_PER_TOKEN
    return Asked(sent.for_, max(1, sent.entries), min(max(1, tokens), CONTEXT_TOKENS_MAX))


def partial_turn(head: Head) -> dict[str, object] | None:
    """The turn that was cut off: a caller without an answer, or speech of which less was heard than was generated."""
    last = head.work.last_message
    if last is None or not (last.role == "user" or last.interrupted):
        return None
    return {"seq": last.seq, "role": last.role}


def _oldest_within(lines: Sequence[StoredEntry], max_bytes: int | None) -> Sequence[StoredEntry]:
    if max_bytes is None:
        return lines
    size = 0
    for i, line in enumerate(lines):
        size += len(line.data) + 1
        if size > max_bytes:
            return lines[:i]
    return lines
