"""The two generations of OpenAI's Realtime protocol: what differs, in one table.

`beta` is what came with the header `OpenAI-Beta: realtime=v1`, `ga` what has been without it since 2025. Source:
types/realtime and types/beta/realtime of the `openai` package 3.54. Many servers that call themselves compatible speak
the one or the other, so that what they send is taken in both (`CANONICAL`), and what is sent to them is as `Flavour`
says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from sessionmanager.bridges.media.formats import RAW_ALAW, RAW_LPCM16_24, RAW_MULAW, MediaFormat
from sessionmanager.bridges.upstream import ModelLost, Setup

Flavour = Literal["ga", "beta"]
BETA_HEADER: Final = ("OpenAI-Beta", "realtime=v1")
TRANSCRIBER: Final = "gpt-4o-mini-transcribe"
SAMPLE_RATE: Final = 24_000

CANONICAL: Final[Mapping[str, str]] = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
"""Event names of the beta → those of the GA, which stand for both here."""
_Members = Mapping[str, Any]
_WIRE: Final = {"lpcm16": "pcm16", "mulaw": "g711_ulaw", "alaw": "g711_alaw"}
_TYPES: Final = {"lpcm16": "audio/pcm", "mulaw": "audio/pcmu", "alaw": "audio/pcma"}


def model_media(media: MediaFormat) -> MediaFormat:
    """The format nearest to a line's that a model speaks: G.711 as it is, everything else at 24 kHz."""
    return {"mulaw": RAW_MULAW, "alaw": RAW_ALAW}.get(media.encoding, RAW_LPCM16_24)


def session_of(setup: Setup, flavour: Flavour) -> dict[str, Any]:
    """The `session` of a `session.update`. Raises ModelLost for sound that no model speaks."""
    if setup.media is not None and setup.media.encoding == "lpcm16" and setup.media.rate != SAMPLE_RATE:
        raise ModelLost(f"{setup.media.name}: PCM is spoken at {SAMPLE_RATE} Hz only", may_pass=False)
    made = _beta(setup) if flavour == "beta" else _ga(setup)
    if setup.instructions is not None:
        made["instructions"] = setup.instructions
    if setup.tools:
        made |= {"tools": [dict(tool) for tool in setup.tools], "tool_choice": "auto"}
    return merged(made, setup.more)


def _turns(setup: Setup) -> dict[str, Any] | None:
    return {"type": "server_vad"} if setup.turns == "model" else None


def _ga(setup: Setup) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "realtime", "output_modalities": ["text" if setup.media is None else "audio"]}
    if setup.model is not None:
        made["model"] = setup.model
    if setup.media is None:
        return made
    sound: dict[str, Any] = {"type": _TYPES[setup.media.encoding]}
    if setup.media.encoding == "lpcm16":
        sound["rate"] = SAMPLE_RATE
    heard = {"format": sound, "turn_detection": _turns(setup), "transcription": {"model": TRANSCRIBER}}
    spoken: dict[str, Any] = {"format": sound}
    if setup.voice is not None:
        spoken["voice"] = setup.voice
    return made | {"audio": {"input": heard, "output": spoken}}


def _beta(setup: Setup) -> dict[str, Any]:
    if setup.media is None:
        return {"modalities": ["text"]}
    name = _WIRE[setup.media.encoding]
    made: dict[str, Any] = {
        "modalities": ["audio", "text"],
        "input_audio_format": name,
        "output_audio_format": name,
        "turn_detection": _turns(setup),
        "input_audio_transcription": {"model": TRANSCRIBER},
    }
    if setup.voice is not None:
        made["voice"] = setup.voice
    return made


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` over `base`, object by object."""
    made = dict(base)
    for name, value in more.items():
        old = made.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        made[name] = merged(cast(_Members, old), cast(_Members, value)) if both else value
    return made


def item_for(item: Mapping[str, Any], flavour: Flavour) -> dict[str, Any]:
    """An item (GA names) as this generation takes it: only the assistant's text part has another name."""
    made = dict(item)
    if flavour == "beta" and made.get("type") == "message" and made.get("role") == "assistant":
        parts = made.get("content") or ()
        made["content"] = [{**part, "type": "text"} if part.get("type") == "output_text" else part for part in parts]
    return made
