"""What the worker forgets when its time is over: all of it, however much, and in batches that hold nothing else up."""

from __future__ import annotations

from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.working.worker import SWEEP_PAGE
from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key
from tests.support.scenes import ALICE, World, begin

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


class CountingWarm:
    """Warm that remembers its sweeps; `fails` of them fail."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self.swept: list[int] = []
        self.fails = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm, name)

    async def sweep(self, now: Instant, limit: int) -> int:
        assert limit == SWEEP_PAGE
        if self.fails:
            self.fails -= 1
            raise TierUnavailable("warm")
        self.swept.append(await self._warm.sweep(now, limit))
        return self.swept[-1]


def process(world: World) -> tuple[Core, CountingWarm]:
    warm: Any = CountingWarm(world.tiers.warm)
    return world._replace(tiers=world.tiers._replace(warm=warm)).process(), warm


async def old_records(world: World, count: int) -> None:
    over = instants.plus(world.tiers.warm.now(), 1.0)
    for i in range(count):
        await world.tiers.warm.put_record("acme", "request", f"{i:06d}", b"x", rev=0, expires_at=over)
    world.clock.seconds += 2


async def test_a_sweep_goes_on_turn_after_turn_until_there_is_no_more(world: World) -> None:
    core, warm = process(world)
    await old_records(world, 2 * SWEEP_PAGE + 7)
    for _ in range(5):
        await core.worker.turn()
    assert warm.swept == [SWEEP_PAGE, SWEEP_PAGE, 7], "one batch a turn, and none once there is no more"
    assert await world.tiers.warm.list_records("acme", "request") == []
    await old_records(world, 1)
    world.clock.seconds += 301
    await core.worker.turn()
    assert warm.swept[3:] == [1]


async def test_a_sweep_that_fails_keeps_nobody_from_what_it_is_owed_and_comes_round_again(world: World) -> None:
    core, warm = process(world)
    await begin(core, KEY)
    await core.sessions.erase(KEY, ALICE)
    await old_records(world, 1)
    warm.fails = 1
    assert await core.worker.turn() == 1
    assert world.heard.failures == ["chores: TierUnavailable"]
    assert await world.tiers.cold.list("erasures/") != [], "the erasure went on"
    world.clock.seconds += 301
    await core.worker.turn()
    assert warm.swept == [1]
