"""What warm's clock may be off by is taken off every lease of a hot copy, by whoever writes it and by whoever reads."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key
from tests.support.scenes import ALICE, World, begin, said

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
LEASE = 2.0


class OffWarm:
    """Warm with a clock that may be off by so much."""

    def __init__(self, warm: Warm, error: float) -> None:
        self._warm = warm
        self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm, name)

    def clock_error(self) -> float:
        return self.error


def process(world: World, error: float) -> tuple[Core, OffWarm]:
    warm = OffWarm(world.tiers.warm, error)
    return world._replace(tiers=world.tiers._replace(warm=warm)).process(), warm


async def shown_by(core: Core) -> str:
    return (await core.sessions.view(KEY, lines=1)).tier


async def test_a_reader_takes_its_clocks_error_off_the_lease(world: World) -> None:
    core, warm = process(world, 0.0)
    await begin(core, KEY)
    assert await shown_by(core) == "warm", "which fills hot"
    world.clock.seconds += LEASE - 0.25
    assert await shown_by(core) == "hot"
    warm.error = 0.2
    assert await shown_by(core) == "hot"
    warm.error = 0.3
    assert await shown_by(core) == "warm"


async def test_whoever_writes_a_copy_counts_its_lease_from_earlier_by_the_error(world: World) -> None:
    core, warm = process(world, 0.3)
    await begin(core, KEY)
    assert await shown_by(core) == "warm", "which fills hot"
    world.clock.seconds += 1.0
    await core.sessions.append(KEY, said("one", "one"), ALICE)
    warm.error = 0.0
    world.clock.seconds += LEASE - 0.35
    assert await shown_by(core) == "hot"
    world.clock.seconds += 0.1
    assert await shown_by(core) == "warm", "the copy of a commit"
    warm.error = 0.3
    world.clock.seconds += LEASE
    assert await shown_by(core) == "warm", "filled now"
    warm.error = 0.0
    world.clock.seconds += LEASE - 0.35
    assert await shown_by(core) == "hot"
    world.clock.seconds += 0.1
    assert await shown_by(core) == "warm", "the copy of a fill"


async def test_without_a_clock_that_was_compared_lately_no_copy_is_trusted_and_none_is_made_that_would_be(
    world: World,
) -> None:
    core, warm = process(world, inf)
    await begin(core, KEY)
    assert [await shown_by(core) for _ in range(3)] == ["warm"] * 3
    warm.error = 0.0
    assert await shown_by(core) == "warm", "its writer did not know when it wrote it"
    assert await shown_by(core) == "hot"
    warm.error = inf
    assert await shown_by(core) == "warm", "nor do we know how old it is"
    await core.sessions.append(KEY, said("one", "one"), ALICE)
    warm.error = 0.0
    assert await shown_by(core) == "warm", "what a commit leaves in hot is not trusted either"
