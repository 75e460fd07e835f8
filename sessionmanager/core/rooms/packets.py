"""What those in a room are told of it: the log's entries about the room, in the front end's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sessionmanager.model import instants
from sessionmanager.model.entry import StoredEntry, decode_entry
from sessionmanager.model.rooms.config import MODES
from sessionmanager.model.rooms.events import RoomData, decode_event
from sessionmanager.words import Instant, Key, SessionType

TOPIC: Final = "sessionmanager.sync"
PACKET_BYTES_MAX: Final = 14_000
"""LiveKit takes 15 KiB for a reliable packet; what is larger is told without its details."""
_encode = msgspec.json.Encoder().encode


def packets(key: Key, kind: SessionType | None, lines: Sequence[StoredEntry]) -> Iterator[bytes]:
    """The payloads for the entries of one commit; alerts are for people elsewhere."""
    for line in lines:
        entry = decode_entry(line.data)
        if entry.type != "room" or not entry.data:
            continue
        data = decode_event(entry.data)
        if data.event == "alert":
            continue
        packet = _encode(_packet(key, kind, data, entry.recorded_at))
        if len(packet) > PACKET_BYTES_MAX:
            short = msgspec.structs.replace(data, inconsistencies=(), corrections={})
            packet = _encode(_packet(key, kind, short, entry.recorded_at))
        yield packet


def _packet(key: Key, kind: SessionType | None, data: RoomData, at: Instant) -> dict[str, Any]:
    room, mode = data.room, MODES[kind]
    return {
        "type": data.event,
        "payload": {
            "sessionId": key.id,
            "trigger": data.trigger,
            "timestamp": instants.to_ms(at),
            "roomState": {
                "state": room.sync_state,
                "roomId": room.name,
                "roomSid": room.sid,
                "turnDetection": mode.turn_detection,
                "voiceMode": mode.voice_mode,
                "voiceActivityEnabled": mode.voice,
                "lastSyncAt": None if room.last_sync_at is None else instants.to_ms(room.last_sync_at),
                "syncAttempts": room.sync_attempts,
                "inconsistencyDetected": room.inconsistency_detected,
            },
            "inconsistencies": data.inconsistencies,
            "corrections": data.corrections,
            "critical": data.critical,
        },
    }
