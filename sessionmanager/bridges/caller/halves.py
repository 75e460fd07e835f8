"""What callers were saying when their lines were lost, for as long as they may come back to this process: the next
model hears it before anything else, so that a sentence in two pieces is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sessionmanager.bridges.media.formats import MediaFormat

HALVES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of all calls of a process: twenty minutes of speech at 24 kHz. Beyond, the oldest are given up."""
_log: Final = logging.getLogger("sessionmanager.bridges")


class Half:
    """Sound of one caller that no model has made words of. is_speech: whether somebody has noticed speech in it.
    left_at: when the line was lost, by the loop's clock. taken: by whoever has the caller now, in this process. by:
    under which holder's name the service has it, too; None = it has nothing of it."""

    __slots__ = ("by", "is_speech", "left_at", "media", "sound", "taken")

    def __init__(
        self, sound: bytes, media: MediaFormat, *, is_speech: bool, left_at: float, by: str | None = None
    ) -> None:
        self.sound = sound
        self.media = media
        self.is_speech = is_speech
        self.left_at = left_at
        self.by = by
        self.taken = False


class Halves:
    """One for each conversation at most. seconds: how long each is kept. return_seconds: for how much of that it goes
    before its words. on_forgotten: is told of each that is kept in vain."""

    def __init__(self, seconds: float, return_seconds: float, on_forgotten: Callable[[], None]) -> None:
        self._seconds = seconds
        self._return_seconds = return_seconds
        self._on_forgotten = on_forgotten
        self._kept: dict[str, tuple[Half, asyncio.TimerHandle]] = {}
        self._bytes = 0
        self._stopped = asyncio.Event()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, session_id: str, half: Half) -> None:
        """In place of an older one."""
        self._forget(session_id)
        timer = asyncio.get_running_loop().call_later(self._seconds, self._forget, session_id)
        self._kept[session_id] = half, timer
        self._bytes += len(half.sound)
        while self._bytes > HALVES_BYTES_MAX:
            _log.warning("what a caller was saying is given up: lines of too many were lost at once")
            self._forget(next(iter(self._kept)))

    def take(self, session_id: str) -> Half | None:
        """What is kept, once."""
        half = self._drop(session_id)
        if half is not None:
            half.taken = True
        return half

    def replace(self, session_id: str, half: Half) -> bool:
        """Its words stand for it from now on. False: somebody has taken it, so they must not."""
        if half.taken:
            return False
        if session_id in self._kept and self._kept[session_id][0] is half:
            self._drop(session_id)
        return True

    async def nobody_came(self, half: Half) -> None:
        """Wait until it has been kept for `return_seconds`, or nobody can come back to this process any more."""
        left = half.left_at + self._return_seconds - asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                await self._stopped.wait()

    def stop(self) -> None:
        """Nobody comes back to this process any more."""
        self._stopped.set()

    def close(self) -> None:
        """Forget all."""
        for session_id in tuple(self._kept):
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        if self._drop(session_id) is not None:
            self._on_forgotten()

    def _drop(self, session_id: str) -> Half | None:
        found = self._kept.pop(session_id, None)
        if found is None:
            return None
        half, timer = found
        timer.cancel()
        self._bytes -= len(half.sound)
        return half
