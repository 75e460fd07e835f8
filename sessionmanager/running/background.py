"""What goes on beside requests, and does not end before the process does."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from sessionmanager.waits.pause import pause

AGAIN_SECONDS: Final = 1.0
"""Between the end of a work that should not have ended and its next beginning."""

FRAMES_MAX: Final = 20

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""What runs until it is told to stop."""

log = structlog.get_logger()


async def keep(work: Work, stop: asyncio.Event, *, again_seconds: float = AGAIN_SECONDS) -> None:
    """Run it until `stop` is set. An error that it did not expect is told, and it begins again: a process that serves
    and does nothing else any more would look healthy from outside."""
    while not stop.is_set():
        try:
            await work(stop)
        except Exception as error:
            # Where it came through, and nothing of what it says: that may be what somebody said.
            frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
            told = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
            log.error("background.failed", work=_name(work), error=type(error).__name__, traceback=told)
        else:
            if stop.is_set():
                return
            log.error("background.failed", work=_name(work), error="ended")
        await pause(stop, again_seconds)


def _name(work: Work) -> str:
    return getattr(work, "__qualname__", "") or type(work).__name__
