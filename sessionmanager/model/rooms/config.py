"""What a session's room is called, and what its metadata says: made from the session, so that it can be made twice.

The metadata is the front end's own configuration, in its words (camelCase). Whoever else writes into it keeps what is
theirs: only the members of ours are held against the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from sessionmanager.words import Key, SessionType

TAG_BYTES: Final = 8
METADATA_BYTES_MAX: Final = 64 * 1024
"""Of what others have written into a room's metadata; more than that is not kept."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Mode(NamedTuple):
    """What a type of session means for its room."""

    turn_detection: str
    voice_mode: str | None
    voice: bool


MODES: Final[Mapping[SessionType | None, Mode]] = {
    None: Mode("none", None, False),
    "text": Mode("none", None, False),
    "voice-ptt": Mode("client", "push-to-talk", True),
    "voice-vad": Mode("server", "continuous", True),
}


def room_name(key: Key) -> str:
    """The room of a session. Two sessions never share one: the tag is of tenant and id, and ids of one tenant differ.

    That it is this session's is no secret; what keeps others out is that tokens are bound to one room.
    """
    return f"{key.id}-{hashlib.blake2b(key.text.encode(), digest_size=TAG_BYTES).hexdigest()}"


def config_of(key: Key, kind: SessionType | None) -> dict[str, Any]:
    """The members of a room's metadata that follow from its session (the reference "Rooms")."""
    mode = MODES[kind]
    return {
        "sessionId": key.id,
        "roomId": room_name(key),
        "sessionType": kind,
        "turnDetection": mode.turn_detection,
        "voiceMode": mode.voice_mode,
        "voiceActivityEnabled": mode.voice,
        "adaptiveStream": True,
        "dynacast": True,
        "audioSettings": {"echoCancellation": True, "noiseSuppression": True, "autoGainControl": True},
    }


def deviations(wanted: Mapping[str, Any], metadata: str) -> dict[str, Any]:
    """The members of ours that a room's metadata has otherwise, with what they should be."""
    there = _members(metadata)
    return {name: value for name, value in wanted.items() if name not in there or there[name] != value}


def merged(wanted: Mapping[str, Any], metadata: str) -> str:
    """The metadata with our members set, and those of others kept."""
    return _encode({**_members(metadata), **wanted}).decode()


def _members(metadata: str) -> dict[str, Any]:
    """What a room's metadata says; text that is no JSON object, or too much of it, says nothing."""
    if not metadata or len(metadata) > METADATA_BYTES_MAX:
        return {}
    try:
        there: Any = _decode(metadata)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return {}
    return cast("dict[str, Any]", there) if isinstance(there, dict) else {}
