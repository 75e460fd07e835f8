"""One run: replicas of the core over shared model tiers, clients, faults, and in the end the state of everything."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sessionmanager.core.assembly import Core
from sessionmanager.model import instants
from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.words import Instant, Key, TierName
from tests.support.sim.cast import Wish
from tests.support.sim.checker import check
from tests.support.sim.clients import Answer, Client, Notes, Request
from tests.support.sim.cold import FarCold, ModelCold
from tests.support.sim.endings import ending_of, owed_by
from tests.support.sim.history import EPOCH_MS, Ending, Operation, Promise, Violation
from tests.support.sim.hot import FarHot, ModelHot
from tests.support.sim.network import Link
from tests.support.sim.scenario import Scenario
from tests.support.sim.scheduler import Process, VirtualLoop
from tests.support.sim.service import LEASE_SECONDS, TENANT, ask, core_of, heard_logs
from tests.support.sim.warm import FarWarm, ModelWarm

RESTART_SECONDS: Final = (0.02, 1.5)
LAND_SECONDS: Final = 5.0
"""After the faults: long enough for everything under way to land."""
SETTLE_ROUNDS_MAX: Final = 300
"""Seconds of the virtual clock in which everything owed must have been done."""
CALM_KINDS: Final[tuple[Wish, ...]] = ("latest", "append", "get", "resume", "entries")
CALM_ENTRANCE: Final[tuple[Wish, ...]] = ("join", "beat")
"""What one client does in the end as a participant, beside what all do."""


@dataclass
class Tiers:
    """Which model tiers a run uses; a planted bug puts its own in their place."""

    warm: Callable[[Callable[[], Instant]], ModelWarm] = ModelWarm
    hot: Callable[[Callable[[], float]], ModelHot] = ModelHot
    cold: Callable[[], ModelCold] = ModelCold


class Outcome(NamedTuple):
    """What came of a run."""

    scenario: Scenario
    violations: list[Violation]
    counts: Counter[str]
    trace: str
    lines: list[str]
    history: list[Operation]


class Replica:
    """One of several; it is started again some time after each kill, with nothing of what it knew."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world
        self._runs = 0
        self._process: Process | None = None
        self.core: Core | None = None

    @property
    def process(self) -> Process | None:
        return self._process if self._process is not None and not self._process.dead else None

    def start(self) -> Process:
        self._runs += 1
        world = self._world
        process = self._process = Process(self.name, self._runs, world.loop)
        hot = ModelHot(world.loop.time) if world.scenario.private_hot else world.hot
        links: dict[TierName, Link] = {
            tier: Link(world.loop, world.weather, process, tier, world.notes.counts, world.strays)
            for tier in ("hot", "warm", "cold")
        }
        core = self.core = core_of(
            FarHot(hot, links["hot"]),
            FarWarm(world.warm, links["warm"]),
            FarCold(world.cold, links["cold"]),
            random.Random(world.loop.random.random()),
            world.notes,
        )
        process.start(core.worker.run(asyncio.Event()))
        return process

    async def ask(self, request: Request) -> Answer:
        assert self.core is not None
        return await ask(self.core, request)

    async def live(self) -> None:
        """Run, die, come back, for as long as the run goes on."""
        while True:
            await self.start().died
            self._world.notes.counts["kills"] += 1
            await asyncio.sleep(self._world.loop.random.uniform(*RESTART_SECONDS))


class World:
    """All of one run; `play` it once."""

    def __init__(self, scenario: Scenario, tiers: Tiers | None = None) -> None:
        tiers = tiers or Tiers()
        self.scenario = scenario
        self.weather = replace(scenario.weather)
        self.loop = VirtualLoop(scenario.seed)
        self.warm = tiers.warm(self.now)
        self.warm.watch = self._watch
        self.hot = tiers.hot(self.loop.time)
        self.cold = tiers.cold()
        self.notes = Notes()
        self.strays: set[str] = set()
        self.replicas = [Replica(f"r{i}", self) for i in range(scenario.replicas)]
        self.sessions = [f"s{i}" for i in range(scenario.sessions)]
        self.keys = [Key(TENANT, session) for session in self.sessions]

    def now(self) -> Instant:
        return instants.from_ms(EPOCH_MS + int(self.loop.time() * 1000))

    def _watch(self, before: Stored | None, change: Change) -> None:
        """Count what only the stored heads tell."""
        counts, after = self.notes.counts, change.stored
        if before is None or after.tombstone is not None:
            return
        if before.placement == "cold" and after.placement == "warm":
            counts["rehydrated"] += 1
        if change.entries and change.tail_from and before.placement == "warm":
            counts["sealed inline"] += 1
        if "index" in change.changed and any(refs for refs in after.head.index.levels[1:]):
            counts["nodes in the index"] += 1

    def play(self) -> Outcome:
        with heard_logs(self.notes):
            endings = self.loop.run(self._play())
        promise = Promise(LEASE_SECONDS, self.scenario.faultless)
        violations = check(self.notes.history, endings, promise)
        violations += [Violation("nothing_is_our_fault", "the worker", what) for what in self.notes.faults]
        return Outcome(
            self.scenario, violations, self.notes.counts, self.loop.trace, self.loop.lines, self.notes.history
        )

    async def _play(self) -> Sequence[Ending]:
        scenario = self.scenario
        background = [asyncio.create_task(replica.live()) for replica in self.replicas]
        losses = [asyncio.create_task(self._lose_hot()), asyncio.create_task(self._evict())]
        clients = [
            Client(
                f"c{i}",
                self.loop,
                list(self.replicas),
                self.sessions,
                self.notes,
                rush=scenario.rush,
                likes=scenario.likes,
            )
            for i in range(scenario.clients)
        ]
        await asyncio.gather(*(client.run(scenario.operations) for client in clients))
        self.weather.clear()
        for loss in losses:
            loss.cancel()
        await asyncio.sleep(LAND_SECONDS)
        self.notes.calm = True
        for client in clients:
            await client.run_calm(CALM_KINDS)
        await clients[0].run_calm(CALM_ENTRANCE)
        await self._settle()
        core = self._a_core()
        endings = [await ending_of(core, self.warm, self.cold, key, self.strays) for key in self.keys]
        for task in background:
            task.cancel()
        return endings

    async def _lose_hot(self) -> None:
        """Now and then hot forgets everything, or is what it was some time ago."""
        draw, mean = self.loop.random, self.scenario.hot_loss_seconds
        while mean:
            older = self.hot.snapshot()
            await asyncio.sleep(draw.expovariate(1 / mean))
            if draw.random() < 0.4:
                self.hot.lose()
                self.notes.counts["hot lost"] += 1
            else:
                self.hot.go_back(older)
                self.notes.counts["hot went back"] += 1
            self.loop.note("hot was lost or went back")

    async def _evict(self) -> None:
        draw, mean = self.loop.random, self.scenario.eviction_seconds
        while mean:
            await asyncio.sleep(draw.expovariate(1 / mean))
            self.hot.evict(draw)
            self.notes.counts["evictions"] += 1

    async def _settle(self) -> None:
        """Let the workers finish what is owed; what is still owed then is a fault."""
        for _ in range(SETTLE_ROUNDS_MAX):
            if not any(owed_by(self.warm, key, self.now()) for key in self.keys):
                break
            await asyncio.sleep(1.0)
        await asyncio.sleep(LAND_SECONDS)

    def _a_core(self) -> Core:
        """A core of nobody's, right at the tiers."""
        return core_of(ModelHot(self.loop.time), self.warm, self.cold, random.Random(0), Notes())
