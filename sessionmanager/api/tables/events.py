"""Rows of feeds and signals."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.live.sse import MEDIA
from sessionmanager.api.routes.events import EventRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, ONE
from sessionmanager.wire import events

SOCKET: str = f"{ID}/ws"
TAG = "events"


def event_rows(api: Api) -> tuple[Route, ...]:
    """Following a session or a tenant, and telling listeners something that nobody keeps."""
    on = EventRoutes(api)
    return (
        Route(
            method="GET",
            template=f"{ID}/events",
            action="feed.read",
            handler=on.session,
            tag=TAG,
            summary="Follow a session",
            description="Server-sent events: `id` is the seq, `event` the type, `data` the entry.",
            query=events.FollowSession,
            headers=("Last-Event-ID",),
            answers=(Shown(200, "Entries as they are committed", bytes, MEDIA),),
            errors=ONE,
        ),
        Route(
            method="GET",
            template=SOCKET,
            action="feed.read",
            handler=on.socket,
            tag=TAG,
            summary="Follow a session and append to it over a WebSocket",
            query=events.FollowSession,
            headers=("Last-Event-ID",),
            answers=(Shown(101, "The feed, as JSON frames"),),
            errors=ONE,
        ),
        Route(
            method="POST",
            template=f"{ID}/signals",
            action="signal.send",
            handler=on.signal,
            tag=TAG,
            summary="Tell whoever listens now; nothing is stored",
            request=events.SignalBody,
            request_examples={"application/json": {"typing": {"type": "typing", "data": {"level": 1}}}},
            body_bytes_max=events.SIGNAL_BODY_BYTES_MAX,
            answers=(Shown(202, "Whoever listens is told"),),
            errors=ONE,
        ),
        Route(
            method="GET",
            template="/events",
            action="feed.tenant",
            handler=on.tenant,
            tag=TAG,
            summary="Follow all sessions of the tenant",
            description="Server-sent events whose `data` is a CloudEvent 1.0 in structured JSON.",
            query=events.FollowTenant,
            headers=("Last-Event-ID",),
            answers=(Shown(200, "Events as they happen", bytes, MEDIA),),
            errors=(e.TierUnavailable,),
        ),
    )
