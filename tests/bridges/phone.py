"""A telephone for tests: a `Line` that plays in real time what it is given, and a caller whose words are sounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from sessionmanager.bridges.carrier import Call, LineGone, Noticed, NotSupported, Piece, Token
from sessionmanager.bridges.media.formats import RAW_MULAW, MediaFormat
from sessionmanager.simulate.speech import silence, speech, words_in

T = TypeVar("T")
PATIENCE_SECONDS = 20.0
FRAME_MS = 20


class Phone:
    """A line. heard: what the caller has heard so far. shown: text, on a line of text."""

    def __init__(self, media: MediaFormat | None = RAW_MULAW, *, marks: bool = True) -> None:
        self.media = media
        self.marks = marks
        self.call: Call | None = None
        self.gone = False
        self.shown = ""
        self.noticed: list[Noticed] = []
        self.finished: list[str] = []
        self.ended: list[str] = []
        self.transfers: list[str] = []
        self.clears = 0
        self._sound = bytearray()
        self._queue: asyncio.Queue[Piece] = asyncio.Queue()
        self._now: tuple[Piece, float] | None = None
        self._player = asyncio.create_task(self._play())

    # -- Line

    async def play(self, piece: Piece) -> None:
        self._check()
        self._queue.put_nowait(piece)

    async def show(self, token: Token) -> None:
        self._check()
        self.shown += token.text + ("|" if token.last else "")

    async def finish(self, utterance: str) -> None:
        self._check()
        self.finished.append(utterance)

    async def clear(self) -> None:
        self._check()
        self.clears += 1
        self.stop()

    async def notice(self, noticed: Noticed) -> None:
        self._check()
        self.noticed.append(noticed)

    async def end(self, reason: str) -> None:
        self._check()
        self.ended.append(reason)

    async def transfer(self, target: str, reason: str) -> None:
        self.transfers.append(target)

    async def send_digits(self, digits: str) -> None:
        raise NotSupported("this telephone has no keys")

    def _check(self) -> None:
        if self.gone:
            raise LineGone("the socket is closed")

    # -- what is heard

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            piece = await self._queue.get()
            self._now = piece, loop.time()
            await asyncio.sleep(piece.duration_ms / 1000)
            self._sound += piece.audio
            self._now = None
            if self.marks and self.call is not None:
                self.call.played(piece.mark)

    def stop(self) -> None:
        """Nothing more is played; of what is being played, so much was heard."""
        self._player.cancel()
        if self._now is not None and self.media is not None:
            piece, began = self._now
            part = (asyncio.get_running_loop().time() - began) * 1000 / max(piece.duration_ms, 0.001)
            whole = int(len(piece.audio) * min(1.0, part))
            self._sound += piece.audio[: whole - whole % self.media.sample_bytes]
        self._now = None
        self._queue = asyncio.Queue()
        self._player = asyncio.create_task(self._play())

    def drop(self) -> None:
        """The socket is gone, with all that was not played."""
        self.gone = True
        self.stop()

    @property
    def heard(self) -> str:
        assert self.media is not None
        return words_in(bytes(self._sound), self.media)

    async def hears(self, text: str) -> None:
        """Wait until the caller has heard this."""
        await until(lambda: text in self.heard, lambda: f"{text!r} in {self.heard!r}")

    async def aclose(self) -> None:
        self._player.cancel()
        with suppress(asyncio.CancelledError):
            await self._player

    # -- what is said

    async def say(self, text: str, *, silence_ms: int = 700) -> None:
        """Speak, and be silent for a while; quicker than it sounds."""
        assert self.call is not None
        await self.sound(text)
        await self.quiet(silence_ms)

    async def sound(self, text: str) -> None:
        """Speak, without the silence after it."""
        assert self.call is not None
        assert self.media is not None
        await self._send(speech(text, self.media))

    async def quiet(self, milliseconds: int) -> None:
        assert self.media is not None
        await self._send(silence(self.media, milliseconds))

    async def _send(self, audio: bytes) -> None:
        assert self.call is not None
        assert self.media is not None
        size = self.media.size_of(FRAME_MS)
        for at in range(0, len(audio), size):
            await self.call.hear(audio[at : at + size])


async def until(holds: Any, says: Any = lambda: "") -> None:
    """Wait for a condition; generous, since machines are slow."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in {PATIENCE_SECONDS} s: {says()}") from None


async def eventually(look: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool) -> T:
    """What is found, once it holds."""
    found = await look()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if holds(found):
                    return found
                await asyncio.sleep(0.02)
                found = await look()
    except TimeoutError:
        raise AssertionError(f"not in {PATIENCE_SECONDS} s: {found}") from None
