"""Whoever breaks things while a history is made: lines, servers and replicas, one after another, and mends them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.support.replicas import Replica, Servers
from tests.support.toxiproxy import Proxy

CUT_SECONDS: Final = (0.3, 3.0)
"""Some cuts are longer than the lease of a hot copy, some shorter than a deadline."""
QUIET_SECONDS: Final = (0.1, 0.6)
TARDY_MILLISECONDS: Final = 300
"""Beyond hot's deadline, within warm's."""
LOST_ANSWERS: Final = 3


class Gremlin:
    """Plays faults as they lie in a shuffled deck, so that a run of some length has them all. done: how often each."""

    def __init__(self, servers: Servers, replicas: Sequence[Replica], rng: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._servers = servers
        self._replicas = replicas
        self._rng = rng
        self._deck: list[Callable[[], Awaitable[None]]] = []

    async def run(self, seconds: float, between: Callable[[], Awaitable[None]]) -> None:
        """One fault after another for so long; `between` them the run goes on. Nothing is broken on return."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self._deck:
                self._deck = [
                    self.cut_hot, self.cut_warm, self.cut_warm, self.cut_cold, self.lose_answers, self.kill_replica,
                    self.kill_replica, self.kill_hot, self.kill_warm, self.lose_answers, self.cut_hot,
                ]  # fmt: skip
                self._rng.shuffle(self._deck)
            fault = self._deck.pop()
            self.done[fault.__name__] += 1
            await fault()
            await between()
            await asyncio.sleep(self._rng.uniform(*QUIET_SECONDS))

    async def cut_hot(self) -> None:
        """For one replica: it cannot tell hot, or hot cannot tell it."""
        line = self._any().lines.hot
        if line is not None:
            await self._cut(line)

    async def cut_warm(self) -> None:
        await self._cut(self._any().lines.warm)

    async def cut_cold(self) -> None:
        await self._cut(self._any().lines.cold)

    async def lose_answers(self) -> None:
        """Writes are applied, and nobody hears of it."""
        for replica in self._replicas:
            replica.lines.mongo.lose_answer("update", times=LOST_ANSWERS)
            replica.lines.mongo.lose_answer("insert", times=1)

    async def kill_replica(self) -> None:
        replica = self._any()
        await replica.kill()
        await replica.lines.heal()  # it may well refuse to start where a tier's first answer is lost
        await replica.start()

    async def kill_hot(self) -> None:
        """It comes back with what it had, or with nothing."""
        await self._servers.hot.restart(keep_data=self._rng.random() < 0.5)

    async def kill_warm(self) -> None:
        """It comes back with all that it has acknowledged."""
        await self._servers.warm.restart()

    def _any(self) -> Replica:
        return self._rng.choice(self._replicas)

    async def _cut(self, line: Proxy) -> None:
        tardy, jitter = TARDY_MILLISECONDS, TARDY_MILLISECONDS // 2
        how: Callable[[], Awaitable[object]] = self._rng.choice(
            (line.down, line.timeout, line.reset_peer, lambda: line.latency(tardy, jitter=jitter))
        )
        await how()
        await asyncio.sleep(self._rng.uniform(*CUT_SECONDS))
        await line.heal()
