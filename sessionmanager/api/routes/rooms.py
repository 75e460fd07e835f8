"""Rooms: asked for, read, looked at now; and what LiveKit tells."""

from __future__ import annotations

from msgspec import UNSET

from sessionmanager.api.conditional import etag
from sessionmanager.api.context import Api, commit_headers, encode, request_key, session_key, who
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.core.rooms.notices import Notices
from sessionmanager.errors import NotFound, Unauthenticated
from sessionmanager.model.head import Head
from sessionmanager.model.rooms.config import config_of
from sessionmanager.wire.rooms import RoomBody, SyncBody
from sessionmanager.words import Key

WEBHOOK_MEDIA = ("application/webhook+json", "application/json")
WEBHOOK_BYTES_MAX = 64 * 1024
"""LiveKit's are a few KiB; a participant's metadata is in them."""
NO_ROOMS = "this service has no rooms: LIVEKIT_SERVER_URL is not set"


class RoomRoutes:
    """Handlers; each answers as the reference "Rooms" says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._rooms = api.core.rooms

    async def get(self, ex: Exchange) -> Reply:
        key = session_key(ex)
        stored = (await self._api.core.sessions.view(key, lines=0)).stored
        return json_reply(200, _shown(key, stored.head, stored.version), (b"etag", etag(stored.version)))

    async def open(self, ex: Exchange) -> Reply:
        sent = await ex.read(RoomBody)
        key = session_key(ex)
        if not self._rooms.exist:
            raise NotFound(NO_ROOMS)
        enabled = None if sent.sync_enabled is UNSET else sent.sync_enabled
        written = await self._rooms.ask(key, who(ex), enabled=enabled, request=await request_key(ex))
        view = await self._api.core.sessions.view_after(key, written)
        await self._rooms.ready(key, view.stored.head)
        head = (await self._api.core.sessions.view_after(key, written)).stored.head
        is_open = head.detail.room is not None and head.detail.room.sid is not None
        headers = commit_headers(written.version, replayed=written.replayed)
        return json_reply(200 if is_open else 202, _shown(key, head, head.version), *headers)

    async def sync(self, ex: Exchange) -> Reply:
        sent = await ex.read(SyncBody)
        key = session_key(ex)
        looked = await self._rooms.sync(key, sent.trigger)
        room, judged = looked.room, looked.judged
        if room is None:
            raise NotFound("this session has no room")
        body = {
            "session_id": key.id,
            "version": looked.version,
            "trigger": sent.trigger,
            "is_valid": not judged.found,
            "inconsistencies": judged.found,
            "corrections": judged.corrections,
            "needs_resync": bool(judged.remaining) or not looked.reached or room.sync_state == "syncing",
            "sync_state": room.sync_state,
            "sync_attempts": room.sync_attempts,
            "last_sync_at": room.last_sync_at,
            "inconsistency_detected": room.inconsistency_detected,
            "room": room,
        }
        return json_reply(200, encode(body), (b"etag", etag(looked.version)))

    async def webhook(self, ex: Exchange) -> Reply:
        notices = self._api.livekit.notices
        if notices is None:
            raise NotFound(NO_ROOMS)
        outcome = await self._heed(ex, notices)
        self._api.metrics.room_webhook(outcome)
        return json_reply(200, encode({"outcome": outcome}))

    async def _heed(self, ex: Exchange, notices: Notices) -> str:
        body = await ex.body()
        try:
            notice = notices.read(body, ex.header("Authorization"))
        except Unauthenticated:
            self._api.metrics.refusal("signature")
            raise
        if not notice.is_of_a_room or notice.room is None:
            return "ignored"
        if not notices.is_new(notice):
            return "repeated"
        try:
            known = await self._rooms.hint(notice.room.name)
        except BaseException:
            notices.forget(notice)
            raise
        return "heeded" if known else "unknown-room"


def _shown(key: Key, head: Head, version: int) -> bytes:
    room = head.detail.room
    if room is None:
        raise NotFound("this session has no room")
    config = config_of(key, head.profile.type)
    return encode({"session_id": key.id, "version": version, "room": room, "config": config})
