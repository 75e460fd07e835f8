"""Nothing that a request does costs more because the conversation is long: calls to tiers are counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.model.change import Change
from sessionmanager.words import Key
from tests.support.audit import Tiers
from tests.support.scenes import ALICE, World, open_world, request, said, sealed

pytestmark = pytest.mark.contract

SHORT, LONG = 4, 40
"""Segments of the conversation; the bounds are so small that the long one has a tree of five levels."""
OBJECTS_MAX = 2
"""What a resume from cold may read."""
GROWTH_MAX = 1.2
COLD_GROWTH_MAX = 2.0
"""The object holds the top of the index, which has a level more each time that the log has doubled."""


class Cost(NamedTuple):
    """What a request asked of warm and cold. written: bytes of its lines and parts; read: bytes out of cold."""

    calls: Counter[str]
    written: int
    read: int


class Counting:
    """A tier that counts what is asked of it."""

    def __init__(self, tier: Any, name: str) -> None:
        self._tier = tier
        self._name = name
        self.calls: Counter[str] = Counter()
        self.bytes_written = self.bytes_read = 0

    def __getattr__(self, operation: str) -> Any:
        inner = getattr(self._tier, operation)
        if not iscoroutinefunction(inner):
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[f"{self._name} {operation}"] += 1
            if args and isinstance(args[0], Change):
                change = args[0]
                self.bytes_written += sum(len(change.stored.parts[part]) for part in change.changed)
                self.bytes_written += sum(len(line.data) for line in change.entries)
            answer = await inner(*args, **kwargs)
            if isinstance(answer, bytes):
                self.bytes_read += len(answer)
            return answer

        return call


class Counted(NamedTuple):
    """A world whose tiers count."""

    world: World
    warm: Counting
    cold: Counting

    def begin(self) -> None:
        for tier in (self.warm, self.cold):
            tier.calls.clear()
            tier.bytes_written = tier.bytes_read = 0

    def cost(self) -> Cost:
        return Cost(self.warm.calls + self.cold.calls, self.warm.bytes_written, self.cold.bytes_read)


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[Counted]:
    async with open_world(tmp_path) as world:
        warm, cold = Counting(world.tiers.warm, "warm"), Counting(world.tiers.cold, "cold")
        tiers: Any = Tiers(world.tiers.hot, warm, cold)  # type: ignore[arg-type]
        yield Counted(world._replace(tiers=tiers), warm, cold)


async def an_append(counted: Counted, core: Core, key: Key) -> Cost:
    counted.begin()
    await core.sessions.append(key, said("one more", "one-more"), ALICE, request("one-more"))
    return counted.cost()


async def a_resume(counted: Counted, core: Core, key: Key) -> Cost:
    counted.begin()
    resumed = await core.sessions.resume(key, ALICE, max_age_seconds=None, lines=3, request=request("resume"))
    assert len(resumed.view.lines) == 3
    return counted.cost()


async def test_an_append_and_a_resume_ask_and_write_the_same_of_a_long_conversation(counted: Counted) -> None:
    """By a process that knows nothing of the session yet, which is the dearest case."""
    costs: dict[str, list[Cost]] = {"append": [], "resume": []}
    for segments in (SHORT, LONG):
        key = Key("acme", f"of-{segments}")
        await sealed(counted.world.process(), key, segments)
        costs["append"].append(await an_append(counted, counted.world.process(), key))
        costs["resume"].append(await a_resume(counted, counted.world.process(), key))
    for name, (short, long) in costs.items():
        assert long.calls == short.calls, name
        assert long.written <= GROWTH_MAX * short.written, name
        assert short.read == long.read == 0, name


async def test_a_resume_from_cold_reads_at_most_two_objects_and_a_tails_bytes_at_any_length(counted: Counted) -> None:
    costs: list[Cost] = []
    for segments in (SHORT, LONG):
        key = Key("acme", f"cold-{segments}")
        core = counted.world.process()
        await sealed(core, key, segments)
        await core.sessions.transition(key, "suspend", ALICE)
        await core.sessions.archive(key, ALICE)
        assert await core.archiver.run(key)
        costs.append(await a_resume(counted, counted.world.process(), key))
    short, long = costs
    assert long.calls == short.calls
    assert 1 <= long.calls["cold get"] <= OBJECTS_MAX
    assert long.read <= COLD_GROWTH_MAX * short.read
