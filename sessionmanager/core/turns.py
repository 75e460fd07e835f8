"""Commits of one session queue in order inside a process, so that lost races come from other replicas only; and each
goes on to its end whatever becomes of whoever asked for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from sessionmanager.errors import Contended, Draining
from sessionmanager.words import Key

WAITING_MAX: Final = 1_000
"""How many writers may wait for one session before the next is told `contended`."""

T = TypeVar("T")


class Turns:
    """Runs work on sessions, one at a time for each of them, each in a task of its own."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}  # of sessions that somebody works on
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` answers or raises, in its turn. It is never cancelled with its caller.

        Raises Draining, and Contended where too many wait already.
        """
        if self._draining:
            raise Draining
        loop = asyncio.get_running_loop()
        # As `asyncio.shield`, less one turn of a loop that may be busy.
        answer: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(self._in_turn(key, work, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await answer

    @property
    def in_flight(self) -> int:
        """Pieces of work that have begun, or wait, and not ended."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """Those that wait for their session's turn."""
        return sum(len(queue) for queue in self._waiting.values())

    async def drain(self) -> None:
        """Take no more and wait for those that have begun; each is bounded by the deadlines of its calls."""
        self._draining = True
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _in_turn(self, key: Key, work: Callable[[], Coroutine[Any, Any, T]], answer: asyncio.Future[T]) -> None:
        """Hand the outcome to whoever still waits for it. What nobody waits for any more is dropped, errors, too."""
        try:
            if key in self._waiting:
                await self._take(key)
            else:
                self._waiting[key] = deque()
            try:
                done = await work()
            finally:
                self._give(key)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            if not answer.done():
                answer.set_exception(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            if not answer.done():
                answer.set_result(done)

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
