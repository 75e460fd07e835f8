"""What every subscription to a feed has: a place that is given back once, a wake-up, and an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.waits.pause import pause

Reason = Literal["draining", "slow", "erased", "failed"]
"""Why a feed ends: this replica stops; the reader does not keep up; the session is gone for ever; our own fault."""


class FeedEnded(Exception):
    """The feed has ended for this subscriber. Nothing is lost: whoever comes back with the last seq goes on there."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Subscription:
    """One subscriber's place in a feed. on_close: gives it back.

    It is behind from `fall_behind` until `keep_up`: it reads for itself, and what its reader hands out is not kept.
    """

    def __init__(self, limits: FeedLimits, on_close: Callable[[], None]) -> None:
        self.limits = limits
        self.ended: FeedEnded | None = None
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

    def end(self, ended: FeedEnded) -> None:
        """The feed ends here, after what has been handed out."""
        if self.ended is None:
            self.ended = ended
            self._wake.set()

    def interrupt(self) -> None:
        """Let whoever waits come back at once."""
        self._wake.set()

    async def wait(self, seconds: float | None) -> None:
        """Until something comes, an interruption, or the time is over (None: it is never)."""
        if seconds is None:
            await self._wake.wait()
        else:
            await pause(self._wake, seconds)
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
        """Raises FeedEnded: it has been behind for too long."""
        since = self._behind_since
        if since is not None and asyncio.get_running_loop().time() - since > self.limits.slow_seconds:
            raise FeedEnded("slow")
