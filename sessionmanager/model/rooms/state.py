"""What a head keeps of its LiveKit room. Imports nothing of the head, which holds it."""

from __future__ import annotations

from msgspec import Struct

from sessionmanager.words import Instant, SyncState


class Room(Struct, frozen=True, kw_only=True):
    """The room that a session asked for. Everything in it changes by commits alone (`model/rooms/events.py`).

    name: at LiveKit, made from the session's key. sid: of the room that is open there; None = none is, as far as is
    known. sync_attempts: corrections so far. last_sync_at: of the newest correction or first look.
    inconsistency_detected: since this room was opened. inconsistencies: those that only participants can mend.
    interrupted_at: since when LiveKit cannot be reached, or the room is lost.
    """

    name: str
    sid: str | None = None
    sync_state: SyncState = "syncing"
    sync_enabled: bool = True
    sync_attempts: int = 0
    last_sync_at: Instant | None = None
    inconsistency_detected: bool = False
    inconsistencies: tuple[str, ...] = ()
    interrupted_at: Instant | None = None
