"""Rows of rooms and of LiveKit's webhooks."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.rooms import WEBHOOK_BYTES_MAX, WEBHOOK_MEDIA, RoomRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, KEY, ONE, WRITE, WRITE_HEADERS
from sessionmanager.wire import rooms

TAG = "rooms"


def room_rows(api: Api) -> tuple[Route, ...]:
    """The room of a session, and what LiveKit tells."""
    on = RoomRoutes(api)
    return (
        Route(
            method="GET",
            template=f"{ID}/room",
            action="room.read",
            handler=on.get,
            tag=TAG,
            summary="The room of a session",
            answers=(Shown(200, "The room, and what its metadata should say", rooms.RoomAnswer, headers=("ETag",)),),
            errors=ONE,
        ),
        Route(
            method="POST",
            template=f"{ID}/room",
            action="room.open",
            handler=on.open,
            tag=TAG,
            summary="Open the session's room, or adopt it; switch its sync",
            request=rooms.RoomBody,
            body_required=False,
            headers=KEY,
            answers=(
                Shown(200, "It is open", rooms.RoomAnswer, headers=WRITE_HEADERS),
                Shown(202, "It is opened as soon as LiveKit answers", rooms.RoomAnswer, headers=WRITE_HEADERS),
            ),
            errors=(e.IllegalTransition, *ONE, *WRITE),
        ),
        Route(
            method="POST",
            template=f"{ID}/room/sync",
            action="room.sync",
            handler=on.sync,
            tag=TAG,
            summary="Hold the room against the session now, and set right what differs",
            request=rooms.SyncBody,
            body_required=False,
            answers=(Shown(200, "What was found", rooms.SyncAnswer, headers=("ETag",)),),
            errors=(*ONE, *WRITE),
        ),
        Route(
            method="POST",
            template="/livekit/webhook",
            action="room.webhook",
            handler=on.webhook,
            tag=TAG,
            summary="What LiveKit tells: signed by its API key, heeded as a hint to look",
            request=rooms.LiveKitWebhook,
            request_media=WEBHOOK_MEDIA,
            body_bytes_max=WEBHOOK_BYTES_MAX,
            headers=(),
            open=True,
            answers=(Shown(200, "Heeded, or not needed", rooms.Heeded),),
            errors=(e.NotFound, e.Unauthenticated, e.TierUnavailable),
        ),
    )
