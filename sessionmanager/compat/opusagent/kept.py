"""What a session holds of an OpusAgent state: pure, both ways.

What a session has a field for lies there, so that everybody else reads it: names, caller, ids at the model, metadata,
and each item said and each function call as an entry of the log. Everything else of the state, as it came, lies in the
session's `context` under `opusagent`; what an entry has no member for, in the entry's `data` under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from sessionmanager.compat.opusagent.models.session_state import as_local
from sessionmanager.fields import Name, Text
from sessionmanager.wire.answers import Session
from sessionmanager.wire.common import DEFAULT_LIMITS
from sessionmanager.words import Status

RECORD: Final = "opusagent"
"""The member of `context`, and of an entry's `data`, that is this package's."""
HISTORY: Final = "conversation_history"
CALLS: Final = "function_calls"
LISTS: Final = (HISTORY, CALLS)
AUDIO: Final = "audio_buffer"
LEFT: Final = "left"
"""Member of the record: why this life of the conversation is none any more (`expired`, `evicted`, `replaced`)."""
MEMBERS: Final = "members"
"""Member of the record: the names that the state had."""
CHUNKS: Final = "audio_chunks"
"""Member of the record: how many pieces of audio lie in the attachment."""
_OWN: Final = frozenset((LEFT, MEMBERS, CHUNKS))
_PLAIN: Final = ("bridge_type", "bot_name", "caller", "media_format")
_REALTIME: Final[Mapping[str, str]] = {
    "openai_session_id": "session_id",
    "openai_conversation_id": "conversation_id",
    "active_response_id": "active_response_id",
}
_SHOWN: Final[Mapping[Status, str]] = {
    "initiated": "initiated",
    "waiting_for_services": "initiated",
    "ready": "active",
    "active": "active",
    "dormant": "paused",
    "ending": "active",
    "ended": "ended",
    "error": "error",
}
_SAID: Final = frozenset(("initiated", "active"))


def plain(name: str, value: Any) -> Any:
    """A value as JSON has it. Raises ValueError, naming the member: JSON cannot hold it."""
    try:
        return json.loads(json.dumps(value, default=_plain_other, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def _plain_other(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"JSON holds no {type(value).__name__}")


# -- members


class Split(msgspec.Struct, frozen=True):
    """A state without its lists: what goes into the session's own fields, and the record of the rest."""

    fields: dict[str, Any]
    record: dict[str, Any]


def split(known: Mapping[str, Any]) -> Split:
    """known: a state as JSON has it."""
    own: dict[str, Any] = {"metadata": {}, "realtime": {}}
    record: dict[str, Any] = {MEMBERS: sorted(known)}
    if known.get(AUDIO):
        record[CHUNKS] = len(known[AUDIO])
    for name, value in known.items():
        if name in _PLAIN and fits(value):
            own[name] = value
        elif name in _REALTIME and fits(value):
            own["realtime"][_REALTIME[name]] = value
        elif name == "metadata" and isinstance(value, dict):
            own["metadata"], rest = _metadata(cast("dict[str, Any]", value))
            if rest:
                record[name] = rest
        elif name not in (*LISTS, AUDIO):
            record[name] = value
    return Split(own, record)


def members(data: Mapping[str, Any]) -> dict[str, Any]:
    """A state without its lists and its audio."""
    return {name: value for name, value in data.items() if name not in (*LISTS, AUDIO)}


def joined(session: Session, record: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a state, without its lists and its audio, of what the session holds."""
    known: dict[str, Any] = {"conversation_id": session.id, "status": "", "metadata": dict(session.metadata)}
    known |= {name: value for name in _PLAIN if (value := getattr(session, name)) is not None}
    known |= {name: value for name, own in _REALTIME.items() if (value := getattr(session.realtime, own)) is not None}
    kept = {name: value for name, value in record.items() if name not in _OWN}
    if isinstance(kept.get("metadata"), dict):
        known["metadata"] |= kept.pop("metadata")
    known |= kept
    # Whoever else ended the session, failed it or put it to sleep, is believed; else the state's own word stands.
    shown, word = _SHOWN[session.status], known["status"]
    if shown not in _SAID or word in ("", "paused", "ended", "error"):
        known["status"] = shown
    if MEMBERS in record:
        if "status" not in record[MEMBERS] and shown in _SAID:
            del known["status"]
        if "metadata" not in record[MEMBERS] and not known["metadata"]:
            del known["metadata"]
    else:
        known |= {
            "created_at": as_local(session.created_at).isoformat(),
            "last_activity": as_local(session.last_activity).isoformat(),
            "resumed_count": session.resumed_count,
            "current_turn": session.current_turn,
            "error_count": session.error_count,
            "last_error": session.last_error,
        }
    return known


def own(session: Session) -> dict[str, Any]:
    """The session's fields that a state is spread over, as `split` gives them."""
    plain_ones = {name: value for name in _PLAIN if (value := getattr(session, name)) is not None}
    realtime = {name: value for name in _REALTIME.values() if (value := getattr(session.realtime, name)) is not None}
    return {**plain_ones, "metadata": dict(session.metadata), "realtime": realtime}


def fits(value: Any) -> bool:
    """Whether a session's field of text can hold it."""
    try:
        msgspec.convert(value, Text)
    except msgspec.ValidationError:
        return False
    return True


def _metadata(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that a session's metadata can hold, and the others."""
    own: dict[str, Any] = {}
    for name, value in values.items():
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            continue
        # null would be taken for "no such member" by whoever merges.
        if value is not None and not isinstance(value, list):
            own[name] = value
    if len(own) > DEFAULT_LIMITS.metadata_keys_max or len(msgspec.json.encode(own)) > DEFAULT_LIMITS.metadata_bytes_max:
        return {}, dict(values)
    return own, {name: value for name, value in values.items() if name not in own}


def operations(before: Split | None, after: Split, labels: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """What changes one into the other, as a JSON patch (RFC 6902), so that members that others changed stay theirs.

    before: None = the session has no record yet.
    """
    found: list[dict[str, Any]] = []
    if labels is not None:
        found.append({"op": "add", "path": "/labels", "value": list(labels)})
    for name in _PLAIN:
        new = after.fields.get(name)
        if new != (before.fields.get(name) if before else None):
            found.append({"op": "add", "path": f"/{name}", "value": new})
    realtime = after.fields["realtime"]
    if realtime != (before.fields["realtime"] if before else {}):
        found.append({"op": "add", "path": "/realtime", "value": realtime})
    found += _members("/metadata", before.fields["metadata"] if before else {}, after.fields["metadata"])
    if before is None:
        found.append({"op": "add", "path": "/context", "value": {RECORD: after.record}})
    else:
        found += _members(f"/context/{RECORD}", before.record, after.record)
    return found


def _members(place: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    def pointer(name: str) -> str:
        return f"{place}/{name.replace('~', '~0').replace('/', '~1')}"

    gone = [{"op": "remove", "path": pointer(name)} for name in before if name not in after]
    new = [
        {"op": "add", "path": pointer(name), "value": value}
        for name, value in after.items()
        if name not in before or before[name] != value
    ]
    return gone + new


def record_of(session: Session) -> dict[str, Any] | None:
    """The record in the session's context; None where this package has written nothing yet."""
    context = session.context
    if not isinstance(context, dict):
        return None
    found = cast("dict[str, Any]", context).get(RECORD)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
