"""What a realtime model's server says, as events of `upstream`. Unknown events are passed over: servers have more of
them each month. Members that are missing or of another type make an event one that is not understood, and no more."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from sessionmanager.bridges.realtime.names import CANONICAL
from sessionmanager.bridges.upstream import (
    CallerPartial,
    CallerSaid,
    Complaint,
    FunctionAsked,
    ItemAdded,
    ItemDone,
    ModelEvent,
    ResponseEnded,
    ResponseStarted,
    Sound,
    SpeechStarted,
    SpeechStopped,
    Words,
)


class _Item(Struct):
    id: str = ""
    type: str = ""
    role: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class _Reason(Struct):
    code: str | None = None
    type: str | None = None


class _Details(Struct):
    reason: str | None = None
    error: _Reason | None = None


class _Response(Struct):
    id: str = ""
    status: str = ""
    status_details: _Details | None = None


class Fault(Struct):
    """The `error` of an error event. event_id: of the client's event that it is about."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class _Session(Struct):
    id: str | None = None
    expires_at: float | None = None


class _Conversation(Struct):
    id: str | None = None


class Event(Struct):
    """A server's event, of whatever type: the members that are looked at."""

    type: str
    item_id: str = ""
    item: _Item | None = None
    delta: str = ""
    transcript: str | None = None
    text: str | None = None
    response: _Response | None = None
    error: Fault | None = None
    session: _Session | None = None
    conversation: _Conversation | None = None


EXPIRED: Final = "session_expired"
_events: Final = msgspec.json.Decoder(Event)


def read(data: str | bytes) -> Event | None:
    """An event in the names of the GA; None = it is not understood."""
    try:
        event = _events.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    event.type = CANONICAL.get(event.type, event.type)
    return event


def told_by(event: Event) -> ModelEvent | None:
    """What an event means to a call; None = nothing."""
    make = _READERS.get(event.type)
    return None if make is None else make(event)


def _added(event: Event) -> ModelEvent | None:
    item = event.item
    if item is None or not item.id:
        return None
    return ItemAdded(item.id, item.role if item.type == "message" else "")


def _sound(event: Event) -> ModelEvent | None:
    try:
        return Sound(event.item_id, base64.b64decode(event.delta, validate=True))
    except (binascii.Error, ValueError):
        return None


def _item_done(event: Event) -> ModelEvent | None:
    item = event.item
    if item is None:
        return None
    if item.type == "function_call":
        return FunctionAsked(item.id, item.call_id, item.name, item.arguments) if item.call_id and item.name else None
    return ItemDone(item.id) if item.type == "message" else None


def _started(event: Event) -> ModelEvent | None:
    return None if event.response is None else ResponseStarted(event.response.id)


def _ended(event: Event) -> ModelEvent | None:
    response = event.response
    if response is None:
        return None
    details = response.status_details
    reason = None if details is None else details.reason
    if details is not None and details.error is not None:
        reason = details.error.code or details.error.type or reason
    match response.status:
        case "completed" | "cancelled" | "incomplete" | "failed" as status:
            return ResponseEnded(response.id, status, reason)
        case _:
            return ResponseEnded(response.id, "completed", reason)


def _complaint(event: Event) -> ModelEvent | None:
    fault = event.error
    if fault is None:
        return None
    return Complaint(fault.code or fault.type or "error", fault.message or "", fault.event_id)


_READERS: Final[Mapping[str, Callable[[Event], ModelEvent | None]]] = {
    "input_audio_buffer.speech_started": lambda e: SpeechStarted(e.item_id or None),
    "input_audio_buffer.speech_stopped": lambda e: SpeechStopped(e.item_id or None),
    "conversation.item.added": _added,
    "conversation.item.input_audio_transcription.delta": lambda e: CallerPartial(e.item_id, e.delta),
    "conversation.item.input_audio_transcription.completed": lambda e: CallerSaid(e.item_id, e.transcript or ""),
    "conversation.item.input_audio_transcription.failed": lambda e: CallerSaid(e.item_id, None),
    "response.created": _started,
    "response.output_audio.delta": _sound,
    "response.output_audio_transcript.delta": lambda e: Words(e.item_id, e.delta),
    "response.output_text.delta": lambda e: Words(e.item_id, e.delta),
    "response.output_item.done": _item_done,
    "response.done": _ended,
    "error": _complaint,
}


def no_more(event: Event) -> str | None:
    """Why the connection is over, where an event says so; None = it goes on."""
    if event.type == "error" and event.error is not None and event.error.code == EXPIRED:
        return EXPIRED
    return None
