"""Bodies of rooms: what is sent, what is answered, and what LiveKit tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, field

from sessionmanager.errors import FieldError
from sessionmanager.wire.common import END, At, Limits, Masked
from sessionmanager.words import SyncState

OWN_TRIGGERS: Final = ("timer", "webhook", "session", "initial", "reconnect")
"""Words by which the service says why it looked by itself."""


class Room(Struct, frozen=True, kw_only=True):
    """The LiveKit room of a session, as far as is known. `sid`: of the one that is open now, null while none is.

    `sync_attempts`: corrections so far. `inconsistencies`: what does not agree now and only participants can mend.
    `interrupted_at`: since when LiveKit cannot be reached, or the room is lost.
    """

    name: str
    sid: str | None = None
    sync_state: SyncState = "syncing"
    sync_enabled: bool = True
    sync_attempts: int = 0
    last_sync_at: At | None = None
    inconsistency_detected: bool = False
    inconsistencies: tuple[str, ...] = ()
    interrupted_at: At | None = None


class LiveKitAccess(Masked, frozen=True, kw_only=True):
    """How a participant joins its session's room: connect to `url` with `token`, before it expires."""

    url: str
    room: str
    identity: str
    token: str
    expires_at: At


class RoomBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/room`: the session has a room from now on. `sync_enabled`: whether it is held against the
    session."""

    sync_enabled: bool | UnsetType = UNSET


class RoomConfig(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the room's metadata says, for front ends; it follows from the session's `type`."""

    session_id: str
    room_id: str
    session_type: str | None
    turn_detection: str
    voice_mode: str | None
    voice_activity_enabled: bool
    adaptive_stream: bool
    dynacast: bool
    audio_settings: dict[str, bool]


class RoomAnswer(Struct, frozen=True, kw_only=True):
    """The room of a session, and what its metadata should say."""

    session_id: str
    version: int
    room: Room
    config: RoomConfig


class SyncBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/room/sync`. `trigger`: a word of yours that says why, for the log."""

    trigger: Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[^\x00-\x1f\x7f]+{END}")] = "manual"

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if self.trigger in OWN_TRIGGERS:
            yield FieldError("/trigger", f"another word: {', '.join(OWN_TRIGGERS)} are the service's own")


class SyncAnswer(Struct, frozen=True, kw_only=True):
    """What a look at the room found, and did. `inconsistencies` that are not in the room's own list were corrected.

    `is_valid`: nothing was found. `needs_resync`: something is left that will be looked at again.
    """

    session_id: str
    version: int
    trigger: str
    is_valid: bool
    inconsistencies: tuple[str, ...]
    corrections: dict[str, Any]
    needs_resync: bool
    sync_state: SyncState
    sync_attempts: int
    last_sync_at: At | None
    inconsistency_detected: bool
    room: Room


class LiveKitRoom(Struct, frozen=True, kw_only=True):
    """The members of a room that are read."""

    name: str = ""


class LiveKitWebhook(Struct, frozen=True, kw_only=True):
    """`POST /livekit/webhook`, as LiveKit sends and signs it: protobuf JSON, of which these members are read."""

    event: str
    id: str = ""
    room: LiveKitRoom | None = None
    created_at: str | None = field(default=None, name="createdAt")


class Heeded(Struct, frozen=True, kw_only=True):
    """What came of a webhook: `heeded`, `repeated`, `unknown-room`, `ignored`."""

    outcome: str
