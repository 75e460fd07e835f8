"""What the bot says, sent to VAIC about as fast as it sounds, one play stream after the other.

Whether `playStream.stop` cuts what VAIC has been sent and not yet played is not documented: the vendor's sample sends
it right after the last chunk, others send it to cut. So VAIC is never sent more than `lead_ms` ahead, and a stream that
ends by itself is stopped `TAIL_MS` after it should have been heard: either reading loses no word, and a cut is heard at
once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sessionmanager.bridges.audiocodes import messages as m
from sessionmanager.bridges.carrier import LineGone
from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.bridges.media.wav import header

CHUNK_MS: Final = 100
"""A chunk sounds no longer than this, so that a cut takes hold soon."""
TAIL_MS: Final = 300
"""For the way to VAIC and its own buffer: so much later than we reckon the caller hears the last sound."""
QUEUED_MS_MAX: Final = 30 * 60_000
"""More is not kept: nobody listens for so long without a word."""

Send = Callable[[m.Outward], Awaitable[None]]


class _Sound(NamedTuple):
    utterance: str
    data: bytes


class _Whole(NamedTuple):
    utterance: str


_Step = _Sound | _Whole | m.ActivitiesSent


class Player:
    """Plays to one socket. media: of the sound that it is given. wire: the format that VAIC is told, with its
    container. stream_prefix: begins each `streamId`."""

    def __init__(self, send: Send, media: MediaFormat, wire: MediaFormat, stream_prefix: str, lead_ms: float) -> None:
        self._send = send
        self._media = media
        self._wire = wire
        self._prefix = stream_prefix
        self._lead = lead_ms / 1000
        self._steps: deque[_Step] = deque()
        self._queued_ms = 0.0
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._streams = 0
        self._open: tuple[str, str] | None = None
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None

    # -- what the line asks

    def sound(self, utterance: str, data: bytes) -> bool:
        """Play this after all before. Answers whether there was room for it."""
        duration = self._media.duration_ms(len(data))
        if self._queued_ms + duration > QUEUED_MS_MAX:
            return False
        self._queued_ms += duration
        step = self._media.size_of(CHUNK_MS)
        for at in range(0, len(data), step):
            self._add(_Sound(utterance, data[at : at + step]))
        return True

    def whole(self, utterance: str) -> None:
        """Nothing more of it will come."""
        self._add(_Whole(utterance))

    def then(self, message: m.ActivitiesSent) -> None:
        """Send this once everything before it was heard."""
        self._add(message)

    async def clear(self) -> None:
        """Forget what is queued and cut what is being played. Raises LineGone."""
        await self._halt()
        if self._open is not None:
            stream, self._open = self._open[1], None
            await self._send(m.PlayStop(stream_id=stream))

    async def drained(self, seconds: float) -> None:
        """Until everything was played, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Say nothing more."""
        await self._halt()

    # -- the task that plays

    def _add(self, step: _Step) -> None:
        self._steps.append(step)
        self._more.set()
        self._idle.clear()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="plays to VAIC")

    async def _halt(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._steps.clear()
        self._queued_ms = 0.0
        self._heard_at = 0.0
        self._idle.set()

    async def _run(self) -> None:
        try:
            while True:
                while not self._steps:
                    self._idle.set()
                    self._more.clear()
                    await self._more.wait()
                await self._take(self._steps.popleft())
        except LineGone:
            # Whoever plays next is told by the socket.
            self._idle.set()

    async def _take(self, step: _Step) -> None:
        match step:
            case _Sound(utterance, data):
                await self._chunk(utterance, data)
            case _Whole(utterance):
                if self._open is not None and self._open[0] == utterance:
                    await self._stop()
            case m.ActivitiesSent():
                await self._stop()
                await self._send(step)

    async def _chunk(self, utterance: str, data: bytes) -> None:
        head = b""
        if self._open is None or self._open[0] != utterance:
            await self._stop()
            stream = f"{self._prefix}-{self._streams}"
            self._streams += 1
            self._open = (utterance, stream)
            await self._send(m.PlayStart(stream_id=stream, media_format=self._wire.name))
            head = header(self._wire) if self._wire.container == "wav" else b""
        duration = self._media.duration_ms(len(data))
        self._queued_ms -= duration
        self._heard_at = max(self._heard_at, _now()) + duration / 1000
        await self._send(m.PlayPiece(stream_id=self._open[1], audio_chunk=head + data))
        await self._wait_until(self._heard_at - self._lead)

    async def _stop(self) -> None:
        """Stop the open stream once it was heard."""
        if self._open is not None:
            await self._wait_until(self._heard_at + TAIL_MS / 1000)
            stream, self._open = self._open[1], None
            await self._send(m.PlayStop(stream_id=stream))

    async def _wait_until(self, at: float) -> None:
        seconds = at - _now()
        if seconds > 0:
            await asyncio.sleep(seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
