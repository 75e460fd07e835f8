"""Commits of one session queue in order inside a process, so that lost races come from other replicas only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from sessionmanager.errors import Contended
from sessionmanager.words import Key

WAITING_MAX: Final = 1_000
"""How many writers may wait for one session before the next is told `contended`."""


class Turns:
    """A fair lock a session, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    @asynccontextmanager
    async def of(self, key: Key) -> AsyncGenerator[None]:
        """Hold the session's turn. Raises Contended where too many wait already."""
        await self.take(key)
        try:
            yield
        finally:
            self.give(key)

    async def take(self, key: Key) -> None:
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            return
        if len(queue) >= WAITING_MAX:
            raise Contended
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(key)
            else:
                queue.remove(turn)
            raise

    def give(self, key: Key) -> None:
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
