"""A token is good for one stay, on every replica, whatever its hot copy shows: copies of two processes differ here."""

from __future__ import annotations

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.command import Who
from sessionmanager.errors import NotFound, OutcomeUnknown, TierUnavailable, Unauthenticated
from sessionmanager.model.head import Participant
from sessionmanager.model.participants import Join
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.scenes import ALICE, World, begin, request

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
LEASE_SECONDS = 60.0


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


async def test_a_join_that_stands_and_cannot_be_read_back_is_not_told_as_refused(world: World) -> None:
    """A repeat by a replica whose copy is from before, while warm is away from it between two reads."""
    here, warm = world.process(), Faulty(world.tiers.warm)
    there = world._replace(tiers=world.tiers._replace(warm=warm)).process()
    await begin(here, KEY)
    assert await seen(there) is None
    wanted = Join(here.participants.new_id(), "agent", "bot", "agent", LEASE_SECONDS)
    joined = await here.participants.join(KEY, ALICE, wanted, request("once"))
    world.clock.seconds += LEASE_SECONDS  # longer than copies are trusted
    warm.fail_before("load", TierUnavailable("warm"))
    with pytest.raises(OutcomeUnknown):
        await there.participants.join(KEY, ALICE, wanted, request("once"))
    again = await there.participants.join(KEY, ALICE, wanted, request("once"))
    assert (again.participant, again.written.version) == (joined.participant, joined.written.version)


async def test_a_heartbeat_in_an_archived_session_is_told_that_its_participant_left_and_not_that_there_was_none(
    world: World,
) -> None:
    core = world.process()
    await begin(core, KEY)
    person = await join(core)
    await core.sessions.transition(KEY, "suspend", ALICE)
    await core.sessions.archive(KEY, ALICE)
    assert await core.archiver.run(KEY)
    with pytest.raises(Unauthenticated):
        await core.participants.heartbeat(KEY, person.id, Who("bot", None, person.id, person.epoch))
    with pytest.raises(NotFound):
        await core.participants.heartbeat(KEY, "nobody", ALICE)
