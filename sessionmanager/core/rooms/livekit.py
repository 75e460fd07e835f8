"""LiveKit's room service by its own library: one pooled client, a deadline a call, a breaker, a bound on calls at once.

The library takes a third of a second to import (protobuf), so it is imported where a client is made: a service without
LiveKit never pays for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from sessionmanager.core.rooms.protocol import Found
from sessionmanager.errors import UpstreamFailed
from sessionmanager.model.rooms.looking import Microphone, Person
from sessionmanager.tiers.breaker import Breaker, CircuitOpen

if TYPE_CHECKING:
    from livekit.api import LiveKitAPI
    from livekit.api.room_service import RoomService as Calls
    from livekit.protocol.models import ParticipantInfo

T = TypeVar("T")

AT_ONCE_MAX: Final = 32
FAILURES_MAX: Final = 5
RESET_SECONDS: Final = 2.0
GONE: Final = "not_found"
UNSERVED: Final = "unavailable"
"""What LiveKit answers where a call is for somebody, or for a room, that no node serves any more."""
FOR_THOSE_INSIDE: Final = ("remove_participant", "mute_published_track", "send_data")


class Observer(Protocol):
    """Where calls are counted."""

    def livekit(self, operation: str, outcome: str, seconds: float) -> None:
        """A call ended: `ok`, `gone`, `refused`, `failed`, `timeout`, `open` (not made: LiveKit was silent before)."""
        ...


class RoomLimits:
    """What every room is made with. Seconds: how long LiveKit keeps it open while nobody has come, and after the last
    one has left. participants: at once, 0 = any number."""

    __slots__ = ("departure_seconds", "empty_seconds", "participants")

    def __init__(self, empty_seconds: int, departure_seconds: int, participants: int) -> None:
        self.empty_seconds = empty_seconds
        self.departure_seconds = departure_seconds
        self.participants = participants


class LiveKit:
    """A `RoomService` at an address. Needs a running loop; `aclose` ends it."""

    def __init__(
        self,
        url: str,
        key: str,
        secret: str,
        *,
        limits: RoomLimits,
        timeout_seconds: float,
        observer: Observer,
    ) -> None:
        import aiohttp
        from livekit import api

        self._api: LiveKitAPI = api.LiveKitAPI(url, key, secret)
        self._made = api
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._failures = (TimeoutError, OSError, aiohttp.ClientError)
        self._breaker = Breaker(FAILURES_MAX, RESET_SECONDS)
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)

    def __repr__(self) -> str:
        return "LiveKit(***)"

    async def open(self, name: str, metadata: str) -> Found:
        """See the protocol. Cost: one call; two where the room was there and says something else."""
        limits, made = self._limits, self._made
        before = await self._room(name)
        if before.sid is not None:
            await self.configure(name, metadata)
            return await self.look(name)
        wanted = made.CreateRoomRequest(
            name=name,
            metadata=metadata,
            empty_timeout=limits.empty_seconds,
            departure_timeout=limits.departure_seconds,
            max_participants=limits.participants,
        )
        room = await self._call("create_room", lambda calls: calls.create_room(wanted))
        return Found(room.sid, room.metadata)

    async def look(self, name: str) -> Found:
        """See the protocol. Cost: two calls at once; LiveKit's own counts of people are not to be trusted."""
        room, people = await asyncio.gather(self._room(name), self._people(name))
        return room if room.sid is None else room._replace(people=people)

    async def _people(self, name: str) -> tuple[Person, ...]:
        asked = self._made.ListParticipantsRequest(room=name)
        try:
            listed = await self._call("list_participants", lambda calls: calls.list_participants(asked))
        except _NotThere:
            return ()
        return tuple(_person(one) for one in listed.participants if not _has_gone(one))

    async def _room(self, name: str) -> Found:
        asked = self._made.ListRoomsRequest(names=[name])
        listed = await self._call("list_rooms", lambda calls: calls.list_rooms(asked))
        for room in listed.rooms:
            if room.name == name:
                return Found(room.sid, room.metadata)
        return Found(None)

    async def configure(self, name: str, metadata: str) -> None:
        asked = self._made.UpdateRoomMetadataRequest(room=name, metadata=metadata)
        await self._unless_gone("update_room_metadata", lambda calls: calls.update_room_metadata(asked))

    async def remove(self, name: str, identity: str) -> None:
        asked = self._made.RoomParticipantIdentity(room=name, identity=identity)
        await self._unless_gone("remove_participant", lambda calls: calls.remove_participant(asked))

    async def mute(self, name: str, identity: str, track_sid: str) -> None:
        asked = self._made.MuteRoomTrackRequest(room=name, identity=identity, track_sid=track_sid, muted=True)
        await self._unless_gone("mute_published_track", lambda calls: calls.mute_published_track(asked))

    async def tell(self, name: str, topic: str, payload: bytes) -> None:
        asked = self._made.SendDataRequest(room=name, data=payload, kind="RELIABLE", topic=topic)
        await self._unless_gone("send_data", lambda calls: calls.send_data(asked))

    async def delete(self, name: str) -> None:
        asked = self._made.DeleteRoomRequest(room=name)
        await self._unless_gone("delete_room", lambda calls: calls.delete_room(asked))

    async def aclose(self) -> None:
        """Close the connections; what is under way fails."""
        await self._api.aclose()

    # -- inside

    async def _unless_gone(self, operation: str, call: Callable[[Calls], Awaitable[object]]) -> None:
        try:
            await self._call(operation, call)
        except _NotThere:
            return

    async def _call(self, operation: str, call: Callable[[Calls], Awaitable[T]]) -> T:
        try:
            trial = self._breaker.admit()
        except CircuitOpen:
            self._observer.livekit(operation, "open", 0.0)
            raise UpstreamFailed("LiveKit has not answered lately; it is asked again soon") from None
        began, outcome = time.monotonic(), "cancelled"
        try:
            async with asyncio.timeout(self._timeout_seconds), self._at_once:
                answer = await call(self._api.room)
            outcome = "ok"
            self._breaker.succeeded(trial=trial)
            return answer
        except self._made.ServerError as error:
            # A message of the server may hold what it was told: its code says enough.
            outcome = self._judge(operation, error.code, error.status, error, trial=trial)
            if outcome == "gone":
                raise _NotThere from None
            raise UpstreamFailed(f"LiveKit answered {operation} with {error.status} ({error.code})") from None
        except self._failures as error:
            outcome = "timeout" if isinstance(error, TimeoutError) else "failed"
            self._breaker.failed(error, trial=trial)
            raise UpstreamFailed(f"LiveKit could not be reached ({outcome})") from None
        except BaseException:
            self._breaker.undecided(trial=trial)
            raise
        finally:
            self._observer.livekit(operation, outcome, time.monotonic() - began)

    def _judge(self, operation: str, code: str, status: int, error: BaseException, *, trial: bool) -> str:
        gone = code == GONE or (code == UNSERVED and operation in FOR_THOSE_INSIDE)
        if status >= 500 and not gone:
            self._breaker.failed(error, trial=trial)
            return "failed"
        self._breaker.succeeded(trial=trial)
        return "gone" if gone else "refused"


class _NotThere(UpstreamFailed):
    """The room, or whoever was to be in it, is not there."""


def _has_gone(info: ParticipantInfo) -> bool:
    return info.state == info.DISCONNECTED


def _person(info: ParticipantInfo) -> Person:
    microphone, track = _microphone(info)
    kind = info.Kind.Name(info.kind).lower()
    return Person(
        identity=info.identity,
        sid=info.sid,
        kind=kind,
        active=info.state == info.ACTIVE,
        hidden=info.permission.hidden,
        counts=kind != "egress" and not info.permission.recorder,
        bound=info.attributes.get("participant_id"),
        microphone=microphone,
        microphone_sid=track,
        attributes=dict(info.attributes),
    )


def _microphone(info: ParticipantInfo) -> tuple[Microphone, str]:
    """The state and the sid of somebody's microphone; one that is open before one that is muted."""
    from livekit.protocol.models import TrackSource

    found: tuple[Microphone, str] = ("none", "")
    for track in info.tracks:
        if track.source != TrackSource.MICROPHONE:
            continue
        if not track.muted:
            return "open", track.sid
        found = ("muted", track.sid)
    return found
