"""Every message of Media Streams, as types: JSON text ⇄ one of them.

Only three shapes may be sent, each with the stream's own `streamSid` and no member more: anything else is warning
31951, reported once a stream, and ignored. Source: Twilio, "Media Streams: WebSocket messages"; errors 31924 to 31951.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sessionmanager.bridges.twilio.frames import FrameReader

Sid = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
Digit = Annotated[str, Meta(min_length=1, max_length=1, pattern=r"[0-9*#A-D]")]


class _Camel(Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class MediaFormatSaid(_Camel, frozen=True, kw_only=True):
    """Always µ-law at 8 kHz, one channel."""

    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class StartDetail(_Camel, frozen=True, kw_only=True):
    """Which call the stream is of."""

    stream_sid: Sid
    call_sid: Sid
    account_sid: str = ""
    tracks: tuple[str, ...] = ()
    custom_parameters: Any = None
    media_format: MediaFormatSaid = msgspec.field(default_factory=MediaFormatSaid)


class MediaDetail(_Camel, frozen=True, kw_only=True):
    """Sound. chunk, timestamp: texts of numbers; milliseconds since the stream began."""

    payload: bytes
    track: str = "inbound"
    chunk: str = ""
    timestamp: str = ""


class DtmfDetail(_Camel, frozen=True, kw_only=True):
    """One key."""

    digit: Digit
    track: str = ""


class MarkDetail(_Camel, frozen=True, kw_only=True):
    """A place in what we sent."""

    name: Annotated[str, Meta(max_length=256)]


class StopDetail(_Camel, frozen=True, kw_only=True):
    """Whose stream is over."""

    account_sid: str = ""
    call_sid: str = ""


class Connected(_Camel, frozen=True, kw_only=True, tag_field="event", tag="connected"):
    """The first message; it names no call."""

    protocol: str = ""
    version: str = ""


class _OfStream(_Camel, frozen=True, kw_only=True, tag_field="event"):
    stream_sid: str = ""
    sequence_number: str = ""


class Start(_OfStream, frozen=True, kw_only=True, tag="start"):
    """The second one, once."""

    start: StartDetail


class Media(_OfStream, frozen=True, kw_only=True, tag="media"):
    """About every 20 ms, silence too."""

    media: MediaDetail


class Dtmf(_OfStream, frozen=True, kw_only=True, tag="dtmf"):
    """The caller pressed a key."""

    dtmf: DtmfDetail


class Mark(_OfStream, frozen=True, kw_only=True, tag="mark"):
    """Our mark was played up to, or flushed by `clear`."""

    mark: MarkDetail


class Stop(_OfStream, frozen=True, kw_only=True, tag="stop"):
    """The call has ended, or the stream was stopped."""

    stop: StopDetail = msgspec.field(default_factory=StopDetail)


Inward = Connected | Start | Media | Dtmf | Mark | Stop
_NAMES: Final = frozenset(("connected", "start", "media", "dtmf", "mark", "stop"))
_reader: Final[FrameReader[Inward]] = FrameReader(Inward, "event", _NAMES)
decode = _reader.read
"""A frame → its message. Raises Unreadable."""


# -- what we send


class _Payload(Struct, frozen=True):
    payload: bytes


class _Name(Struct, frozen=True):
    name: str


class _SendMedia(Struct, frozen=True, rename="camel"):
    event: Literal["media"]
    stream_sid: str
    media: _Payload


class _SendMark(Struct, frozen=True, rename="camel"):
    event: Literal["mark"]
    stream_sid: str
    mark: _Name


class _SendClear(Struct, frozen=True, rename="camel"):
    event: Literal["clear"]
    stream_sid: str


_encoder: Final = msgspec.json.Encoder()


def media(stream_sid: str, mulaw: bytes) -> str:
    """Play this. mulaw: raw, at 8 kHz, of any length but none."""
    return _encoder.encode(_SendMedia("media", stream_sid, _Payload(mulaw))).decode()


def mark(stream_sid: str, name: str) -> str:
    """Say when everything sent before it was played, or flushed."""
    return _encoder.encode(_SendMark("mark", stream_sid, _Name(name))).decode()


def clear(stream_sid: str) -> str:
    """Stop playing and forget what is queued; every mark in it comes back."""
    return _encoder.encode(_SendClear("clear", stream_sid)).decode()
