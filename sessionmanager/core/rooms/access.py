"""Tokens that let participants into their room, made anew for each answer and kept nowhere."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from sessionmanager.model.head import Head, Participant
from sessionmanager.model.rooms.config import room_name
from sessionmanager.model.rooms.grants import GRANTS, RoomRole, role_of
from sessionmanager.model.services import LIVE
from sessionmanager.words import Key, ParticipantKind


class Access(NamedTuple):
    """How somebody joins a room. url: of LiveKit, as participants reach it. seconds: how long the token is good."""

    url: str
    room: str
    identity: str
    token: str
    seconds: int

    def __repr__(self) -> str:
        return f"Access(room={self.room!r}, identity={self.identity!r}, token=***)"


class RoomTokens:
    """Makes them. url: where participants reach LiveKit. seconds: how long a token lets somebody in; whoever is in by
    then stays."""

    def __init__(self, url: str, key: str, secret: str, seconds: int) -> None:
        self.url = client_url(url)
        self._key = key
        self._secret = secret
        self._seconds = seconds

    def of(self, head: Head, person: Participant) -> Access | None:
        """For a participant of a session that has a room; None where it has none, or rests, or the participant left."""
        if head.detail.room is None or head.status not in LIVE or person.status == "left":
            return None
        return self.mint(head.key, person.id, person.identity, person.kind, person.role)

    def mint(self, key: Key, pid: str, identity: str, kind: ParticipantKind, role: str) -> Access:
        """For one identity in the one room of a session, with the grants of its row (`model/rooms/grants.py`).

        Raises ValueError: the library finds it impossible.
        """
        room = room_name(key)
        return Access(
            self.url, room, identity, self._signed(key, room, pid, identity, role_of(kind, role)), self._seconds
        )

    def _signed(self, key: Key, room: str, pid: str, identity: str, role: RoomRole) -> str:
        from livekit import api

        publish, subscribe, data, hidden, admin, own_metadata, kind = GRANTS[role]
        grants = api.VideoGrants(
            room_join=True,
            room=room,
            room_admin=admin,
            can_publish=publish,
            can_subscribe=subscribe,
            can_publish_data=data,
            hidden=hidden,
            can_update_own_metadata=own_metadata,
        )
        return (
            api.AccessToken(self._key, self._secret)
            .with_identity(identity)
            .with_kind(kind)
            .with_ttl(timedelta(seconds=self._seconds))
            .with_attributes({"session_id": key.id, "participant_id": pid})
            .with_grants(grants)
            .to_jwt()
        )


def client_url(url: str) -> str:
    """The address for clients, which connect by WebSocket."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit(parts._replace(scheme=scheme))
