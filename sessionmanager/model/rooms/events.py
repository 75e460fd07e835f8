"""What happens to a session's room: the entries of the log, what each does to the head, and when it is looked at.

asked ─→ syncing ─first look→ active ⇄ syncing (lost, unreachable) ─→ error (unreachable for long)
           ↑                    │ everybody left, LiveKit has closed it
         (wakes, somebody comes)└→ idle          suspended, over: ending ─closed→ idle
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from sessionmanager.model import instants
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head
from sessionmanager.model.rooms.state import Room
from sessionmanager.model.services import CLIENT_KINDS, LIVE
from sessionmanager.words import Instant, Status

OWN_TRIGGERS: Final = ("timer", "webhook", "session")
"""Why the service looks by itself; every other word is of somebody who asked."""
FIRST_LOOK_SECONDS: Final = 1.0
"""After a room was opened, or lost: by then whoever was about to come is there."""

Event = Literal["room_state_change", "session_state_sync", "connection_interruption", "session_inconsistency", "alert"]


class RoomData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of a `room` entry. room: as it is afterwards. trigger: what made somebody look. reason: a word of ours.

    inconsistencies: what was found. corrections: what was set right, by its name. critical: somebody should be told.
    """

    event: Event
    trigger: str
    room: Room
    reason: str | None = None
    inconsistencies: tuple[str, ...] = ()
    corrections: dict[str, Any] = {}
    critical: bool = False


_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(RoomData).decode


def draft(data: RoomData) -> Draft:
    """The log entry of an event."""
    return Draft(type="room", data=Raw(_encode(data)))


def asked(name: str, *, enabled: bool = True, rests: bool = False) -> Draft:
    """The entry by which a session asks for its room. rests: it is opened when the session wakes."""
    room = Room(name=name, sync_enabled=enabled, sync_state="idle" if rests else "syncing")
    return draft(RoomData(event="room_state_change", trigger="manual", reason="asked", room=room))


# -- folds


def folded(head: Head, data: RoomData, at: Instant) -> Head:
    """The head after an event of its room."""
    head = replace(head, detail=replace(head.detail, room=data.room))
    if data.room.sync_state != "syncing":
        return head
    pause = FIRST_LOOK_SECONDS if data.room.sid is not None else 0.0
    return _looked_at(head, instants.plus(at, pause))


def after_status(head: Head, status: Status, before: str, at: Instant) -> Head:
    """A session that rests or is over closes its room at once; one that wakes opens it."""
    room = head.detail.room
    if room is None or (status in LIVE) == (before in LIVE):
        return head
    if status in LIVE:
        after = replace(room, sync_state="syncing", inconsistencies=(), interrupted_at=None)
    elif room.sid is None and room.sync_state == "idle":
        return head
    else:
        after = replace(room, sync_state="ending", inconsistencies=(), interrupted_at=None)
    return _looked_at(replace(head, detail=replace(head.detail, room=after)), at)


def _looked_at(head: Head, at: Instant) -> Head:
    return replace(head, work=replace(head.work, room_at=at))


# -- what is owed


def due(head: Head) -> Instant | None:
    """When the room must be looked at, opened or closed; None = never."""
    room = head.detail.room
    if room is None:
        return None
    at = head.work.room_at or head.pulse.updated_at
    if room.sync_state == "ending":
        return at
    if head.status not in LIVE:
        return None
    return at if room.sync_enabled or must_open(room) else None


def must_open(room: Room) -> bool:
    """Whether the session waits for its room to be opened."""
    return room.sid is None and room.sync_state in ("syncing", "error")


def is_used(head: Head) -> bool:
    """Whether somebody whom the session is for is in the room; services and agents alone keep nothing awake."""
    return any(person.room_sid is not None and person.kind in CLIENT_KINDS for person in head.detail.participants)
