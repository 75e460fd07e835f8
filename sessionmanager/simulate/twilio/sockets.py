"""The sockets that Twilio opens: a Media Stream, and a ConversationRelay. Each speaks and hears for one call."""

from __future__ import annotations

import asyncio
import json
import uuid
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from sessionmanager.bridges.media.convert import silence
from sessionmanager.bridges.media.formats import RAW_MULAW
from sessionmanager.simulate.calling.ear import Ear
from sessionmanager.simulate.speech import speech
from sessionmanager.simulate.twilio.rules import from_relay, from_stream, sound_of

FRAME_MS: Final = 20
QUIET_MS: Final = 700
"""Of silence after something that was said, so that whoever listens knows its end."""


class TwilioSocket(ABC):
    """One socket. ear: of the caller, the same for all sockets of a call. facts: of the call, as TwiML and Twilio name
    them. ended: the bridge has sent `end`."""

    def __init__(
        self, socket: ClientConnection, ear: Ear, facts: Mapping[str, str], parameters: Mapping[str, str]
    ) -> None:
        self.socket = socket
        self.ear = ear
        self.facts = facts
        self.parameters = dict(parameters)
        self.handoff: str | None = None
        self.ended = False
        self.held = False

    async def run(self) -> None:
        """Until it is closed. Raises ConnectionClosed, Refused."""
        await self.begin()
        async for frame in self.socket:
            await self.take(frame)
        raise ConnectionClosed(None, None)

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    @abstractmethod
    async def begin(self) -> None:
        """The first messages."""

    @abstractmethod
    async def take(self, frame: str | bytes) -> None:
        """A message of the bridge. Raises Refused."""

    @abstractmethod
    async def say(self, text: str) -> None:
        """The caller speaks."""

    @abstractmethod
    async def press(self, digit: str) -> None:
        """The caller presses a key."""

    @abstractmethod
    async def stop(self) -> None:
        """The call has ended."""

    @abstractmethod
    async def work(self) -> None:
        """What goes on beside reading, until it is cancelled."""


class MediaStream(TwilioSocket):
    """µ-law both ways. pace: how many times quicker than it sounds the caller's sound is sent."""

    def __init__(
        self, socket: ClientConnection, ear: Ear, facts: Mapping[str, str], parameters: Mapping[str, str], pace: float
    ) -> None:
        super().__init__(socket, ear, facts, parameters)
        self.sid = f"MZ{uuid.uuid4().hex}"
        ear.on_mark = self._reached
        self._line = self.sid
        self._pace = pace
        self._number = 0
        self._chunk = 0
        self._mouth = bytearray()
        self._spoken = asyncio.Event()
        self._marks: asyncio.Queue[str] = asyncio.Queue()

    async def begin(self) -> None:
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        detail = {
            "streamSid": self.sid,
            "accountSid": self.facts["AccountSid"],
            "callSid": self.facts["CallSid"],
            "tracks": ["inbound"],
            "customParameters": self.parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        await self._tell("start", detail)

    async def take(self, frame: str | bytes) -> None:
        message = from_stream(frame, self.sid)
        match message["event"]:
            case "media":
                self.ear.hear(sound_of(message), line=self._line)
            case "mark":
                self.ear.hear(b"", mark=message["mark"]["name"])
            case _:
                for name in self.ear.cut():
                    self._reached(name)
                self._line = uuid.uuid4().hex

    def _reached(self, name: str) -> None:
        self._marks.put_nowait(name)

    async def say(self, text: str) -> None:
        self._mouth += speech(text, RAW_MULAW) + silence(RAW_MULAW, QUIET_MS)
        self._spoken.clear()
        await self._spoken.wait()

    async def press(self, digit: str) -> None:
        await self._tell("dtmf", {"track": "inbound_track", "digit": digit})

    async def stop(self) -> None:
        await self._tell("stop", {"accountSid": self.facts["AccountSid"], "callSid": self.facts["CallSid"]})

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        size, due = RAW_MULAW.size_of(FRAME_MS), loop.time()
        while True:
            due = max(due + FRAME_MS / 1000 / self._pace, loop.time() - 1)
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.ear.settle()
            while not self._marks.empty():
                await self._tell("mark", {"name": self._marks.get_nowait()})
            frame = b"" if self.held else bytes(self._mouth[:size])
            self._chunk += 1
            detail = {"track": "inbound", "chunk": str(self._chunk), "timestamp": str(self._chunk * FRAME_MS)}
            sound = frame.ljust(size, silence(RAW_MULAW, FRAME_MS)[:1])
            await self._tell("media", {**detail, "payload": b64encode(sound).decode()})
            del self._mouth[: len(frame)]
            if not self._mouth:
                self._spoken.set()

    async def _tell(self, event: str, detail: Mapping[str, Any]) -> None:
        self._number += 1
        number = str(self._number)
        await self.send({"event": event, "sequenceNumber": number, "streamSid": self.sid, event: detail})


class Relay(TwilioSocket):
    """Texts both ways; greeting: what Twilio says itself first."""

    def __init__(
        self,
        socket: ClientConnection,
        ear: Ear,
        facts: Mapping[str, str],
        parameters: Mapping[str, str],
        greeting: str | None,
        *,
        live: bool,
    ) -> None:
        super().__init__(socket, ear, facts, parameters)
        self.sid = f"VX{uuid.uuid4().hex}"
        self._finished = asyncio.Event()
        self._live = live
        self._line = 0
        self._utterance = ""
        self._began_at = 0.0
        if greeting is not None:
            self.ear.hear(greeting.encode(), line="greeting")

    async def begin(self) -> None:
        facts = self.facts
        await self.send(
            {
                "type": "setup", "sessionId": self.sid, "callSid": facts["CallSid"], "parentCallSid": None,
                "accountSid": facts["AccountSid"], "from": facts["From"], "to": facts["To"], "forwardedFrom": None,
                "callerName": None, "direction": facts["Direction"], "callType": "PSTN",
                "callStatus": "IN_PROGRESS" if self._live else "RINGING", "customParameters": self.parameters,
            }
        )  # fmt: skip

    async def take(self, frame: str | bytes) -> None:
        message = from_relay(frame, ended=self.ended)
        match message["type"]:
            case "text":
                if not self._utterance:
                    self._began_at = asyncio.get_running_loop().time()
                self._utterance += message["token"]
                self.ear.hear(message["token"].encode(), line=f"{self.sid}-{self._line}")
                if message.get("last"):
                    self._line += 1
                    self._utterance = ""
            case "end":
                self.ended = True
                self._finished.set()
                self.handoff = message.get("handoffData")
            case _:
                pass

    async def say(self, text: str) -> None:
        """With barge-in: what is being spoken is cut off, and the bridge is told how much of it was heard."""
        if self.ear.is_playing:
            before = len(self.ear.so_far)
            began = asyncio.get_running_loop().time()
            self.ear.cut()
            heard = self.ear.so_far
            milliseconds = int((began - self._began_at) * 1000) if self._began_at else before
            await self.send(
                {"type": "interrupt", "utteranceUntilInterrupt": heard, "durationUntilInterruptMs": milliseconds}
            )
            self._utterance = ""
            self._line += 1
        half = text[: len(text) // 2]
        await self.send({"type": "prompt", "voicePrompt": half, "lang": "en-US", "last": False})
        await self.send({"type": "prompt", "voicePrompt": text, "lang": "en-US", "last": True})

    async def press(self, digit: str) -> None:
        await self.send({"type": "dtmf", "digit": digit})

    async def stop(self) -> None:
        """A relay just closes."""

    async def work(self) -> None:
        """Closes what the bridge has ended, once it was spoken."""
        await self._finished.wait()
        await self.ear.until_played()
        await self.socket.close(1000)
