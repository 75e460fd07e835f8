"""Every message of the Bot API's streaming mode, as types: JSON text ⇄ one of them.

What cannot be read is told by `Unreadable` and never closes a socket: the vendor's own server logs and ignores it.
Members that the API does not name are let through. Sources: AudioCodes techdocs, "Bot API: streaming mode"; the
vendor's server SDK, audiocodes/ac-bot-api 0.13.0, `src/websocket/types.ts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""Of one frame; a second of the widest format is 64 KiB in base64."""
ACTIVITIES_MAX: Final = 64
"""Of one message; the others are left out and told."""
TEXT_MAX: Final = 256
"""Characters of a name, number or reason that are kept."""

ConversationId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"\A[!-~](?:[ -~]*[!-~])?\Z")]
"""A uuid as a rule; taken as opaque text that can be the id of a session."""


class Unreadable(ValueError):
    """A frame that is no message of the API. kind: `binary`, `not-json`, `unknown-type`, `wrong-field`, `too-large`."""

    def __init__(self, kind: str, type_: str | None = None) -> None:
        super().__init__(f"{kind}{f' in {type_}' if type_ else ''}")
        self.kind = kind
        self.type = type_


# -- VAIC → bot


class _Inward(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What every message to the bot has. participant: in agent-assist calls alone, whose stream it is."""

    conversation_id: ConversationId = ""
    participant: Any = None


class ConnectionValidate(_Inward, frozen=True, kw_only=True, tag="connection.validate"):
    """Is this a bot? It makes no conversation."""


class SessionInitiate(_Inward, frozen=True, kw_only=True, tag="session.initiate"):
    """A call begins. Its free members are judged by `text_of`: a wrong one must not cost the call."""

    expect_audio_messages: Any = True
    supported_media_formats: tuple[Any, ...] | None = ()
    caller: Any = None
    bot_name: Any = None


class SessionResume(_Inward, frozen=True, kw_only=True, tag="session.resume"):
    """The call goes on over another socket."""

    supported_media_formats: tuple[Any, ...] | None = ()


class SessionEnd(_Inward, frozen=True, kw_only=True, tag="session.end"):
    """The call is over."""

    reason_code: Any = None
    reason: Any = None


class UserStreamStart(_Inward, frozen=True, kw_only=True, tag="userStream.start"):
    """The caller's sound begins."""


class UserStreamPiece(_Inward, frozen=True, kw_only=True, tag="userStream.chunk"):
    """Some of it."""

    audio_chunk: bytes


class UserStreamStop(_Inward, frozen=True, kw_only=True, tag="userStream.stop"):
    """It ends."""


class MarkReached(_Inward, frozen=True, kw_only=True, tag="playStream.mark.reached"):
    """The caller has heard so far. How a mark is called there is not known: every member is looked at by nobody."""


class ActivitiesCame(_Inward, frozen=True, kw_only=True, tag="activities"):
    """Things that happened, each read by itself: a bad one does not cost the others."""

    activities: tuple[msgspec.Raw, ...]


Inward = (
    ConnectionValidate
    | SessionInitiate
    | SessionResume
    | SessionEnd
    | UserStreamStart
    | UserStreamPiece
    | UserStreamStop
    | MarkReached
    | ActivitiesCame
)


class Activity(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message or an event, in either direction. id: of the activity; it may be delivered twice under the same one."""

    type: Literal["message", "event"]
    name: str | UnsetType | None = UNSET
    text: str | UnsetType | None = UNSET
    value: Any = UNSET
    id: str | UnsetType | None = UNSET
    timestamp: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    activity_params: dict[str, Any] | UnsetType | None = UNSET
    session_params: dict[str, Any] | UnsetType | None = UNSET
    participant: Any = UNSET


# -- bot → VAIC


class _Outward(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", omit_defaults=True):
    pass


class ConnectionValidated(_Outward, frozen=True, kw_only=True, tag="connection.validated"):
    """Yes, this is a bot."""

    success: Literal[True]


class SessionAccepted(_Outward, frozen=True, kw_only=True, tag="session.accepted"):
    """To both `session.initiate` and `session.resume`."""

    media_format: str


class SessionResumed(_Outward, frozen=True, kw_only=True, tag="session.resumed"):
    """OpusAgent's own, after the vendor's `session.accepted` (decision 0012)."""

    conversation_id: str
    session_id: str


class SessionError(_Outward, frozen=True, kw_only=True, tag="session.error"):
    """VAIC hangs up on it."""

    reason: str
    conversation_id: str | UnsetType = UNSET


class UserStreamStarted(_Outward, frozen=True, kw_only=True, tag="userStream.started"):
    """To `userStream.start`."""

    participant: Any = UNSET


class UserStreamStopped(_Outward, frozen=True, kw_only=True, tag="userStream.stopped"):
    """To `userStream.stop`."""

    participant: Any = UNSET


class SpeechStarted(_Outward, frozen=True, kw_only=True, tag="userStream.speech.started"):
    """The caller begins to speak."""

    participant: Any = UNSET


class SpeechStopped(_Outward, frozen=True, kw_only=True, tag="userStream.speech.stopped"):
    """The caller stops speaking."""

    participant: Any = UNSET


class Heard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of what was said. confidence: 0 to 1."""

    text: str
    confidence: float | UnsetType = UNSET


class SpeechHypothesis(_Outward, frozen=True, kw_only=True, tag="userStream.speech.hypothesis"):
    """What the caller seems to say; VAIC uses it for barge-in."""

    alternatives: tuple[Heard, ...]


class SpeechRecognition(_Outward, frozen=True, kw_only=True, tag="userStream.speech.recognition"):
    """What the caller has said."""

    alternatives: tuple[Heard, ...]


class SpeechCommitted(_Outward, frozen=True, kw_only=True, tag="userStream.speech.committed"):
    """The caller's turn is over."""

    participant: Any = UNSET


class PlayStart(_Outward, frozen=True, kw_only=True, tag="playStream.start"):
    """The bot's sound begins; only one such stream may be open."""

    stream_id: str
    media_format: str
    alt_text: str | UnsetType = UNSET


class PlayPiece(_Outward, frozen=True, kw_only=True, tag="playStream.chunk"):
    """Some of it."""

    stream_id: str
    audio_chunk: bytes


class PlayStop(_Outward, frozen=True, kw_only=True, tag="playStream.stop"):
    """It ends, or is cut off."""

    stream_id: str


class ActivitiesSent(_Outward, frozen=True, kw_only=True, tag="activities"):
    """What the bot wants done."""

    activities: tuple[Activity, ...]


Outward = (
    ConnectionValidated
    | SessionAccepted
    | SessionResumed
    | SessionError
    | UserStreamStarted
    | UserStreamStopped
    | SpeechStarted
    | SpeechStopped
    | SpeechHypothesis
    | SpeechRecognition
    | SpeechCommitted
    | PlayStart
    | PlayPiece
    | PlayStop
    | ActivitiesSent
)

_inward: Final = msgspec.json.Decoder(Inward)
_activities: Final = msgspec.json.Decoder(Activity)
_encoder: Final = msgspec.json.Encoder()
_TYPES: Final = frozenset(one.__struct_config__.tag for one in Inward.__args__)


class _Kind(Struct, frozen=True):
    type: Any = None


def decode(frame: str | bytes) -> Inward:
    """The message in a frame. Raises Unreadable. Cost: one pass over its text."""
    if isinstance(frame, bytes):
        raise Unreadable("binary")
    if len(frame) > MESSAGE_BYTES_MAX:
        raise Unreadable("too-large")
    try:
        message = _inward.decode(frame)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _unreadable(frame) from None
    if isinstance(message, SessionInitiate | SessionResume) and not message.conversation_id:
        raise Unreadable("wrong-field", str(message.__struct_config__.tag))
    return message


def _unreadable(frame: str) -> Unreadable:
    try:
        kind = msgspec.json.decode(frame, type=_Kind).type
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Unreadable("not-json")
    if isinstance(kind, str) and kind in _TYPES:
        return Unreadable("wrong-field", kind)
    # The text of an unknown type is a stranger's: it is not handed on.
    return Unreadable("unknown-type")


def activities_of(message: ActivitiesCame) -> tuple[list[Activity], int]:
    """The activities of a message that can be read, and how many cannot."""
    found: list[Activity] = []
    for raw in message.activities[:ACTIVITIES_MAX]:
        try:
            found.append(_activities.decode(raw))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    return found, len(message.activities) - len(found)


def encode(message: Outward) -> str:
    """The text of a frame."""
    return _encoder.encode(message).decode()


def text_of(value: object) -> str | None:
    """A name or a number that the administrator's rules made: text, numbers as text, cut to `TEXT_MAX`; else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return "".join(c for c in str(value) if c.isprintable())[:TEXT_MAX].strip() or None
