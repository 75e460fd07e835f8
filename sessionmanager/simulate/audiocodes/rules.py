"""What VoiceAI Connect takes from a bot: pure, and strict where the real one would only log.

Sources: AudioCodes techdocs, "Bot API: streaming mode"; audiocodes/ac-bot-api 0.13.0, `src/websocket/types.ts`. Written
without the bridge's own reading of them, so that a mistake there is seen here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from sessionmanager.simulate.calling.caller import Refused

FORMATS: Final = {
    "raw/mulaw": 1, "wav/mulaw": 1, "raw/lpcm16": 2, "wav/lpcm16": 2, "raw/lpcm16_8": 2, "wav/lpcm16_8": 2,
    "raw/lpcm16_24": 2, "wav/lpcm16_24": 2,
}  # fmt: skip
"""Format → bytes of a sample."""
EVENTS: Final = frozenset(
    ("hangup", "transfer", "config", "playUrl", "startRecognition", "stopRecognition", "sendMetaData", "abortPrompts",
     "expectAnotherBotMessage", "sendDtmf", "startCallRecording", "stopCallRecording", "pauseCallRecording",
     "resumeCallRecording")
)  # fmt: skip
MEMBERS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "connection.validated": (("success",), ()),
    "session.accepted": (("mediaFormat",), ()),
    "session.resumed": (("conversationId", "sessionId"), ()),
    "session.error": (("reason",), ("conversationId",)),
    "userStream.started": ((), ("participant",)),
    "userStream.stopped": ((), ("participant",)),
    "userStream.speech.started": ((), ("participant", "participantId")),
    "userStream.speech.stopped": ((), ("participant", "participantId")),
    "userStream.speech.hypothesis": (("alternatives",), ("participant",)),
    "userStream.speech.recognition": (("alternatives",), ("participant",)),
    "userStream.speech.committed": ((), ("participant",)),
    "playStream.start": (("streamId", "mediaFormat"), ("altText", "activityParams", "targetPlayer", "participant")),
    "playStream.chunk": (("streamId", "audioChunk"), ()),
    "playStream.stop": (("streamId",), ()),
    "activities": (("activities",), ()),
}
"""Type → members that must be there, and those that may."""
BEFORE_ACCEPTED: Final = frozenset(("connection.validated", "session.accepted", "session.error"))

Json = dict[str, Any]


class Rules:
    """Judges what comes over one conversation's sockets. supported: formats that were offered."""

    def __init__(self, supported: Sequence[str]) -> None:
        self._supported = tuple(supported)
        self._used: set[str] = set()
        self.media_format: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._awaits: set[str] = set()
        self._accepted = False
        self._resuming = False
        self._ended = False
        self._play: tuple[str, str, bool] | None = None

    # -- what VAIC does

    def new_socket(self) -> None:
        """The old one is gone, and what was open with it."""
        self._begin()

    def asked(self, type_: str) -> None:
        """VAIC has sent something that is answered."""
        if type_ == "connection.validate":
            self._awaits.add("connection.validated")
        elif type_ in ("session.initiate", "session.resume"):
            self._awaits |= {"session.accepted", "session.error"}
            self._resuming = type_ == "session.resume"
        elif type_ == "userStream.start":
            self._awaits.add("userStream.started")
        elif type_ == "userStream.stop":
            self._awaits.add("userStream.stopped")
        elif type_ == "session.end":
            self._ended = True

    # -- what the bot sends

    def came(self, frame: str | bytes) -> Json:
        """The message in a frame. Raises Refused."""
        if isinstance(frame, bytes):
            raise Refused("a binary frame")
        try:
            message: Any = json.loads(frame)
        except ValueError:
            raise Refused("a frame that is no JSON") from None
        type_ = cast("Json", message).get("type") if isinstance(message, dict) else None
        if not isinstance(type_, str) or type_ not in MEMBERS:
            raise Refused(f"an unknown type: {type_!r}")
        must, may = MEMBERS[type_]
        message = cast("Json", message)
        if not set(must) < set(message) or not set(message) <= {"type", *must, *may}:
            raise Refused(f"{type_} with the members {', '.join(sorted(message))}")
        if not self._accepted and type_ not in BEFORE_ACCEPTED:
            raise Refused(f"{type_} before session.accepted")
        check = _CHECKS.get(type_)
        if check is not None:
            check(self, message)
        return message

    def _answer(self, message: Json) -> None:
        type_ = message["type"]
        if type_ not in self._awaits:
            raise Refused(f"{type_} that nothing was asked for")
        self._awaits.discard(type_)

    def _validated(self, message: Json) -> None:
        self._answer(message)
        if message["success"] is not True:
            raise Refused("connection.validated without success: true")

    def _accept(self, message: Json) -> None:
        self._answer(message)
        self._awaits.discard("session.error")
        media_format = message["mediaFormat"]
        if self._resuming and self.media_format is not None and media_format != self.media_format:
            raise Refused(f"a resume in {media_format}, agreed on was {self.media_format}")
        if media_format not in self._supported:
            raise Refused(f"the media format {media_format!r}, which was not offered")
        self.media_format = media_format
        self._accepted = True

    def _resumed(self, message: Json) -> None:
        if not self._resuming:
            raise Refused("session.resumed in a conversation that is new")

    def _error(self, message: Json) -> None:
        self._answer(message)
        if not isinstance(message["reason"], str) or not message["reason"]:
            raise Refused("session.error without a reason")

    def _alternatives(self, message: Json) -> None:
        found = message["alternatives"]
        if not isinstance(found, list) or not found:
            raise Refused(f"{message['type']} without alternatives")
        for one in cast("list[Any]", found):
            fine = isinstance(one, dict) and isinstance(cast("Json", one).get("text"), str)
            if not fine or not isinstance(cast("Json", one).get("confidence", 0), int | float):
                raise Refused(f"{message['type']} with an alternative that is none")

    def _play_start(self, message: Json) -> None:
        stream, media_format = message["streamId"], message["mediaFormat"]
        if self._play is not None:
            raise Refused("a second play stream while one is open")
        if not isinstance(stream, str) or not stream or stream in self._used:
            raise Refused(f"the stream id {stream!r}, which was used before")
        if media_format not in FORMATS:
            raise Refused(f"a play stream in {media_format!r}")
        self._used.add(stream)
        self._play = (stream, media_format, False)

    def _play_chunk(self, message: Json) -> None:
        if self._play is None or message["streamId"] != self._play[0]:
            raise Refused("a chunk of a play stream that is not open")
        sound = sound_of(message)
        stream, media_format, begun = self._play
        if media_format.startswith("wav/") and not begun and not (sound[:4] == b"RIFF" and sound[8:12] == b"WAVE"):
            raise Refused("a WAV stream that does not begin with its header")
        if not sound or len(sound) % FORMATS[media_format]:
            raise Refused("a chunk of no whole samples")
        self._play = (stream, media_format, True)

    def _play_stop(self, message: Json) -> None:
        if self._play is None or message["streamId"] != self._play[0]:
            raise Refused("the stop of a play stream that is not open")
        self._play = None

    def _activities(self, message: Json) -> None:
        found = message["activities"]
        if not isinstance(found, list) or not found:
            raise Refused("activities without any")
        for one in cast("list[Any]", found):
            activity: Json = cast("Json", one) if isinstance(one, dict) else {}
            text = activity.get("type") == "message" and isinstance(activity.get("text"), str)
            event = activity.get("type") == "event" and activity.get("name") in EVENTS
            if not text and not event:
                raise Refused(f"an activity that VAIC does not know: {activity.get('name')!r}")


def sound_of(message: Mapping[str, Any]) -> bytes:
    """The bytes of a chunk. Raises Refused."""
    try:
        return base64.b64decode(message["audioChunk"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Refused("an audioChunk that is no base64") from None


_CHECKS: Final[Mapping[str, Callable[[Rules, Json], None]]] = {
    "connection.validated": Rules._validated,  # pyright: ignore[reportPrivateUsage]
    "session.accepted": Rules._accept,  # pyright: ignore[reportPrivateUsage]
    "session.resumed": Rules._resumed,  # pyright: ignore[reportPrivateUsage]
    "session.error": Rules._error,  # pyright: ignore[reportPrivateUsage]
    "userStream.started": Rules._answer,  # pyright: ignore[reportPrivateUsage]
    "userStream.stopped": Rules._answer,  # pyright: ignore[reportPrivateUsage]
    "userStream.speech.hypothesis": Rules._alternatives,  # pyright: ignore[reportPrivateUsage]
    "userStream.speech.recognition": Rules._alternatives,  # pyright: ignore[reportPrivateUsage]
    "playStream.start": Rules._play_start,  # pyright: ignore[reportPrivateUsage]
    "playStream.chunk": Rules._play_chunk,  # pyright: ignore[reportPrivateUsage]
    "playStream.stop": Rules._play_stop,  # pyright: ignore[reportPrivateUsage]
    "activities": Rules._activities,  # pyright: ignore[reportPrivateUsage]
}
