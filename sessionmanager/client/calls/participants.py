"""Participants and the floor, one request each; `session.join` and `participant.floor` are what most callers want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from sessionmanager.client.caller import given, serves, session_path
from sessionmanager.client.calls.base import Calls
from sessionmanager.client.calls.log import Content
from sessionmanager.errors import CheckpointTaken, FloorTaken
from sessionmanager.wire.answers import Participant, Receipt
from sessionmanager.wire.participants import (
    ClaimPolicy,
    FloorAnswer,
    JoinAnswer,
    ParticipantPage,
    ParticipantToken,
)
from sessionmanager.words import ParticipantKind


class ParticipantCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given. `pid`: a participant's id."""

    @serves("POST /sessions/{id}/participants")
    async def attach(
        self,
        id: str,
        *,
        kind: ParticipantKind,
        identity: str,
        role: str | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        lease_seconds: float | UnsetType | None = UNSET,
        token_seconds: int | UnsetType = UNSET,
        key: str | None = None,
    ) -> JoinAnswer:
        """Let somebody in, or back in under the same identity. lease_seconds: None = it needs no heartbeats.

        Raises Full, AlreadyExists: the identity is another kind's. IllegalTransition: the session is over.
        """
        body = given(
            kind=kind,
            identity=identity,
            role=role,
            metadata=metadata,
            lease_seconds=lease_seconds,
            token_seconds=token_seconds,
        )
        return await self._caller.ask(
            "POST", session_path(id, "participants"), JoinAnswer, session=id, body=body, key=key
        )

    @serves("GET /sessions/{id}/participants")
    async def participants(self, id: str) -> tuple[Participant, ...]:
        """All who are there, and the last who left."""
        page = await self._caller.ask("GET", session_path(id, "participants"), ParticipantPage)
        return page.items

    @serves("GET /sessions/{id}/participants/{pid}")
    async def participant(self, id: str, pid: str) -> Participant:
        """One of them."""
        return await self._caller.ask("GET", session_path(id, "participants", pid), Participant)

    @serves("PATCH /sessions/{id}/participants/{pid}")
    async def change_participant(
        self,
        id: str,
        pid: str,
        *,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        last_seen_version: int | UnsetType = UNSET,
        key: str | None = None,
    ) -> Participant:
        """Set its metadata, or say what it has seen, which only grows."""
        body = given(metadata=metadata, last_seen_version=last_seen_version)
        return await self._caller.ask(
            "PATCH", session_path(id, "participants", pid), Participant, session=id, body=body, key=key
        )

    @serves("DELETE /sessions/{id}/participants/{pid}")
    async def leave(self, id: str, pid: str, *, reason: str | None = None, key: str | None = None) -> Receipt:
        """Take it out; its tokens are void at once."""
        return await self._caller.ask(
            "DELETE",
            session_path(id, "participants", pid),
            Receipt,
            session=id,
            query={"reason": reason},
            key=key,
        )

    @serves("POST /sessions/{id}/participants/{pid}/heartbeat")
    async def heartbeat(self, id: str, pid: str) -> Participant:
        """News of it: its lease is whole again, and it is attached again if it was given up."""
        return await self._caller.ask("POST", session_path(id, "participants", pid, "heartbeat"), Participant, body={})

    @serves("POST /sessions/{id}/participants/{pid}/token")
    async def participant_token(self, id: str, pid: str, *, token_seconds: int | UnsetType = UNSET) -> ParticipantToken:
        """A new token for it."""
        body = given(token_seconds=token_seconds)
        return await self._caller.ask(
            "POST", session_path(id, "participants", pid, "token"), ParticipantToken, body=body
        )

    @serves("PUT /sessions/{id}/participants/{pid}/checkpoint")
    async def keep_checkpoint(
        self,
        id: str,
        pid: str,
        data: bytes,
        *,
        holder: str,
        number: int = 0,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Keep for a minute what it has begun and not said as an entry yet; no bytes empty it. holder: a name of this
        process, new each time it takes part. number: grows with each; an older one that comes late changes nothing.

        Raises CheckpointTaken: another holder goes on with it. TooLarge: at most 512 KiB.
        """
        await self._caller.call(
            "PUT",
            session_path(id, "participants", pid, "checkpoint"),
            query={"holder": holder, "number": number},
            body=data,
            headers={"content-type": content_type},
            final=(CheckpointTaken,),
        )

    @serves("POST /sessions/{id}/participants/{pid}/checkpoint/take")
    async def take_checkpoint(self, id: str, pid: str, *, holder: str) -> Content | None:
        """Go on with what it had begun; None = nothing. Whoever held it before keeps and says no more of it."""
        path = session_path(id, "participants", pid, "checkpoint", "take")
        came = await self._caller.call("POST", path, query={"holder": holder})
        return Content(came.body, came.headers.get("content-type", "")) if came.body else None

    @serves("POST /sessions/{id}/floor")
    async def claim_floor(
        self,
        id: str,
        *,
        participant: str | UnsetType = UNSET,
        lease_seconds: float | UnsetType = UNSET,
        policy: ClaimPolicy | UnsetType = UNSET,
        takeover: bool | UnsetType = UNSET,
        hand_over: str | UnsetType | None = UNSET,
        hand_over_seconds: float | UnsetType = UNSET,
        key: str | None = None,
    ) -> FloorAnswer:
        """Claim the right to speak, renew it, or hand it over; `position` is set where it was queued.

        Raises FloorTaken, which is an answer and not waited for. FloorLost: only the holder hands it over.
        """
        body = given(
            participant=participant,
            lease_seconds=lease_seconds,
            policy=policy,
            takeover=takeover,
            hand_over=hand_over,
            hand_over_seconds=hand_over_seconds,
        )
        return await self._caller.ask(
            "POST", session_path(id, "floor"), FloorAnswer, session=id, body=body, key=key, final=(FloorTaken,)
        )

    @serves("DELETE /sessions/{id}/floor")
    async def release_floor(self, id: str, *, participant: str | None = None, key: str | None = None) -> FloorAnswer:
        """Give the floor back, or leave its queue."""
        return await self._caller.ask(
            "DELETE",
            session_path(id, "floor"),
            FloorAnswer,
            session=id,
            query={"participant": participant},
            key=key,
        )
