"""Warm's clock: the primary's, carried on by our own monotonic one between two looks.

Each look answers the server's time at some moment of its round trip, so it is known to half of that; the look with the
shortest round trip of the last few is believed. It never goes back: where a new primary's clock is behind, it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NamedTuple

from sessionmanager.errors import SessionManagerError
from sessionmanager.model import instants
from sessionmanager.words import Instant

LOOK_SECONDS: Final = 1.0
LOOKS_KEPT: Final = 8
FRESH_SECONDS: Final = 5.0
"""An offset is fresh this long. Clocks of machines part by some 50 µs a second, so it is as good as new then; what it
cannot know is that the server's clock was set."""


class _Look(NamedTuple):
    """offset_ms: server's time less our monotonic one. round_trip: seconds. at: when, monotonic."""

    offset_ms: float
    round_trip: float
    at: float


class Clock:
    """ask: the server's time. Nothing is answered before the first `look`."""

    def __init__(self, ask: Callable[[], Awaitable[datetime]], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._looks: deque[_Look] = deque(maxlen=LOOKS_KEPT)
        self._believed: _Look | None = None
        self._now_ms = 0
        self._wake = asyncio.Event()
        self._stopped = False

    async def look(self) -> None:
        """Ask the server once. Raises what asking raises."""
        began = self._monotonic()
        told = await self._ask()
        ended = self._monotonic()
        look = _Look(told.timestamp() * 1000 - (began + ended) * 500, ended - began, ended)
        self._looks.append(look)
        self._believed = min(self._looks, key=lambda one: one.round_trip)

    def primary_changed(self) -> None:
        """Another server's clock counts from now on: look at it at once, and forget the old one's."""
        self._looks.clear()
        self._wake.set()

    def now_ms(self) -> int:
        """The server's time in milliseconds since 1970, as well as it is known; never less than before."""
        assert self._believed is not None, "the clock was not set"
        self._now_ms = max(self._now_ms, int(self._monotonic() * 1000 + self._believed.offset_ms))
        return self._now_ms

    def now(self) -> Instant:
        return instants.from_ms(self.now_ms())

    @property
    def error_seconds(self) -> float:
        """How far the clock may be off, but for the server's own error: what a lease is to be shortened by.

        Half a round trip, and by how much it is ahead while it waits for a server whose clock is behind.
        """
        assert self._believed is not None, "the clock was not set"
        told_ms = self._monotonic() * 1000 + self._believed.offset_ms
        return self._believed.round_trip / 2 + max(0.0, self._now_ms - told_ms) / 1000

    @property
    def is_fresh(self) -> bool:
        """Whether the server was heard of lately."""
        return bool(self._looks) and self._monotonic() - self._looks[-1].at <= FRESH_SECONDS

    async def run(self) -> None:
        """Look each second, and at once after a change of primary; until `stop`."""
        while not self._stopped:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.look()
            except SessionManagerError:
                continue  # the guard tells that warm is away; the clock goes on by our own until it is back

    def stop(self) -> None:
        """End `run` when it comes round; a cancellation may be lost within the driver (Python 3.11, `wait_for`)."""
        self._stopped = True
        self._wake.set()
