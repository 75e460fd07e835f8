"""Commits of one session queue in order inside a process, so that lost races come from other replicas only.

They run in the task of whoever asks for them. A caller who leaves takes along what was not sent yet; what was is gone
on with without it, before anybody else gets a turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from sessionmanager.errors import Contended, Draining
from sessionmanager.words import Key

WAITING_MAX: Final = 1_000
"""How many writers may wait for one session before the next is told `contended`."""

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class Turns:
    """Runs work on sessions, one piece at a time for each of them."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}  # of sessions that somebody works on
        self._left: dict[Key, asyncio.Task[None]] = {}  # what goes on without its caller, and has its turn
        self._begun = 0
        self._draining = False
        self._drained = asyncio.Event()

    async def run(self, key: Key, work: Work[T]) -> T:
        """What `work` answers or raises, in its turn. Raises Draining, and Contended where too many wait already."""
        if self._draining:
            raise Draining
        self._begun += 1
        try:
            if key in self._waiting:
                await self._take(key)
            else:
                self._waiting[key] = deque()
            try:
                return await work()
            finally:
                if key not in self._left:
                    self._give(key)
        finally:
            self._end()

    async def finish(self, key: Key, work: Work[T]) -> T:
        """Within a turn: what `work` answers or raises. Where the caller leaves meanwhile it is begun again, in a task
        of its own that has the turn until it ends; so it must be the same done once or twice."""
        try:
            return await work()
        except asyncio.CancelledError:
            self._begun += 1
            self._left[key] = asyncio.create_task(self._go_on(key, work))
            raise

    @property
    def in_flight(self) -> int:
        """Pieces of work that have begun, or wait, and not ended."""
        return self._begun

    @property
    def waiting(self) -> int:
        """Those that wait for their session's turn."""
        return sum(len(queue) for queue in self._waiting.values())

    async def drain(self) -> None:
        """Take no more and wait for those that have begun; each is bounded by the deadlines of its calls."""
        self._draining = True
        if self._begun:
            await self._drained.wait()

    async def _go_on(self, key: Key, work: Work[Any]) -> None:
        try:
            with suppress(Exception):  # nobody waits for it, so there is nobody to tell
                await work()
        finally:
            del self._left[key]
            self._give(key)
            self._end()

    def _end(self) -> None:
        self._begun -= 1
        if self._draining and not self._begun:
            self._drained.set()

    async def _take(self, key: Key) -> None:
        queue = self._waiting[key]
        if len(queue) >= WAITING_MAX:
            raise Contended
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(key)
            else:
                queue.remove(turn)
            raise

    def _give(self, key: Key) -> None:
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
