"""What every follower of a feed has: a place that is given back once, a wake-up, and an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sessionmanager.core.feed.parts import Cut, FeedLimits


class Seat:
    """One follower's place. on_close: gives it back.

    It is behind from `fall_behind` until `keep_up`: it reads for itself, and what its reader hands out is not kept.
    """

    def __init__(self, limits: FeedLimits, on_close: Callable[[], None]) -> None:
        self.limits = limits
        self.ended: Cut | None = None
        self.behind = False
        self._behind_since: float | None = None
        """Since when it is, if it had kept up before; a first catching up takes as long as it takes."""
        self._on_close = on_close
        self._closed = False
        self._wake = asyncio.Event()

    def close(self) -> None:
        """Follow no more. Safe to repeat."""
        if not self._closed:
            self._closed = True
            self._on_close()

    def cut(self, reason: Cut) -> None:
        """The feed ends here, after what has been handed out."""
        if self.ended is None:
            self.ended = reason
            self._wake.set()

    def interrupt(self) -> None:
        """Let whoever waits come back at once."""
        self._wake.set()

    async def wait(self, seconds: float | None) -> None:
        """Until something comes, an interruption, or the time is over (None: it is never)."""
        if seconds is None:
            await self._wake.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._wake.clear()

    def taken(self) -> None:
        """What had come is given out: nothing is left to wake for."""
        self._wake.clear()

    def fall_behind(self) -> None:
        if not self.behind:
            self.behind, self._behind_since = True, asyncio.get_running_loop().time()
        self._wake.set()

    def keep_up(self) -> None:
        self.behind, self._behind_since = False, None

    def require_pace(self) -> None:
        """Raises Cut: it has been behind for too long."""
        since = self._behind_since
        if since is not None and asyncio.get_running_loop().time() - since > self.limits.slow_seconds:
            raise Cut("slow")
