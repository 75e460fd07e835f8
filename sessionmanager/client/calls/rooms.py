"""The room of a session at LiveKit."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from sessionmanager.client.caller import given, serves, session_path
from sessionmanager.client.calls.base import Calls
from sessionmanager.wire.rooms import RoomAnswer, SyncAnswer


class RoomCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("GET /sessions/{id}/room")
    async def room(self, id: str) -> RoomAnswer:
        """Its room, and what the metadata of that should say. Raises NotFound: it has none."""
        return await self._caller.ask("GET", session_path(id, "room"), RoomAnswer)

    @serves("POST /sessions/{id}/room")
    async def open_room(self, id: str, *, sync_enabled: bool | UnsetType = UNSET, key: str | None = None) -> RoomAnswer:
        """Give it a room, or have it opened again; `room.sid` is None until LiveKit answers. sync_enabled: whether the
        room is held against the session.

        Raises NotFound: the service has no LiveKit. IllegalTransition: the session is over.
        """
        body = given(sync_enabled=sync_enabled)
        return await self._caller.ask("POST", session_path(id, "room"), RoomAnswer, session=id, body=body, key=key)

    @serves("POST /sessions/{id}/room/sync")
    async def sync_room(self, id: str, *, trigger: str | UnsetType = UNSET) -> SyncAnswer:
        """Hold the room against the session now, and set right what differs. trigger: why, a word for the log."""
        body = given(trigger=trigger)
        return await self._caller.ask("POST", session_path(id, "room", "sync"), SyncAnswer, session=id, body=body)
