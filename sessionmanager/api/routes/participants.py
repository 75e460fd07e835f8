"""Participants join, renew, leave; and who of them may speak."""

from __future__ import annotations

from msgspec import UNSET

from sessionmanager.api.conditional import etag
from sessionmanager.api.context import REPLAYED, Api, encode, receipt_reply, request_key, session_key, who
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.rooms import RoomAccess
from sessionmanager.api.routes.tenants import NO_STORE
from sessionmanager.core.command import Written
from sessionmanager.core.tokens import Minted
from sessionmanager.errors import FieldError, Forbidden, Invalid
from sessionmanager.model import instants
from sessionmanager.model.head import Head, Participant
from sessionmanager.model.participants import Join
from sessionmanager.wire.participants import (
    FloorBody,
    JoinBody,
    Leave,
    ParticipantPatch,
    ParticipantTokenBody,
    ReleaseFloor,
)
from sessionmanager.wire.requests import NoFields
from sessionmanager.words import Key


class ParticipantRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._participants = api.core.participants
        self._access = RoomAccess(api)

    async def join(self, ex: Exchange) -> Reply:
        sent = await ex.read(JoinBody)
        key = session_key(ex)
        joined = await self._participants.join(key, who(ex), self.wanted(ex, sent), await request_key(ex))
        person = joined.participant
        body = {
            "session_id": key.id,
            "version": joined.written.version,
            "participant": person,
            **await self.credentials(key, person, sent.token_seconds),
        }
        headers = [(b"etag", etag(joined.written.version)), NO_STORE]
        headers.append((b"location", f"/sessions/{key.id}/participants/{person.id}".encode()))
        if joined.written.replayed:
            headers.append(REPLAYED)
        return json_reply(201 if joined.fresh else 200, encode(body), *headers)

    def wanted(self, ex: Exchange, sent: JoinBody) -> Join:
        """A join as the core takes it. Raises Forbidden: whoever manages a room can take others out of it."""
        manages = sent.role == "manager" and self._api.livekit.tokens is not None
        if manages and ex.actor.roles.isdisjoint(("operator", "admin")):
            raise Forbidden("only an operator joins as a manager of the room")
        role = sent.kind if sent.role is UNSET else sent.role
        new_id = self._participants.new_id()
        return Join(new_id, sent.kind, sent.identity, role, sent.lease_seconds, dict(sent.metadata))

    async def credentials(
        self, key: Key, person: Participant, seconds: int, head: Head | None = None
    ) -> dict[str, object]:
        """What a participant identifies itself with, here and in its room: made anew for each answer, kept nowhere."""
        minted = self._mint(key, person, seconds)
        expires_at = None if minted is None else instants.from_ms(minted.expires_at * 1000)
        livekit = await self._access.of(key, person, head)
        return {"token": minted and minted.token, "token_expires_at": expires_at, "livekit": livekit}

    def _mint(self, key: Key, person: Participant, seconds: int) -> Minted | None:
        return self._api.tokens.bound(key, person.id, person.epoch, ttl_seconds=seconds)

    async def list(self, ex: Exchange) -> Reply:
        everybody = await self._participants.list(session_key(ex))
        return json_reply(200, encode({"items": everybody, "next_cursor": None}))

    async def get(self, ex: Exchange) -> Reply:
        return json_reply(200, encode(await self._participants.get(session_key(ex), ex.params["pid"])))

    async def patch(self, ex: Exchange) -> Reply:
        sent = await ex.read(ParticipantPatch)
        written, person = await self._participants.change(
            session_key(ex),
            self._own(ex),
            who(ex),
            metadata=None if sent.metadata is UNSET else sent.metadata,
            last_seen=None if sent.last_seen_version is UNSET else sent.last_seen_version,
            request=await request_key(ex),
        )
        return json_reply(200, encode(person), *_after(written))

    async def leave(self, ex: Exchange) -> Reply:
        query = ex.query(Leave)
        written = await self._participants.leave(
            session_key(ex), self._own(ex), who(ex), reason=query.reason, request=await request_key(ex)
        )
        return receipt_reply(written)

    async def heartbeat(self, ex: Exchange) -> Reply:
        await ex.read(NoFields)
        person = await self._participants.heartbeat(session_key(ex), self._own(ex), who(ex))
        return json_reply(200, encode(person))

    async def token(self, ex: Exchange) -> Reply:
        sent = await ex.read(ParticipantTokenBody)
        key = session_key(ex)
        person = await self._participants.present(key, self._own(ex))
        minted = self._mint(key, person, sent.token_seconds)
        if minted is None:
            raise Forbidden("tokens are made by the identity provider: this service has no key to sign with")
        expires_at = instants.from_ms(minted.expires_at * 1000)
        livekit = await self._access.of(key, person)
        body = {"token": minted.token, "token_expires_at": expires_at, "livekit": livekit}
        return json_reply(201, encode(body), NO_STORE)

    async def claim(self, ex: Exchange) -> Reply:
        sent = await ex.read(FloorBody)
        key, request = session_key(ex), await request_key(ex)
        pid = self._speaker(ex, None if sent.participant is UNSET else sent.participant)
        if sent.takeover and ex.actor.roles.isdisjoint(("operator", "admin")):
            raise Forbidden("only an operator takes over")
        if sent.hand_over is not None:
            written = await self._participants.offer(
                key, pid, who(ex), to=sent.hand_over, seconds=sent.hand_over_seconds, request=request
            )
            return receipt_reply(written)
        claimed = await self._participants.claim(
            key,
            pid,
            who(ex),
            lease_seconds=sent.lease_seconds,
            policy=sent.policy,
            takeover=sent.takeover,
            request=request,
        )
        return receipt_reply(claimed.written, 200 if claimed.position is None else 202)

    async def release(self, ex: Exchange) -> Reply:
        pid = self._speaker(ex, ex.query(ReleaseFloor).participant)
        return receipt_reply(await self._participants.release(session_key(ex), pid, who(ex), await request_key(ex)))

    def _own(self, ex: Exchange) -> str:
        """The participant of the path: for a bound token its own, else Forbidden."""
        pid = ex.params["pid"]
        if ex.actor.pid is not None and ex.actor.pid != pid:
            raise Forbidden("this token speaks for another participant")
        return pid

    def _speaker(self, ex: Exchange, named: str | None) -> str:
        """Who claims: the participant of a bound token, else the one that the body names."""
        if ex.actor.pid is not None:
            if named not in (None, ex.actor.pid):
                raise Forbidden("this token speaks for another participant")
            return ex.actor.pid
        if named is None:
            raise Invalid([FieldError("/participant", "required: this token speaks for no participant")])
        return named


def _after(written: Written) -> list[tuple[bytes, bytes]]:
    headers = [(b"etag", etag(written.version))]
    if written.replayed:
        headers.append(REPLAYED)
    return headers
