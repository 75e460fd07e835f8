"""What this service asks of LiveKit. Names of rooms come from sessions, so that everything may be done twice."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sessionmanager.model.rooms.looking import Person


class Found(NamedTuple):
    """A room as LiveKit lists it. sid: None = there is no such room."""

    sid: str | None
    metadata: str = ""
    people: tuple[Person, ...] = ()


class RoomService(Protocol):
    """Every method raises UpstreamFailed: LiveKit gave no answer in time, or refused. What is not there any more is no
    failure: it is gone already."""

    async def open(self, name: str, metadata: str) -> Found:
        """Make the room, or take the one that is there under this name."""
        ...

    async def look(self, name: str) -> Found:
        """The room, and everybody in it."""
        ...

    async def configure(self, name: str, metadata: str) -> None:
        """Set the room's metadata; everybody in it is told."""
        ...

    async def remove(self, name: str, identity: str) -> None:
        """Take somebody out. A token that is still good lets it in again."""
        ...

    async def mute(self, name: str, identity: str, track_sid: str) -> None:
        """Mute a track of somebody. Nobody but its owner can open it again."""
        ...

    async def tell(self, name: str, topic: str, payload: bytes) -> None:
        """A reliable data packet to everybody in the room."""
        ...

    async def delete(self, name: str) -> None:
        """Close the room; everybody in it is disconnected."""
        ...
