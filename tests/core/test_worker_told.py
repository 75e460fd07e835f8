"""What the worker says of work that it cannot do: which work, once, and of damaged data by the name of the session."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sessionmanager.errors import DataCorrupt, TierUnavailable
from sessionmanager.words import Key
from tests.support.scenes import ALICE, World, begin

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


async def turns(world: World, error: Exception, count: int) -> list[dict[str, object]]:
    """So many tries of an erasure that ends with this error; what was logged."""
    core = world.process()
    await begin(core, KEY)
    await core.sessions.erase(KEY, ALICE)

    async def fails(key: Key) -> object:
        raise error

    core.worker._works = {**core.works, "erase": fails}  # pyright: ignore[reportPrivateUsage]
    with capture_logs() as lines:
        for _ in range(count):
            await core.worker.turn()
            world.clock.seconds += 120
    return [dict(line) for line in lines]


async def test_a_failure_is_counted_under_the_work_that_failed(world: World) -> None:
    assert await turns(world, TierUnavailable("cold"), 2) == []
    assert world.heard.failures == ["erase: TierUnavailable"] * 2


async def test_damaged_data_is_told_once_with_the_session_and_what_it_is(world: World) -> None:
    [line] = await turns(world, DataCorrupt("the object x does not match its pointer"), 3)
    assert (line["event"], line["log_level"], line["tenant"], line["session"], line["work"], line["detail"]) == (
        "worker.corrupt", "error", "acme", "call-1", "erase", "the object x does not match its pointer",
    )  # fmt: skip
    assert world.heard.failures == ["erase: DataCorrupt"] * 3
