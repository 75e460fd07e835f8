"""An erasure is not complete before hot, too, has said that it holds nothing of the session."""

from __future__ import annotations

from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.errors import TierUnavailable
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.scenes import ALICE, GRACE_SECONDS, World, begin

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


def over_faulty_hot(world: World) -> tuple[Core, Faulty]:
    core = world.process()
    hot: Any = Faulty(core.ledger.hot)
    core.ledger.hot = hot
    return core, hot


async def status_of(core: Core, erasure_id: str) -> str:
    return (await core.sessions.erasure(KEY.tenant, erasure_id)).status


async def test_hot_is_told_once_more_before_an_erasure_is_complete(world: World) -> None:
    core, hot = over_faulty_hot(world)
    await begin(core, KEY)
    hot.fail_before("after_commit", TierUnavailable("hot"), 2)  # of the tombstone, and of the first look
    begun = await core.sessions.erase(KEY, ALICE)
    await core.works["erase"](KEY)
    world.clock.seconds += GRACE_SECONDS
    assert hot.spent
    assert "drop_for_ever" not in hot.begun
    await core.works["erase"](KEY)
    assert "drop_for_ever" in hot.applied
    assert await status_of(core, begun.erasure.erasure_id) == "complete"


async def test_while_hot_is_away_an_erasure_stays_pending_and_a_worker_ends_it_when_it_is_back(world: World) -> None:
    core, hot = over_faulty_hot(world)
    await begin(core, KEY)
    hot.fail_before("after_commit", TierUnavailable("hot"), 2)
    hot.fail_before("drop_for_ever", TierUnavailable("hot"), 2)
    begun = await core.sessions.erase(KEY, ALICE)
    await core.worker.turn()
    world.clock.seconds += GRACE_SECONDS
    for _ in range(2):
        await core.worker.turn()
        assert await status_of(core, begun.erasure.erasure_id) == "pending"
        world.clock.seconds += GRACE_SECONDS
    assert hot.spent
    await core.worker.turn()
    assert await status_of(core, begun.erasure.erasure_id) == "complete"
