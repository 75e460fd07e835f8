"""What this service asks of services: to join a session, and how they are.

    POST {endpoint}/join-room   200 joined · 202 will come (its first heartbeat says that it has) · else refused
    GET  {endpoint}/health      2xx fine · else missed

A service that answers under another id than the one it was registered with is not the one that was invitation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from sessionmanager.core.outgoing.endpoints import NotAllowed, parse
from sessionmanager.core.outgoing.requests import CallFailed, Outgoing, TheirAnswer
from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.core.services.registry import Service
from sessionmanager.model.service_steps import Answer
from sessionmanager.words import Key

IDENTITY: Final = "identity"
_LATER: Final = ("accepted", "joining", "pending")
_encode = msgspec.json.Encoder().encode


class Invitation(NamedTuple):
    """Who is asked into which session. pid, epoch: the participant that the token speaks for. name: of this request,
    the same however often it is sent. room: whether the session has one."""

    key: Key
    type: str
    version: int
    service: str
    pid: str
    epoch: int
    name: str
    room: bool = False


class Asking(Protocol):
    """How services are reached."""

    async def join(self, service: Service, invitation: Invitation) -> Answer:
        """Ask a service to join; whatever happens is an answer."""
        ...

    async def health(self, service: Service) -> str | None:
        """None = it is well; else why it is not, a word of ours."""
        ...


class AskNobody:
    """Where nothing may be sent: whoever is asked cannot be told."""

    async def join(self, service: Service, invitation: Invitation) -> Answer:
        return Answer("refused", "not-allowed")

    async def health(self, service: Service) -> str | None:
        return "not-allowed"


class _Said(Struct, frozen=True):
    """The members of an answer that mean something; all others are passed over."""

    service_id: str | None = None
    success: bool | None = None
    status: str | None = None


_said = msgspec.json.Decoder(_Said)


class AskByHttp:
    """Over HTTP. mint: makes the token of a participant; None = tokens come from elsewhere. rooms: makes those that let
    it into a room; None = there are no rooms."""

    def __init__(
        self, outgoing: Outgoing, mint: Callable[[Key, str, int], str | None], rooms: RoomTokens | None = None
    ) -> None:
        self._outgoing = outgoing
        self._mint = mint
        self._rooms = rooms

    async def join(self, service: Service, invitation: Invitation) -> Answer:
        """Tokens are made for this request and kept nowhere. The endpoint is checked before they are sent."""
        access = None
        if self._rooms is not None and invitation.room:
            access = self._rooms.mint(invitation.key, invitation.pid, invitation.service, "service", invitation.type)
        body = {
            "session_id": invitation.key.id,
            "room_name": invitation.key.id if access is None else access.room,
            "service_id": invitation.service,
            "type": invitation.type,
            "participant_id": invitation.pid,
            "token": self._mint(invitation.key, invitation.pid, invitation.epoch),
            "livekit_url": access and access.url,
            "access_token": access and access.token,
        }
        headers = {"Idempotency-Key": invitation.name}
        try:
            reply = await self._outgoing.send(
                "POST", parse(service.endpoint), "/join-room", body=_encode(body), headers=headers
            )
        except (CallFailed, NotAllowed) as error:
            return Answer("refused", error.reason if isinstance(error, CallFailed) else "not-allowed")
        return read_join(reply, invitation.service)

    async def health(self, service: Service) -> str | None:
        try:
            reply = await self._outgoing.send("GET", parse(service.endpoint), "/health")
        except (CallFailed, NotAllowed) as error:
            return error.reason if isinstance(error, CallFailed) else "not-allowed"
        if not reply.is_fine:
            return f"status-{reply.status}"
        said = _read(reply)
        return IDENTITY if said.service_id not in (None, service.id) else None


def read_join(reply: TheirAnswer, service: str) -> Answer:
    """What an answer to `join-room` means."""
    if not reply.is_fine:
        return Answer("refused", f"status-{reply.status}")
    said = _read(reply)
    if said.service_id not in (None, service):
        return Answer("refused", IDENTITY)
    if said.success is False:
        return Answer("refused", "refused")
    later = reply.status == 202 or (said.status or "").lower() in _LATER
    return Answer("accepted" if later else "joined")


def _read(reply: TheirAnswer) -> _Said:
    """What the answer says; one that is no JSON object, or whose members are of other types, says nothing."""
    try:
        return _said.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Said()
