"""Background tasks of a bridge, which outlive the calls that began them and end with the bridge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

LAST_SECONDS: Final = 5.0
_log: Final = logging.getLogger("sessionmanager.bridges")


class Tasks:
    """Tasks that somebody will have ended: nothing is left behind when `close` has answered."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str, *, last: bool = False) -> asyncio.Task[Any]:
        """Begin it. What it raises is logged by its class; the rest goes on. last: `close` waits for it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if last:
            self._last.add(task)
            task.add_done_callback(self._last.discard)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s failed: %s", task.get_name(), type(error).__name__, exc_info=error)

    async def close(self) -> None:
        """Cancel what still runs and wait for it; what is to be done last has `LAST_SECONDS` before."""
        if self._last:
            await asyncio.wait(tuple(self._last), timeout=LAST_SECONDS)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
