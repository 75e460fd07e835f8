"""A token is good for one stay, on every replica, whatever its hot copy shows: copies of two processes differ here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.command import Who
from sessionmanager.errors import Unauthenticated
from sessionmanager.model.head import Participant
from sessionmanager.model.participants import Join
from sessionmanager.words import Key
from tests.support.scenes import ALICE, World, begin, open_world

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
LEASE_SECONDS = 60.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def join(core: Core) -> Participant:
    wanted = Join(core.participants.new_id(), "agent", "bot", "agent", LEASE_SECONDS)
    return (await core.participants.join(KEY, ALICE, wanted)).participant


async def seen(core: Core) -> Participant | None:
    """The participant as this process's copy of the session has it."""
    return next(iter(await core.participants.list(KEY)), None)


async def test_whoever_has_just_joined_is_let_in_by_a_replica_whose_copy_is_from_before(world: World) -> None:
    here, there = world.process(), world.process()
    await begin(here, KEY)
    assert await seen(there) is None
    person = await join(here)
    assert await seen(there) is None, "the copy is old, and may be for one lease"
    await there.participants.require_bound(KEY, person.id, person.epoch)


async def test_a_token_of_an_earlier_stay_keeps_no_later_one_alive(world: World) -> None:
    here, there = world.process(), world.process()
    await begin(here, KEY)
    first = await join(here)
    assert (await seen(there)) == first
    await here.participants.leave(KEY, first.id, ALICE)
    again = await join(here)
    assert (again.id, again.epoch) == (first.id, first.epoch + 1)
    assert (await seen(there)) == first, "the copy is old"
    world.clock.seconds += 1.0  # within the lease of the copy
    await there.participants.require_bound(KEY, first.id, first.epoch)  # a read under it may be as old as the copy
    with pytest.raises(Unauthenticated):
        await there.participants.heartbeat(KEY, first.id, Who("bot", None, first.id, first.epoch))
    person = await there.participants.heartbeat(KEY, again.id, Who("bot", None, again.id, again.epoch))
    assert person.epoch == again.epoch
