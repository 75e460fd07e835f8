"""Every message of ConversationRelay, as types: JSON text ⇄ one of them.

Twilio hears and speaks; texts go over the socket. A message of ours that it does not understand comes back as `error`
(64107); ten in a row end the relay. Sources: Twilio, "ConversationRelay: WebSocket messages", and the changelog of
2025-04-01.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sessionmanager.bridges.twilio.frames import FrameReader
from sessionmanager.bridges.twilio.media_messages import Digit, Sid

TEXT_BYTES_MAX: Final = 32 * 1024
"""Of a prompt or an utterance; more is cut by nobody and refused by nobody, but a frame has a bound."""


class _Inward(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    pass


class Setup(_Inward, frozen=True, kw_only=True, tag="setup"):
    """The first message. session_id: of the relay (VX…), new at each reconnect; call_sid stays."""

    session_id: Sid
    call_sid: Sid
    account_sid: str = ""
    parent_call_sid: Any = None
    from_: Any = msgspec.field(default=None, name="from")
    to: Any = None
    forwarded_from: Any = None
    caller_name: Any = None
    direction: Any = None
    call_type: Any = None
    call_status: Any = None
    custom_parameters: Any = None


class Prompt(_Inward, frozen=True, kw_only=True, tag="prompt"):
    """What the caller said. last: False = it goes on, and the text so far comes again with more."""

    voice_prompt: Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
    lang: str = ""
    last: bool = True


class Dtmf(_Inward, frozen=True, kw_only=True, tag="dtmf"):
    """One key."""

    digit: Digit


class Interrupt(_Inward, frozen=True, kw_only=True, tag="interrupt"):
    """The caller cut in; all that was queued is gone. utterance: what was really heard."""

    utterance_until_interrupt: Annotated[str, Meta(max_length=TEXT_BYTES_MAX)] = ""
    duration_until_interrupt_ms: float | str | None = None

    @property
    def milliseconds(self) -> float | None:
        """How long it was heard: one edition of Twilio's page shows a number, another a text."""
        try:
            found = float(self.duration_until_interrupt_ms or "")
        except ValueError:
            return None
        return found if 0 <= found < float("inf") else None


class Info(_Inward, frozen=True, kw_only=True, tag="info"):
    """Only with `events`: who speaks, and which tokens were played."""

    name: Any = None
    value: Any = None


class RelayError(_Inward, frozen=True, kw_only=True, tag="error"):
    """A message of ours was not understood."""

    description: Any = None


Inward = Setup | Prompt | Dtmf | Interrupt | Info | RelayError
_NAMES: Final = frozenset(("setup", "prompt", "dtmf", "interrupt", "info", "error"))
_reader: Final[FrameReader[Inward]] = FrameReader(Inward, "type", _NAMES)
decode = _reader.read
"""A frame → its message. Raises Unreadable."""


# -- what we send


class _Outward(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", omit_defaults=True):
    pass


class Text(_Outward, frozen=True, kw_only=True, tag="text"):
    """Say this. last: True = the utterance is whole."""

    token: str
    last: bool | UnsetType = UNSET
    lang: str | UnsetType = UNSET
    interruptible: bool | UnsetType = UNSET
    preemptible: bool | UnsetType = UNSET


class Play(_Outward, frozen=True, kw_only=True, tag="play"):
    """Play a file from an address."""

    source: str
    loop: int | UnsetType = UNSET


class SendDigits(_Outward, frozen=True, kw_only=True, tag="sendDigits"):
    """Press keys."""

    digits: str


class Language(_Outward, frozen=True, kw_only=True, tag="language"):
    """Speak, or listen, in another language."""

    tts_language: str | UnsetType = UNSET
    transcription_language: str | UnsetType = UNSET


class End(_Outward, frozen=True, kw_only=True, tag="end"):
    """Close the relay, not the call: the `action` address says what comes next and gets `handoff_data` as it is."""

    handoff_data: str | UnsetType = UNSET


Outward = Text | Play | SendDigits | Language | End
_encoder: Final = msgspec.json.Encoder()


def encode(message: Outward) -> str:
    """The text of a frame."""
    return _encoder.encode(message).decode()
