"""Letting participants in: a join as the core takes it, and what somebody who is in identifies itself with."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from sessionmanager.api.context import Api
from sessionmanager.api.exchange import Exchange
from sessionmanager.core.tokens.minting import Minted
from sessionmanager.errors import Forbidden
from sessionmanager.model import instants
from sessionmanager.model.head import Head, Participant
from sessionmanager.model.participants import Join
from sessionmanager.wire.participants import JoinBody
from sessionmanager.words import Key


class Admission:
    """For every route whose answer lets somebody in. Credentials are made anew for each answer and kept nowhere."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def wanted(self, ex: Exchange, sent: JoinBody) -> Join:
        """A join as the core takes it. Raises Forbidden: whoever manages a room can take others out of it."""
        manages = sent.role == "manager" and self._api.livekit.tokens is not None
        if manages and ex.actor.roles.isdisjoint(("operator", "admin")):
            raise Forbidden("only an operator joins as a manager of the room")
        role = sent.kind if sent.role is UNSET else sent.role
        new_id = self._api.core.participants.new_id()
        return Join(new_id, sent.kind, sent.identity, role, sent.lease_seconds, dict(sent.metadata))

    async def credentials(
        self, key: Key, person: Participant, seconds: int, head: Head | None = None
    ) -> dict[str, object]:
        """The members `token`, `token_expires_at` and `livekit` of an answer; the first two None without a secret."""
        return await self.shown(key, person, self.mint(key, person, seconds), head)

    async def shown(
        self, key: Key, person: Participant, minted: Minted | None, head: Head | None = None
    ) -> dict[str, object]:
        """The same with a token that was made already."""
        expires_at = None if minted is None else instants.from_ms(minted.expires_at * 1000)
        livekit = await self.room_access(key, person, head)
        return {"token": minted and minted.token, "token_expires_at": expires_at, "livekit": livekit}

    def mint(self, key: Key, person: Participant, seconds: int) -> Minted | None:
        """A token by which the participant speaks for itself; None where tokens come from elsewhere."""
        return self._api.tokens.bound(key, person.id, person.epoch, ttl_seconds=seconds)

    async def room_access(self, key: Key, person: Participant, head: Head | None = None) -> dict[str, Any] | None:
        """The member `livekit` of an answer. None where there is no room to join.

        Cost: none without LiveKit; a read of the session where no head is given; the room is opened where it is not.
        """
        tokens = self._api.livekit.tokens
        if tokens is None:
            return None
        if head is None:
            head = (await self._api.core.sessions.view(key, lines=0)).stored.head
        access = tokens.of(head, person)
        if access is None:
            return None
        await self._api.core.rooms.ready(key, head)
        return {
            "url": access.url,
            "room": access.room,
            "identity": access.identity,
            "token": access.token,
            "expires_at": instants.plus(self._api.warm.now(), access.seconds),
        }
