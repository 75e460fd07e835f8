"""Sheds load at the door, before queues grow: what is refused costs a hundredth of what is answered.

Two signs say that there is too much. Depth: so many requests are being answered already. Age: whatever is ready waits
long for its turn on the event loop, time after time, while a crowd is being answered; then only as many are let in as
make a crowd, so that those are answered soon and the others are told at once when to come back. Without it a queue
would grow until every caller has given up before its answer is there (reliability notes, P7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from sessionmanager.errors import Overloaded

CROWD: Final = 64
"""So many requests at once are answered however late the loop is: fewer would not be worth its lateness."""
TICK_SECONDS: Final = 0.1
LATE_SECONDS: Final = 0.25
"""A turn of the loop later than this is late: a request takes three or four, and its caller may wait a second."""
LATE_FOR_SECONDS: Final = 1.0
"""Late turns for so long are no pause of a garbage collector or of a neighbour, but too much work."""
QUIET_SECONDS: Final = 5.0
"""Nothing was refused for so long: it is over, and the log says so."""

log = structlog.get_logger()


class Shedding:
    """One a process; `run` beside the server. Cost: two comparisons a request."""

    def __init__(self, requests_max: int, shed: Callable[[str], None] = lambda reason: None) -> None:
        """shed: told of each refusal, `depth` or `late`."""
        self._requests_max = requests_max
        self._shed = shed
        self._late_since: float | None = None
        self._now = 0.0  # of the last tick, on the loop's clock
        self._refused_at: float | None = None

    def check(self, answering: int) -> None:
        """Whether one more may be answered beside `answering` others. Raises Overloaded."""
        if answering >= self._requests_max:
            self._refuse("depth")
        if answering >= CROWD and self._late_since is not None and self._now - self._late_since >= LATE_FOR_SECONDS:
            self._refuse("late")

    def _refuse(self, reason: str) -> None:
        if self._refused_at is None:
            log.warning("edge.shedding", state="begun", reason=reason)
        self._refused_at = self._now
        self._shed(reason)
        raise Overloaded

    async def run(self, stop: asyncio.Event) -> None:
        """Look how late the loop is, until `stop` is set."""
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(TICK_SECONDS, self._schedule, loop, loop.time() + TICK_SECONDS)
        try:
            await stop.wait()
        finally:
            self._ticking.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._tick(loop.time(), due)
        self._ticking = loop.call_later(TICK_SECONDS, self._schedule, loop, loop.time() + TICK_SECONDS)

    def _tick(self, now: float, due: float) -> None:
        self._now = now
        if now - due < LATE_SECONDS:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now  # from here on: one pause, however long, is no overload
        if self._refused_at is not None and now - self._refused_at >= QUIET_SECONDS:
            self._refused_at = None
            log.warning("edge.shedding", state="ended")
