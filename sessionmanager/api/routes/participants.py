"""Participants join, renew, leave; who of them may speak, and what they leave to their successors."""

from __future__ import annotations

from msgspec import UNSET

from sessionmanager.api.context import (
    NO_STORE,
    Api,
    commit_headers,
    encode,
    receipt_reply,
    request_key,
    session_key,
    who,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.api.routes.admission import Admission
from sessionmanager.api.routes.attachments import bytes_headers, content_type
from sessionmanager.core.checkpoints import Checkpoint
from sessionmanager.errors import FieldError, Forbidden, Invalid, Malformed
from sessionmanager.wire.checkpoints import KeepCheckpoint, TakeCheckpoint
from sessionmanager.wire.participants import (
    FloorBody,
    JoinBody,
    Leave,
    ParticipantPatch,
    ParticipantTokenBody,
    ReleaseFloor,
)
from sessionmanager.wire.requests import NoFields


class ParticipantRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._participants = api.core.participants
        self._admission = Admission(api)

    async def join(self, ex: Exchange) -> Reply:
        sent = await ex.read(JoinBody)
        key = session_key(ex)
        joined = await self._participants.join(key, who(ex), self._admission.wanted(ex, sent), await request_key(ex))
        person = joined.participant
        body = {
            "session_id": key.id,
            "version": joined.written.version,
            "participant": person,
            **await self._admission.credentials(key, person, sent.token_seconds),
        }
        headers = commit_headers(joined.written.version, replayed=joined.written.replayed)
        headers += [NO_STORE, (b"location", f"/sessions/{key.id}/participants/{person.id}".encode())]
        return json_reply(201 if joined.fresh else 200, encode(body), *headers)

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
        headers = commit_headers(written.version, replayed=written.replayed)
        return json_reply(200, encode(person), *headers)

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
        minted = self._admission.mint(key, person, sent.token_seconds)
        if minted is None:
            raise Forbidden("tokens are made by the identity provider: this service has no key to sign with")
        return json_reply(201, encode(await self._admission.shown(key, person, minted)), NO_STORE)

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

    # -- checkpoints

    async def keep(self, ex: Exchange) -> Reply:
        query, media = ex.query(KeepCheckpoint), content_type(ex)
        holder, pid = _holder(query.holder), self._own(ex)
        checkpoint = Checkpoint(await ex.body(), media)
        await self._api.core.checkpoints.keep(session_key(ex), pid, holder, query.number, checkpoint)
        return Reply(204)

    async def take(self, ex: Exchange) -> Reply:
        holder = _holder(ex.query(TakeCheckpoint).holder)
        taken = await self._api.core.checkpoints.take(session_key(ex), self._own(ex), holder)
        if taken is None:
            return Reply(204, headers=[NO_STORE])
        return Reply(200, taken.data, [*bytes_headers(taken.content_type), NO_STORE])

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


def _holder(named: str | None) -> str:
    if named is None:
        raise Malformed("whose it is", [FieldError("query/holder", "required: a name of the process that asks")])
    return named
