"""Cores over embedded tiers with services that live in memory: what seating and its kill tests play with."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.command import Who
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.services.asking import Invitation
from sessionmanager.core.services.assembly import Outside, ServiceSettings
from sessionmanager.core.services.registry import Service, WantedService
from sessionmanager.model.head import Head, Seat
from sessionmanager.model.service_steps import Answer
from sessionmanager.model.services import Rules, ServiceRules
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.halt import Halt
from tests.support.scenes import Clock, Heard

TENANT: Final = "acme"
ALICE: Final = Who("alice")
RULES: Final = ServiceRules(Rules(), {"tts": Rules(optional=True, retry_seconds=5.0)})
TURNS_MAX: Final = 200
LOOKS_MAX: Final = 100_000


class FakeCalls:
    """Services in memory. `says`: what each answers, by id; a service that is not in it never answers in time."""

    def __init__(self) -> None:
        self.says: dict[str, Answer] = {}
        self.well: dict[str, str | None] = {}
        self.asked: list[Invitation] = []
        self.checked: list[str] = []
        self.before: Callable[[Invitation], None] = lambda asked: None

    async def join(self, service: Service, asked: Invitation) -> Answer:
        self.before(asked)
        self.asked.append(asked)
        await asyncio.sleep(0)
        return self.says.get(service.id, Answer("refused", "timeout"))

    async def health(self, service: Service) -> str | None:
        self.checked.append(service.id)
        await asyncio.sleep(0)
        return self.well.get(service.id)


class Stage(NamedTuple):
    """Tiers on a disk, and processes over them."""

    warm: Warm
    cold: Cold
    clock: Clock
    calls: FakeCalls
    heard: Heard

    def process(self, halt: Halt | None = None, calls: Any = None) -> Core:
        """A fresh core; with `halt`, one that can die at any call to warm or to a service."""
        warm: Any = self.warm if halt is None else halt.around(self.warm)
        reached: Any = calls or self.calls
        if halt is not None:
            reached = halt.around(reached)
        return build_core(
            MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), self.clock),
            warm,
            self.cold,
            MasterKeys(bytes(range(32))),
            CoreSettings(policy=Policy(idle_suspend_seconds=0, archive_after_days=0), services=ServiceSettings(RULES)),
            events=self.heard,
            random_bytes=random.SystemRandom().randbytes,
            sleep=self.clock.sleep,
            outside=Outside(reached),
        )

    async def register(self, core: Core, *ids: str, answer: str = "joined") -> None:
        """Services that answer so; the type is what stands before the dash."""
        for service_id in ids:
            kind = service_id.partition("-")[0]
            wanted = WantedService(service_id, kind, f"http://{service_id}.test")
            await core.services.registry.register(TENANT, wanted, service_id)
            self.calls.says[service_id] = Answer(answer)  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncGenerator[Stage]:
    """A stage whose tiers lie in `folder`."""
    clock = Clock()
    async with (
        open_sqlite(f"sqlite:///{folder}/warm.db", commit_in="loop", clock=clock) as warm,
        open_directory(f"file://{folder}/cold", threads=1) as cold,
    ):
        yield Stage(warm, cold, clock, FakeCalls(), Heard())


async def create(core: Core, name: str, *kinds: str) -> Key:
    key, _ = await core.sessions.create(TENANT, name, {}, (), ALICE, services=kinds)
    return key


async def settle(core: Core) -> None:
    """Let the worker and those who are told go on until nothing is due at this moment."""
    for _ in range(TURNS_MAX):
        looked = await core.worker.turn()
        await told(core)
        if not looked and not core.worker.waiting:
            return
    raise AssertionError("there is always something due")


async def told(core: Core) -> None:
    """Until everybody who is being told has answered."""
    for _ in range(LOOKS_MAX):
        if not core.services.seating.telling:
            return
        await asyncio.sleep(0)
    raise AssertionError("somebody never answers")


async def head_of(core: Core, key: Key) -> Head:
    return (await core.ledger.exact(key)).stored.head


async def seat_of(core: Core, key: Key, kind: str = "asr") -> Seat:
    return next(seat for seat in (await head_of(core, key)).detail.services if seat.type == kind)


async def entries_of(stage: Stage, key: Key) -> list[dict[str, Any]]:
    lines = await stage.warm.read(key, after=0, before=2**53, limit=1_000)
    return [json.loads(line.data) for line in lines]
