"""A telephone call at a simulated VoiceAI Connect: dials the bot, sends the caller's sound, plays the bot's.

A socket that goes without the call having ended is opened again, with `session.resume` and the same conversation, until
`give_up_seconds` have passed. What the caller says meanwhile is sent once there is a socket, as is what was being said.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from sessionmanager.bridges.media.convert import silence
from sessionmanager.bridges.media.formats import FORMATS, MediaFormat
from sessionmanager.bridges.media.wav import WavReader, header
from sessionmanager.simulate.audiocodes.rules import Rules, sound_of
from sessionmanager.simulate.calling.caller import GaveUp, Refused
from sessionmanager.simulate.calling.dialing import dialled
from sessionmanager.simulate.calling.ear import Ear, ear_for_sound
from sessionmanager.simulate.speech import speech

FRAME_MS: Final = 20
QUIET_MS: Final = 700
"""Of silence after something that was said, so that whoever listens knows its end."""
CLOSE_SECONDS: Final = 2.0
FOR_EVER: Final[Mapping[int | None, str]] = {
    401: "the carrier token has to be the same at both ends",
    403: "is its path right? AudioCodes' is /audiocodes",
    404: "is its path right? AudioCodes' is /audiocodes",
}
"""Answers to a handshake that do not pass, and what to look at."""


class VaicOptions(Struct, frozen=True, kw_only=True):
    """How VAIC is set. supported: formats it offers, best first. pace: how many times quicker than it sounds the
    caller's sound is sent. answer_seconds: how long an answer may take. again_seconds: between two tries to resume.
    stop_cuts: whether `playStream.stop` cuts what is still to be played, the harsher of its two readings."""

    token: str | None = None
    caller: str = "+12025550123"
    bot: str = "support"
    supported: tuple[str, ...] = ("raw/lpcm16", "raw/mulaw")
    pace: float = 1.0
    answer_seconds: float = 30.0
    again_seconds: float = 0.1
    give_up_seconds: float = 60.0
    validates: bool = True
    stop_cuts: bool = True


class VaicCall:
    """One call. over: set once it has ended, `ending` says how; refused: what the bridge did that VAIC refuses.

    resumes: how often it came back. resume_seconds: from the loss of a socket until the caller was heard again. told:
    what else the bot sent, in order.
    """

    def __init__(self, url: str, options: VaicOptions, conversation_id: str | None = None) -> None:
        self.conversation_id = conversation_id or str(uuid.uuid4())
        self.over = asyncio.Event()
        self.ending = ""
        self.refused: Refused | None = None
        self.resumes = 0
        self.resume_seconds: list[float] = []
        self.told: list[dict[str, Any]] = []
        self._url = url
        self._options = options
        self._rules = Rules(options.supported)
        self._ear: Ear | None = None
        self._media: MediaFormat | None = None
        self._mouth = bytearray()
        self._spoken = asyncio.Event()
        self._spoken.set()
        self._socket: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._accepted = asyncio.Event()
        self._held = False
        self._streaming = False
        self._reader: WavReader | None = None

    # -- the telephone

    @property
    def ear(self) -> Ear:
        assert self._ear is not None, "the call was answered"
        return self._ear

    async def say(self, text: str) -> None:
        """Speak, with a silence after it; returns when all of it was sent."""
        assert self._media is not None, "the call was answered"
        self._mouth += speech(text, self._media) + silence(self._media, QUIET_MS)
        self._spoken.clear()
        await self._spoken.wait()

    async def press(self, digits: str) -> None:
        for digit in digits:
            await self._activity("DTMF", value=digit)

    async def hold(self, seconds: float) -> None:
        """As an administrator's rules would tell of it; no sound is sent meanwhile."""
        await self._activity("hold")
        self._held = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self._held = False
        await self._activity("unhold")

    async def drop(self) -> None:
        """The socket breaks, with everything that was on its way."""
        before = self.resumes
        await self._ready.wait()
        self.cut()
        async with asyncio.timeout(self._options.give_up_seconds):
            while self.resumes == before and not self.over.is_set():
                self._accepted.clear()
                await self._accepted.wait()

    def cut(self) -> None:
        """The same, at once, also before the bridge has answered."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def hang_up(self) -> None:
        """The caller goes: `session.end`, and the bot closes the socket."""
        await self._ready.wait()
        await self._send("userStream.stop")
        await self._send("session.end", reasonCode="client-disconnected", reason="Client Side")
        self._end("client-disconnected")

    async def answered(self) -> None:
        """Wait until the bridge has answered."""
        await self._ready.wait()

    # -- the line

    async def run(self) -> None:
        """Until the call is over. Raises Refused. GaveUp."""
        lost_at: float | None = None
        speaking = asyncio.create_task(self._speak(), name="the caller's sound")
        try:
            while not self.over.is_set():
                try:
                    async with self._open() as socket:
                        await self._begin(socket, lost_at)
                        lost_at = None
                        while not self.over.is_set():
                            await self._take(await socket.recv())
                except (ConnectionClosed, OSError, InvalidHandshake, TimeoutError) as error:
                    _require_may_pass(error)
                    self._lost()
                    if self.over.is_set():
                        break
                    lost_at = lost_at or _now()
                    if _now() - lost_at > self._options.give_up_seconds:
                        raise GaveUp(f"the bridge does not answer: {type(error).__name__}") from None
                    await asyncio.sleep(self._options.again_seconds)
        except Refused as refused:
            self.refused = refused
            raise
        finally:
            self._end("gave up")
            speaking.cancel()
            await asyncio.wait([speaking])

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[ClientConnection]:
        token = self._options.token
        headers = {"AC-Conversation-Id": self.conversation_id}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        socket = await connect(
            self._url, additional_headers=headers, compression=None, close_timeout=CLOSE_SECONDS, proxy=None,
            open_timeout=self._options.answer_seconds,
        )  # fmt: skip
        try:
            yield socket
        finally:
            self._ready.clear()
            await socket.close()

    async def _begin(self, socket: ClientConnection, lost_at: float | None) -> None:
        """The first messages: a conversation that was accepted once is resumed."""
        self._socket = socket
        self._rules.new_socket()
        resuming = self._rules.media_format is not None
        if self._options.validates and not resuming:
            await self._send("connection.validate")
            await self._until(socket, "connection.validated")
        if resuming:
            await self._send("session.resume")
        else:
            options = self._options
            await self._send(
                "session.initiate", expectAudioMessages=True, botName=options.bot, caller=options.caller,
                supportedMediaFormats=list(options.supported),
            )  # fmt: skip
        await self._until(socket, "session.accepted")
        if self.over.is_set():
            return
        self._agreed()
        if not resuming:
            await self._activity("start", parameters={"caller": self._options.caller, "callee": self._options.bot})
        await self._send("userStream.start")
        await self._until(socket, "userStream.started")
        self._streaming = True
        if resuming:
            self.resumes += 1
            if lost_at is not None:
                self.resume_seconds.append(_now() - lost_at)
        self._ready.set()
        self._accepted.set()

    def _agreed(self) -> None:
        assert self._rules.media_format is not None, "the rules have seen it"
        wire = FORMATS[self._rules.media_format]
        self._media = FORMATS[f"raw/{wire.name.partition('/')[2]}"]
        if self._ear is None:
            self._ear = ear_for_sound(self._media)
        if wire.container == "wav":
            self._mouth[:0] = header(wire)

    async def _until(self, socket: ClientConnection, type_: str) -> None:
        """Take messages until one of this type."""
        async with asyncio.timeout(self._options.answer_seconds):
            while await self._take(await socket.recv()) != type_:
                if self.over.is_set():
                    return

    async def _take(self, frame: str | bytes) -> str:
        message = self._rules.came(frame)
        match message["type"]:
            case "session.error":
                self._end(f"session.error: {message['reason']}")
            case "playStream.start":
                self._reader = WavReader() if message["mediaFormat"].startswith("wav/") else None
            case "playStream.chunk":
                sound = sound_of(message)
                self.ear.hear(sound if self._reader is None else self._reader.push(sound), line=message["streamId"])
            case "playStream.stop":
                if self._options.stop_cuts:
                    self.ear.cut()
            case "activities":
                await self._obey(message["activities"])
            case _:
                self.told.append(message)
        return message["type"]

    async def _obey(self, activities: list[Mapping[str, Any]]) -> None:
        for activity in activities:
            self.told.append(dict(activity))
            if activity.get("name") in ("hangup", "transfer"):
                params: Mapping[str, Any] = activity.get("activityParams", {})
                await self._send("session.end", reasonCode="bot-disconnected", reason="Bot Side")
                self._end(f"{activity['name']}: {params.get('transferTarget', params.get('hangupReason', ''))}")

    def _lost(self) -> None:
        self._socket = None
        self._streaming = False
        self._ready.clear()
        if self._ear is not None:
            self._ear.cut()

    def _end(self, how: str) -> None:
        if not self.over.is_set():
            self.ending = how
            self.over.set()
            if self._socket is not None:
                # The bot has to close what has ended; whoever does not is cut off.
                asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._socket.transport.abort)
        self._accepted.set()
        self._spoken.set()

    # -- what VAIC sends

    async def _speak(self) -> None:
        """A frame of sound at a time: of what is said, or of silence."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + FRAME_MS / 1000 / self._options.pace, loop.time() - 1)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self._held or not self._ready.is_set() or self._media is None:
                continue
            size = self._media.size_of(FRAME_MS)
            frame = bytes(self._mouth[:size]).ljust(size, silence(self._media, FRAME_MS)[:1])
            try:
                await self._send("userStream.chunk", audioChunk=b64encode(frame).decode())
            except (ConnectionClosed, OSError):
                continue
            del self._mouth[:size]
            if not self._mouth:
                self._spoken.set()

    async def _activity(self, name: str, **members: Any) -> None:
        activity = {"type": "event", "name": name, "id": str(uuid.uuid4()), **members}
        await self._ready_or_beginning()
        await self._send("activities", activities=[activity])

    async def _ready_or_beginning(self) -> None:
        if self._socket is None:
            await self._ready.wait()

    async def _send(self, type_: str, **members: Any) -> None:
        socket = self._socket
        if socket is None:
            raise OSError("there is no socket")
        self._rules.asked(type_)
        await socket.send(json.dumps({"type": type_, "conversationId": self.conversation_id, **members}))


def _require_may_pass(error: Exception) -> None:
    """Raises GaveUp: the bridge refuses the handshake in a way that calling again does not change."""
    status = error.response.status_code if isinstance(error, InvalidStatus) else None
    if status in FOR_EVER:
        raise GaveUp(f"the bridge answers the handshake with {status}: {FOR_EVER[status]}") from None


def dial(
    url: str, options: VaicOptions | None = None, conversation_id: str | None = None
) -> AbstractAsyncContextManager[VaicCall]:
    """A call that was answered. Raises Refused, GaveUp, also at the end: what the bridge did wrong meanwhile."""
    return dialled(VaicCall(url, options or VaicOptions(), conversation_id), "VAIC")


def _now() -> float:
    return asyncio.get_running_loop().time()
