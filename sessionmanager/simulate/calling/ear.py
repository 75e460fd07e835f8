"""What a caller hears: sound, or text that is spoken, queued and played in real time; a cut forgets what is queued."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from sessionmanager.bridges.media.formats import MediaFormat
from sessionmanager.simulate.speech import words_in

VOICE_CHAR_MS: Final = 70
"""Some fourteen letters a second: a calm voice."""
QUEUED_MAX: Final = 100_000
"""Pieces; whoever sends more loses the oldest."""


class _Queued(NamedTuple):
    data: bytes
    begins_at: float
    mark: str | None
    line: str


class Ear:
    """bytes_per_second: how quickly it is played. words: of what was heard. on_mark: told of each mark once what was
    before it is heard; may be changed."""

    def __init__(
        self, bytes_per_second: float, words: Callable[[bytes], str], on_mark: Callable[[str], None] | None = None
    ) -> None:
        self._rate = bytes_per_second
        self._words = words
        self.on_mark = on_mark
        self._queue: deque[_Queued] = deque(maxlen=QUEUED_MAX)
        self._ends_at = 0.0
        self._quiet_since = 0.0
        self._heard: dict[str, bytearray] = {}
        self._came = asyncio.Event()

    def hear(self, data: bytes, mark: str | None = None, line: str = "") -> None:
        """Queue it, and a mark behind it. line: what belongs together."""
        now = _now()
        self.settle()
        begins_at = max(now, self._ends_at)
        self._ends_at = begins_at + len(data) / self._rate
        self._queue.append(_Queued(data, begins_at, mark, line))
        self._came.set()

    def settle(self) -> None:
        """What has been played by now counts as heard."""
        now = _now()
        while self._queue:
            first = self._queue[0]
            ends_at = first.begins_at + len(first.data) / self._rate
            if ends_at > now:
                return
            self._queue.popleft()
            self._listen(first, len(first.data))
            self._quiet_since = ends_at
            if first.mark is not None and self.on_mark is not None:
                self.on_mark(first.mark)

    def cut(self) -> list[str]:
        """Stop playing; what was played of the running piece is heard. Answers the marks of what was not."""
        self.settle()
        now = _now()
        if self._queue:
            first = self._queue[0]
            self._listen(first, max(0, int((now - first.begins_at) * self._rate)))
            self._quiet_since = now
        marks = [one.mark for one in self._queue if one.mark is not None]
        self._queue.clear()
        self._ends_at = now
        return marks

    def _listen(self, piece: _Queued, count: int) -> None:
        self._heard.setdefault(piece.line, bytearray()).extend(piece.data[:count])

    @property
    def is_playing(self) -> bool:
        """Whether something is queued that has not been heard."""
        self.settle()
        return bool(self._queue)

    @property
    def so_far(self) -> str:
        """The words that were heard since the last `take_lines`, by whole pieces."""
        self.settle()
        return "".join(self._words(bytes(sound)) for sound in self._heard.values())

    def take_lines(self) -> list[str]:
        """The same, each line by itself; they are forgotten."""
        self.settle()
        lines = [self._words(bytes(sound)).strip() for sound in self._heard.values()]
        self._heard.clear()
        return [line for line in lines if line]

    async def until_words(self) -> None:
        """Wait until something was heard."""
        while not self.so_far:
            await self._until_played()

    async def until_quiet(self, seconds: float) -> None:
        """Wait until something was heard, and nothing has been for so long since."""
        await self.until_words()
        while self.is_playing or _now() - self._quiet_since < seconds:
            if self.is_playing:
                await self._until_played()
            else:
                await self._until_came(self._quiet_since + seconds - _now())

    async def until_played(self) -> None:
        """Wait until nothing is queued."""
        while self.is_playing:
            await self._until_played()

    async def _until_played(self) -> None:
        """Wait for the end of the first piece, or for one to come."""
        if not self._queue:
            await self._until_came(None)
            return
        first = self._queue[0]
        await asyncio.sleep(max(0.0, first.begins_at + len(first.data) / self._rate - _now()))

    async def _until_came(self, seconds: float | None) -> None:
        self._came.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return


def ear_for_sound(media: MediaFormat, on_mark: Callable[[str], None] | None = None) -> Ear:
    """media: raw."""
    return Ear(media.rate * media.sample_bytes, lambda sound: words_in(sound, media), on_mark)


def ear_for_text() -> Ear:
    """UTF-8 that a voice speaks."""
    return Ear(1000 / VOICE_CHAR_MS, lambda text: text.decode("utf-8", "ignore"))


def _now() -> float:
    return asyncio.get_running_loop().time()
