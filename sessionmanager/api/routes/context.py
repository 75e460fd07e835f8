"""A window of the log for a model."""

from __future__ import annotations

from time import perf_counter

from sessionmanager.api.context import Api, encode, session_key, view_headers
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply
from sessionmanager.api.routes.log import entries_cursor
from sessionmanager.core.context import Context, Contexts
from sessionmanager.core.keys.cursors import CursorCodec
from sessionmanager.core.sessions import open_calls
from sessionmanager.model.window.window import Asked
from sessionmanager.wire.context import ContextIncluded, ContextOmitted, GetContext, SummedUp
from sessionmanager.words import Key


class ContextRoutes:
    """The handler; it answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._contexts = Contexts(api.core.reads)

    async def get(self, ex: Exchange) -> Reply:
        began = perf_counter()
        query = ex.query(GetContext)
        min_version = ex.min_version()
        key = session_key(ex)
        asked = Asked(query.for_, query.max_entries, query.max_tokens)
        context = await self._contexts.read(key, asked, min_version=min_version or 0, latest=min_version is not None)
        body = render_context(context, key, asked, self._api.cursors)
        return Reply(200, body, view_headers(context.view, began))


def render_context(context: Context, key: Key, asked: Asked, cursors: CursorCodec) -> bytes:
    """The JSON of a `ContextAnswer`; the window's own bytes are joined in as they are."""
    window, head = context.window, context.view.stored.head
    running, interrupted = open_calls(head)
    before = window.from_seq - 1
    count = before - sum(1 for seq in window.seqs if seq <= before)
    cursor = entries_cursor(cursors, key, 0, window.from_seq, frozenset(), True) if count else None
    rest: dict[str, object] = {
        "version": head.version,
        "function_calls": {"open": running, "interrupted": interrupted},
        "included": ContextIncluded(
            from_seq=window.from_seq,
            to_seq=window.to_seq,
            entries=len(window.seqs),
            bytes=len(window.body),
            tokens_estimate=window.tokens_estimate,
            summaries=tuple(
                SummedUp(seq=unit.entry.seq, from_seq=first, to_seq=last)
                for unit in window.summaries
                for first, last in unit.covers
            ),
        ),
        "omitted": ContextOmitted(
            count=count,
            cursor=cursor,
            outputs=window.unpaired,
            system=window.system_left,
            unavailable=context.unavailable,
        ),
        "renamed": window.renamed,
    }
    if context.view.stale:
        rest["stale"] = True
    return b'{"for":"%b",%b,%b' % (asked.family.encode(), window.body[1:-1], encode(rest)[1:])
