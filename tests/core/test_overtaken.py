"""Writers of one session in two processes, one of which is overtaken between its looks."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.scenes import ALICE, World, begin, said

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


async def test_what_another_has_written_meanwhile_is_told_with_its_version_and_not_an_older_one(world: World) -> None:
    """An append by entry id that finds its entries there: its caller reads on from the version that it is told."""
    warm = Faulty(world.tiers.warm)
    slow = world._replace(tiers=world.tiers._replace(warm=warm)).process()
    quick = world.process()
    await begin(quick, KEY)
    looking = warm.hold_before("find_entry_ids")
    late = asyncio.create_task(slow.sessions.append(KEY, said("hello", "once"), ALICE))
    await looking.reached.wait()
    written = await quick.sessions.append(KEY, said("hello", "once"), ALICE)
    looking.release()
    found = await late
    assert (found.committed, found.version) == (False, written.version)
