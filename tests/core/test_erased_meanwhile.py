"""A session that is erased while something of it is still being written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sessionmanager.errors import Contended, Erased
from sessionmanager.model.index import segment
from sessionmanager.words import Key
from tests.support.builders import lines
from tests.support.faulty import Faulty
from tests.support.scenes import ALICE, begin, open_world, request

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


async def test_a_body_of_an_erased_session_is_refused_as_erased_and_nothing_of_it_stays(tmp_path: Path) -> None:
    """An append that seals inline on one replica meets an erase on another: its caller is told 410, and no fault."""
    async with open_world(tmp_path) as world:
        one, other = world.process(), world.process()
        await begin(one, KEY)
        await other.sessions.erase(KEY, ALICE)
        with pytest.raises(Erased):
            await one.bodies.put_warm(KEY, segment(lines(1, 3), "late"))
        assert await world.tiers.warm.list_bodies(KEY) == []


async def test_an_object_that_an_erasure_takes_before_it_is_read_back_is_no_damage(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cold = Faulty(world.tiers.cold)
        one = world._replace(tiers=world.tiers._replace(cold=cold)).process()
        await begin(one, KEY)
        ring = (await one.ledger.exact(KEY)).stored.head.keys
        held = cold.hold_before("get")
        putting = asyncio.ensure_future(one.bodies.put_cold(KEY, ring, "t/x/s/y/late", b"{}"))
        await held.reached.wait()
        await world.tiers.cold.remove("t/x/s/y/late")
        held.release()
        with pytest.raises(Contended):
            await putting


async def test_a_repeat_with_its_key_is_told_of_the_erasure_and_not_of_what_came_before(tmp_path: Path) -> None:
    """The replica that is asked remembers the head from before: the answer that was kept is gone with the session."""
    async with open_world(tmp_path) as world:
        one, other = world.process(), world.process()
        await begin(one, KEY)
        await one.sessions.transition(KEY, "suspend", ALICE, request=request("once"))
        assert (await one.sessions.transition(KEY, "suspend", ALICE, request=request("once"))).replayed
        assert (await one.sessions.view(KEY, lines=0)).stored.head.status == "dormant"
        await other.sessions.erase(KEY, ALICE)
        with pytest.raises(Erased):
            await one.sessions.transition(KEY, "suspend", ALICE, request=request("once"))
