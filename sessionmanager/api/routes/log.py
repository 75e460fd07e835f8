"""The log of a session: append, and read at any depth."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import msgspec

from sessionmanager.api.context import (
    Api,
    check_min_version,
    drafts_of,
    encode,
    receipt_reply,
    request_key,
    session_key,
    view_headers,
    who,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply
from sessionmanager.core.command import Receipt, Written
from sessionmanager.core.history import Range
from sessionmanager.core.keys.cursors import CursorCodec
from sessionmanager.core.reads import View, join_entries
from sessionmanager.wire.queries import ListEntries
from sessionmanager.wire.requests import AppendBody
from sessionmanager.words import INTEGER_MAX, Key

FAR: Final = INTEGER_MAX + 1
"""Beyond every seq."""
_receipt = msgspec.json.Decoder(Receipt)


class LogRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sessions = api.core.sessions

    async def append(self, ex: Exchange) -> Reply:
        sent = await ex.read(AppendBody)
        written = await self._sessions.append(session_key(ex), drafts_of(sent.entries), who(ex), await request_key(ex))
        return receipt_reply(written, 201 if _added(written) else 200)

    async def entries(self, ex: Exchange) -> Reply:
        began = perf_counter()
        query = ex.query(ListEntries)
        key = session_key(ex)
        if query.cursor is not None:
            span = open_cursor(self._api.cursors, key, query.cursor, query.limit)
        else:
            types = frozenset((query.type,)) if query.type is not None else frozenset[str]()
            after = query.after or 0
            before = FAR if query.before is None else query.before
            span = Range(after, before, query.limit, types, query.order == "desc")
        stored, found = await self._sessions.entries(key, span)
        cursor = None
        if not found.done:
            after, before = (span.after, found.reached) if span.descending else (found.reached, span.before)
            cursor = entries_cursor(self._api.cursors, key, after, before, span.types, span.descending)
        check_min_version(ex, stored.version)
        tier = "cold" if stored.placement == "cold" else "warm"
        headers = view_headers(View(stored, (), tier), began)
        body = b'{"items":[%b],"next_cursor":%b}' % (join_entries(found.lines), encode(cursor))
        return Reply(200, body, headers)


def _added(written: Written) -> bool:
    """Whether an append, or the one that it repeats, found something new in its batch."""
    if not written.replayed:
        return written.committed
    said = _receipt.decode(written.answer)
    return len(said.seqs or ()) > len(said.duplicates or ())


def entries_cursor(
    cursors: CursorCodec, key: Key, after: int, before: int, types: frozenset[str], descending: bool
) -> str:
    """Where to go on in a log. It carries filter and order, so it is used alone, or with another `limit`."""
    return cursors.encode((after, before, sorted(types), descending), context=_context(key))


def open_cursor(cursors: CursorCodec, key: Key, cursor: str, limit: int) -> Range:
    after, before, types, descending = cursors.decode(cursor, context=_context(key))
    return Range(after, before, limit, frozenset(types), descending)


def _context(key: Key) -> bytes:
    return f"entries {key.text}".encode()
