"""Feeds of a session and of a tenant, and signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType

from sessionmanager.api.context import Api, encode, session_key
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.live.sse import EventStream, frame, stream_headers
from sessionmanager.api.reply import Answer, Reply
from sessionmanager.core.feed.events import Event, TenantItem, cloud_event_of, is_one_of
from sessionmanager.core.feed.items import Item, Line, Signal
from sessionmanager.core.feed.session_subscription import SessionSubscription
from sessionmanager.core.feed.subscription import Subscription
from sessionmanager.errors import FieldError, Malformed
from sessionmanager.wire.events import FollowSession, FollowTenant, SignalBody, SignalEvent
from sessionmanager.words import INTEGER_MAX, Instant, Key

LAST: Final = "Last-Event-ID"
SEQ_DIGITS_MAX: Final = 16


class EventRoutes:
    """Handlers; each answers as the reference of events says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._feeds = api.feeds

    async def session(self, ex: Exchange) -> Answer:
        if ex.method == "HEAD":
            await self._api.core.reads.view(session_key(ex), lines=0)
            return Reply(200, b"", stream_headers())
        source = await self._feeds.follow(session_key(ex), subject=ex.actor.subject, after=seq_asked(ex))
        return EventStream(
            ex,
            source,
            session_frames,
            hello=frame("hello", hello_of(source, ex.params["id"])) + resync_of(source, ex.params["id"]),
            last=lambda: {"after": source.after},
            rng=self._feeds.rng,
            limits=self._feeds.limits,
        )

    async def tenant(self, ex: Exchange) -> Answer:
        tenant, query = ex.tenant, ex.query(FollowTenant)
        since = self._since(ex.header(LAST) or query.after, tenant)
        if ex.method == "HEAD":
            return Reply(200, b"", stream_headers())
        source = await self._feeds.follow_tenant(tenant, subject=ex.actor.subject, since=since)
        ids = _Ids(self._api, tenant)
        hello = {"tenant": tenant, "after": ids.of(source.cursor), **_beats(source)}
        return EventStream(
            ex,
            source,
            tenant_frames(ids, tenant, query.types),
            hello=frame("hello", hello),
            last=lambda: {"after": ids.of(source.cursor)},
            rng=self._feeds.rng,
            limits=self._feeds.limits,
        )

    async def signal(self, ex: Exchange) -> Reply:
        sent = await ex.read(SignalBody)
        key = session_key(ex)
        await self._api.core.reads.view(key, lines=0)  # one that is not there, or is erased, has no listeners
        await self._feeds.signals.send(key, self._signal(ex, sent))
        return Reply(202)

    async def socket(self, ex: Exchange) -> Answer:
        """What this address answers to plain HTTP (`api/live/websocket.py` has the rest)."""
        await self._api.core.reads.view(session_key(ex), lines=0)
        raise Malformed("this address speaks WebSocket: ask for an upgrade")

    def _signal(self, ex: Exchange, sent: SignalBody) -> bytes:
        pid: str | UnsetType = UNSET if ex.actor.pid is None else ex.actor.pid
        data: Raw | UnsetType = sent.data
        return encode(
            SignalEvent(
                type=sent.type,
                ephemeral=True,
                at=self._api.warm.now(),
                actor=ex.actor.subject,
                participant=pid,
                data=data,
            )
        )

    def _since(self, cursor: str | None, tenant: str) -> Instant | None:
        if not cursor:
            return None
        (since,) = self._api.cursors.decode(cursor, context=_context(tenant))
        return since


def seq_asked(ex: Exchange) -> int | None:
    """After which seq the reader wants to go on; None = from now. Raises Malformed."""
    last = ex.header(LAST)
    if not last:  # browsers send an empty one before the first event
        return ex.query(FollowSession).after
    if not last.isdecimal() or len(last) > SEQ_DIGITS_MAX or int(last) > INTEGER_MAX:
        raise Malformed(f"{LAST} is not the seq of an entry", [FieldError(f"header/{LAST}", "a seq")])
    return int(last)


def hello_of(source: SessionSubscription, session: str) -> dict[str, Any]:
    """Where a feed begins, so that a reader that is cut before the first entry knows where to go on."""
    return {"session": session, "after": source.after, **_beats(source)}


def _beats(source: Subscription) -> dict[str, Any]:
    """How long a feed is silent at most."""
    return {"heartbeat_seconds": source.limits.heartbeat_seconds}


def resync_members(source: SessionSubscription, session: str) -> dict[str, Any] | None:
    """What is told to a reader whose seq the log does not have: read the head, and go on from `after`."""
    if not source.ahead:
        return None
    return {
        "reason": "ahead",
        "detail": "the log does not reach so far: read the session and go on after its last entry",
        "location": f"/sessions/{session}",
        "after": source.newest,
    }


def resync_of(source: SessionSubscription, session: str) -> bytes:
    members = resync_members(source, session)
    return b"" if members is None else frame("resync", members)


def session_frames(items: Sequence[Item]) -> bytes:
    """Stored entries with their seqs as ids, their bytes as they lie; signals without an id."""
    return b"".join([_session_frame(item) for item in items])


def _session_frame(item: Item) -> bytes:
    if isinstance(item, Line):
        # A field that browsers pass over (WHATWG HTML 9.2.6), so that the data stay the bytes of the entry.
        trace = b"" if item.trace is None else b"traceparent: %b\n" % item.trace.encode()
        return b"id: %d\nevent: %b\n%bdata: %b\n\n" % (item.seq, item.type.encode(), trace, item.data)
    assert isinstance(item, Signal), "a feed holds lines and signals"
    return b"event: signal\ndata: %b\n\n" % item.data


class _Ids:
    """Cursors of a tenant's feed: opaque, and good for this tenant alone. Many events in a row share one."""

    def __init__(self, api: Api, tenant: str) -> None:
        self._cursors = api.cursors
        self._context = _context(tenant)
        self._last: tuple[Instant, str] = ("", "")

    def of(self, cursor: Instant) -> str:
        if self._last[0] != cursor:
            self._last = (cursor, self._cursors.encode((cursor,), context=self._context))
        return self._last[1]


def tenant_frames(ids: _Ids, tenant: str, types: str | None) -> Callable[[Sequence[TenantItem]], bytes]:
    """Events as CloudEvents 1.0 in structured JSON, those of `types` only."""
    wanted = None if types is None else frozenset(types.split(","))

    def render(items: Sequence[TenantItem]) -> bytes:
        return b"".join([_tenant_frame(item, ids.of(item.cursor), tenant) for item in items if _wanted(item, wanted)])

    return render


def _wanted(item: TenantItem, wanted: frozenset[str] | None) -> bool:
    if wanted is None or not isinstance(item, Event):
        return True
    return is_one_of(item.type, wanted)


def _tenant_frame(item: TenantItem, cursor: str, tenant: str) -> bytes:
    if isinstance(item, Event):
        event = cloud_event_of(tenant, item)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode(), item.type.encode(), event)
    return frame(
        "resync",
        {
            "reason": "too-much",
            "detail": "more happened since than a feed tells: read the list of sessions",
            "location": "/sessions?sort=last_activity",
            "after": cursor,
        },
    )


def _context(tenant: str) -> bytes:
    return f"events {Key(tenant, '').text}".encode()
