"""`session.update`, checked as the real server checks it, in both generations."""

from __future__ import annotations

import time
import uuid
from typing import Any, Final, cast

from sessionmanager.bridges.media.formats import RAW_ALAW, RAW_LPCM16_24, RAW_MULAW, MediaFormat
from sessionmanager.simulate.realtime.items import Json, Refused

_GA: Final = {
    "type", "model", "instructions", "output_modalities", "audio", "tools", "tool_choice", "max_output_tokens",
    "truncation", "tracing", "include", "prompt", "reasoning", "parallel_tool_calls",
}  # fmt: skip
_BETA: Final = {
    "model", "instructions", "modalities", "voice", "input_audio_format", "output_audio_format", "turn_detection",
    "input_audio_transcription", "input_audio_noise_reduction", "tools", "tool_choice", "temperature", "speed",
    "max_response_output_tokens", "tracing", "prompt", "truncation",
}  # fmt: skip
_TYPES: Final = {"audio/pcm": RAW_LPCM16_24, "audio/pcmu": RAW_MULAW, "audio/pcma": RAW_ALAW}
_NAMES: Final = {"pcm16": RAW_LPCM16_24, "g711_ulaw": RAW_MULAW, "g711_alaw": RAW_ALAW}
RATE: Final = 24_000


class Setting:
    """How one connection is set. flavour: `ga` or `beta`. media: of both directions. has_turns: whether the server
    notices the caller's turns. has_spoken: sound was made, and its voice is settled."""

    def __init__(self, flavour: str, session_seconds: float) -> None:
        self._flavour = flavour
        self.id = f"sess_{uuid.uuid4().hex[:21]}"
        self.expires_at = int(time.time() + session_seconds)
        self.heard: MediaFormat = RAW_LPCM16_24
        self.spoken: MediaFormat = RAW_LPCM16_24
        self.speaks = True
        self.has_turns = True
        self.transcribes = False
        self.has_spoken = False
        self._voice: Any = None
        self._given: Json = {}

    @property
    def shown(self) -> Json:
        kind = {"type": "realtime"} if self._flavour == "ga" else {}
        return {**self._given, **kind, "object": "realtime.session", "id": self.id, "expires_at": self.expires_at}

    def update(self, body: Any) -> None:
        """Raises Refused; nothing of it holds then."""
        if not isinstance(body, dict):
            raise Refused("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        given = cast(Json, body)
        known = _GA if self._flavour == "ga" else _BETA
        for name in given:
            if name not in known:
                raise Refused("unknown_parameter", f"Unknown parameter: 'session.{name}'.", f"session.{name}")
        if self._flavour == "ga":
            self._update_ga(given)
        else:
            self._update_beta(given)
        self._given |= given

    def _update_ga(self, given: Json) -> None:
        if given.get("type") != "realtime":
            raise Refused("missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type")
        modalities = given.get("output_modalities", ["audio"])
        if modalities not in (["audio"], ["text"]):
            raise Refused("invalid_value", "Supported: ['text'] and ['audio'].", "session.output_modalities")
        audio = cast(Json, given.get("audio") or {})
        heard, spoken = cast(Json, audio.get("input") or {}), cast(Json, audio.get("output") or {})
        formats = [self._format_ga(one.get("format"), at) for one, at in ((heard, "input"), (spoken, "output"))]
        self._set_voice(spoken.get("voice"))
        self.heard, self.spoken = formats[0] or self.heard, formats[1] or self.spoken
        self.speaks = modalities == ["audio"]
        if "turn_detection" in heard:
            self.has_turns = heard["turn_detection"] is not None
        if "transcription" in heard:
            self.transcribes = heard["transcription"] is not None

    def _format_ga(self, given: Any, at: str) -> MediaFormat | None:
        if given is None:
            return None
        where = f"session.audio.{at}.format"
        if not isinstance(given, dict):
            raise Refused("invalid_type", f"Invalid type for '{where}': expected an object.", where)
        members = cast(Json, given)
        media = _TYPES.get(str(members.get("type")))
        if media is None or (media is RAW_LPCM16_24 and members.get("rate", RATE) != RATE):
            raise Refused("invalid_value", f"Invalid value for '{where}'.", where)
        return media

    def _update_beta(self, given: Json) -> None:
        modalities = given.get("modalities", ["audio", "text"])
        if sorted(modalities) not in (["audio", "text"], ["text"]):
            raise Refused("invalid_value", "Supported: ['text'] and ['audio', 'text'].", "session.modalities")
        formats: list[MediaFormat] = []
        for name in ("input_audio_format", "output_audio_format"):
            media = _NAMES.get(given.get(name, "pcm16"))
            if media is None:
                raise Refused("invalid_value", f"Invalid value: '{given[name]}'.", f"session.{name}")
            formats.append(media)
        self._set_voice(given.get("voice"))
        self.heard, self.spoken = formats
        self.speaks = "audio" in modalities
        if "turn_detection" in given:
            self.has_turns = given["turn_detection"] is not None
        if "input_audio_transcription" in given:
            self.transcribes = given["input_audio_transcription"] is not None

    def _set_voice(self, voice: Any) -> None:
        if voice is None or voice == self._voice:
            return
        if self.has_spoken:
            raise Refused("cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.")
        self._voice = voice
