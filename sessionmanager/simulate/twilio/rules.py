"""What Twilio takes over a socket, and how it signs: pure, and strict where the real one would only warn.

Sources: Twilio, "Media Streams: WebSocket messages", errors 31924, 31950, 31951, 64107; "ConversationRelay: WebSocket
messages"; "Security: validating requests". Written without the bridge's own reading of them, so that a mistake there is
seen here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from sessionmanager.simulate.calling.caller import Refused

Json = dict[str, Any]

STREAM_SHAPES: Final[Mapping[str, tuple[set[str], str | None]]] = {
    "media": ({"event", "streamSid", "media"}, "payload"),
    "mark": ({"event", "streamSid", "mark"}, "name"),
    "clear": ({"event", "streamSid"}, None),
}
"""Event → its members, all of them and no other, and the one member of its part."""
RELAY_SHAPES: Final[Mapping[str, tuple[set[str], set[str]]]] = {
    "text": ({"token"}, {"last", "lang", "interruptible", "preemptible"}),
    "play": ({"source"}, {"loop", "preemptible", "interruptible"}),
    "sendDigits": ({"digits"}, set()),
    "language": (set(), {"ttsLanguage", "transcriptionLanguage"}),
    "end": (set(), {"handoffData"}),
}
"""Type → members that must be there, and those that may."""


def signature(address: str, form: Mapping[str, str], auth_token: str) -> str:
    """Of a webhook; of a handshake with an empty form and the address that the TwiML has."""
    text = address
    for name in sorted(form):
        text += name + form[name]
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _object(frame: str | bytes) -> Json:
    if isinstance(frame, bytes):
        raise Refused("31950: a binary frame")
    try:
        message: Any = json.loads(frame)
    except ValueError:
        raise Refused("31951: a frame that is no JSON") from None
    if not isinstance(message, dict):
        raise Refused("31951: a frame that is no object")
    return cast("Json", message)


def from_stream(frame: str | bytes, stream_sid: str) -> Json:
    """A message to a media stream. Raises Refused."""
    message = _object(frame)
    event = message.get("event")
    if not isinstance(event, str) or event not in STREAM_SHAPES:
        raise Refused(f"31951: the event {event!r}")
    members, inner = STREAM_SHAPES[event]
    if set(message) != members:
        raise Refused(f"31951: {event} with the members {', '.join(sorted(message))}")
    if message["streamSid"] != stream_sid:
        raise Refused("31951: another stream's streamSid")
    if inner is not None:
        part = message[event]
        if not isinstance(part, dict) or set(cast("Json", part)) != {inner} or not isinstance(part[inner], str):
            raise Refused(f"31951: {event} without {inner} alone")
    return message


def sound_of(message: Json) -> bytes:
    """The µ-law of a media message. Raises Refused."""
    try:
        sound = base64.b64decode(message["media"]["payload"], validate=True)
    except (binascii.Error, ValueError):
        raise Refused("31951: a payload that is no base64") from None
    if not sound or sound[:4] == b"RIFF":
        raise Refused("31951: a payload that is no raw µ-law")
    return sound


def from_relay(frame: str | bytes, *, ended: bool) -> Json:
    """A message to a ConversationRelay. ended: `end` has come before. Raises Refused."""
    message = _object(frame)
    type_ = message.get("type")
    if not isinstance(type_, str) or type_ not in RELAY_SHAPES:
        raise Refused(f"64107: the type {type_!r}")
    must, may = RELAY_SHAPES[type_]
    members = set(message) - {"type"}
    if not must <= members or not members <= must | may:
        raise Refused(f"64107: {type_} with the members {', '.join(sorted(message))}")
    texts = members & {"token", "source", "digits", "handoffData", "lang", "ttsLanguage", "transcriptionLanguage"}
    if not all(isinstance(message[name], str) for name in texts):
        raise Refused(f"64107: {type_} with something else than text")
    if ended:
        raise Refused(f"64107: {type_} after end")
    return message
