"""Moves that meet each other, or cold at its worst: readers of old heads, uploads that land late, moves that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from sessionmanager.core.assembly import Core
from sessionmanager.core.bodies import session_prefix
from sessionmanager.core.history import Range
from sessionmanager.core.tenancy.tenants import TenantSettings
from sessionmanager.errors import DataCorrupt, Erased, OutcomeUnknown, TierUnavailable
from sessionmanager.model.timers import OWED_OBJECTS_MAX
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.words import Key
from tests.support.audit import Audit, audit, explained
from tests.support.faulty import Faulty
from tests.support.scenes import (
    ALICE,
    BOUND,
    GRACE_SECONDS,
    World,
    archived,
    begin,
    offloaded,
    request,
    said,
    sealed,
    talk,
    wished,
)

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


class SlowCold:
    """A cold tier whose next `get` waits until it is let go; `waits` says that somebody does."""

    def __init__(self, cold: Cold) -> None:
        self._cold = cold
        self._armed = False
        self.waits = asyncio.Event()
        self.go_on = asyncio.Event()

    def arm(self) -> None:
        self._armed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cold, name)

    async def get(self, name: str) -> bytes:
        if self._armed:
            self._armed = False
            self.waits.set()
            await self.go_on.wait()
        return await self._cold.get(name)


class LosingCold:
    """A cold tier that answers no put from the n-th on, and takes the bytes only when it is told to."""

    def __init__(self, cold: Cold, first: int, error: type[Exception]) -> None:
        self._cold = cold
        self._first = first
        self._error = error
        self.late: dict[str, bytes] = {}
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cold, name)

    async def put_once(self, name: str, data: bytes) -> None:
        self.puts += 1
        if self.puts < self._first:
            await self._cold.put_once(name, data)
            return
        if self._error is TierUnavailable:
            raise TierUnavailable("cold")
        self.late[name] = data
        raise self._error

    async def land(self) -> None:
        """Everything that was under way arrives."""
        for name, data in self.late.items():
            await self._cold.put_once(name, data)


def over(world: World, cold: Any) -> Core:
    """A process whose way to cold is this one."""
    return world._replace(tiers=world.tiers._replace(cold=cold)).process()


async def look(world: World) -> Audit:
    return await audit(world.process(), world.tiers, KEY)


async def finish_all(world: World) -> None:
    """Workers look, a grace apart, until no intent is left."""
    for _ in range(8):
        world.clock.seconds += GRACE_SECONDS
        await world.process().worker.turn()
    assert not (await look(world)).intents


async def archived_anew(world: World) -> None:
    core = world.process()
    await core.sessions.append(KEY, said("back", "back"), ALICE)
    await wish(core)
    assert await core.works["archive"](KEY)
    await finish_all(world)


async def wish(core: Core) -> None:
    await core.sessions.transition(KEY, "suspend", ALICE)
    await core.sessions.archive(KEY, ALICE)


async def back_in_warm(world: World) -> None:
    """Back, asleep, in cold and back again: the object of the first time is gone, and the session in warm."""
    await archived_anew(world)
    await world.process().sessions.append(KEY, said("again", "again"), ALICE)


async def erased(world: World) -> None:
    core = world.process()
    await core.sessions.erase(KEY, ALICE)
    await core.works["erase"](KEY)


Read = Callable[[Core], Awaitable[object]]


async def view(core: Core) -> object:
    return (await core.sessions.view(KEY, lines=50, latest=True)).stored.head.pulse.entry_count


async def append(core: Core) -> object:
    written = await core.sessions.append(KEY, said("late", "late"), ALICE)
    assert written.stored is not None
    return written.stored.head.pulse.entry_count - 1


# -- a reader of an old stub


@pytest.mark.parametrize("read", [view, append])
@pytest.mark.parametrize("meanwhile", [archived_anew, back_in_warm])
async def test_a_slow_reader_of_an_old_stub_gets_the_newest_head_and_no_corruption(
    world: World, meanwhile: Callable[[World], Awaitable[None]], read: Read
) -> None:
    await archived(world.process(), KEY)
    cold = SlowCold(world.tiers.cold)
    slow = over(world, cold)
    cold.arm()
    reading = asyncio.ensure_future(read(slow))
    await cold.waits.wait()
    await meanwhile(world)
    now = (await world.process().ledger.exact(KEY)).stored
    cold.go_on.set()
    woke = 1 if read is append and now.head.status == "dormant" else 0
    assert await reading == now.head.pulse.entry_count + woke
    await finish_all(world)
    after = await look(world)
    assert after.whole, explained(after)


async def test_a_slow_reader_of_an_old_stub_learns_that_the_session_was_erased(world: World) -> None:
    await archived(world.process(), KEY)
    cold = SlowCold(world.tiers.cold)
    cold.arm()
    reading = asyncio.ensure_future(view(over(world, cold)))
    await cold.waits.wait()
    await erased(world)
    cold.go_on.set()
    with pytest.raises(Erased):
        await reading


async def test_an_object_that_the_newest_head_points_to_and_that_is_missing_is_corruption(world: World) -> None:
    await archived(world.process(), KEY)
    pointer = (await world.tiers.warm.load(KEY)).stored.head.work.archived
    assert pointer is not None
    assert pointer.object is not None
    await world.tiers.cold.remove(pointer.object)
    with pytest.raises(DataCorrupt):
        await view(world.process())


async def test_a_slow_reader_of_a_replaced_attachment_gets_the_newest_bytes(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    await core.attachments.put(KEY, "audio", b"old", "audio/l16", ALICE)
    cold = SlowCold(world.tiers.cold)
    slow = over(world, cold)
    cold.arm()
    reading = asyncio.ensure_future(slow.attachments.get(KEY, "audio"))
    await cold.waits.wait()
    await core.attachments.put(KEY, "audio", b"new", "audio/l16", ALICE)
    await finish_all(world)
    cold.go_on.set()
    found, data = await reading
    assert data == b"new"
    await world.tiers.cold.remove(found.object)
    with pytest.raises(DataCorrupt):
        await core.attachments.get(KEY, "audio")


# -- uploads that land late


async def offload(core: Core) -> object:
    return await core.works["offload"](KEY)


async def archive(core: Core) -> object:
    return await core.works["archive"](KEY)


async def attach(core: Core) -> object:
    return await core.attachments.put(KEY, "audio", b"bytes", "audio/l16", ALICE, request("attach"))


async def nearly_archived(core: Core, key: Key) -> None:
    """Everything that is sealed lies in cold, so that the next put is that of the archived body."""
    await wished(core, key)
    assert await core.works["offload"](key)


UPLOADING: dict[str, tuple[Callable[[Core, Key], Awaitable[object]], Read, int]] = {
    "offload": (lambda core, key: sealed(core, key, 3), offload, 2),
    "archive": (nearly_archived, archive, 1),
    "archive, its offload": (wished, archive, 1),
    "attach": (begin, attach, 1),
}
"""How the session is prepared, the move, and the put from which on no answer comes."""


@pytest.mark.parametrize("name", UPLOADING)
async def test_an_upload_that_lands_after_its_move_was_given_up_does_not_stay(world: World, name: str) -> None:
    prepare, move, first = UPLOADING[name]
    await prepare(world.process(), KEY)
    cold = LosingCold(world.tiers.cold, first, OutcomeUnknown)
    with pytest.raises(OutcomeUnknown):
        await move(over(world, cold))
    world.clock.seconds += 20  # less than an upload may take
    await world.process().worker.turn()
    await cold.land()
    assert (await look(world)).owed, "the names are known as long as something may land"
    await finish_all(world)
    after = await look(world)
    assert after.whole, explained(after)


@pytest.mark.parametrize("name", UPLOADING)
async def test_an_upload_of_a_runner_that_was_killed_and_lands_late_does_not_stay(world: World, name: str) -> None:
    """The process dies with its put under way: the bytes land after another worker has given the move up."""
    prepare, move, first = UPLOADING[name]
    await prepare(world.process(), KEY)
    cold = LosingCold(world.tiers.cold, first, asyncio.CancelledError)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await move(over(world, cold))
    world.clock.seconds += GRACE_SECONDS
    await world.process().works["finish"](KEY)
    await cold.land()
    await finish_all(world)
    after = await look(world)
    assert after.whole, explained(after)


async def test_a_move_whose_intent_is_old_begins_no_upload_any_more(world: World) -> None:
    await sealed(world.process(), KEY, 3)
    cold = LosingCold(world.tiers.cold, 99, OutcomeUnknown)
    inner = cold.put_once

    async def put_slowly(name: str, data: bytes) -> None:
        await inner(name, data)
        world.clock.seconds += GRACE_SECONDS

    cold.put_once = put_slowly  # type: ignore[method-assign]
    with pytest.raises(TierUnavailable):
        await offload(over(world, cold))
    assert cold.puts == 1
    await finish_all(world)
    assert (await look(world)).whole


# -- a move that fails


@pytest.mark.parametrize("error", [TierUnavailable, OutcomeUnknown])
@pytest.mark.parametrize("name", ["offload", "archive", "archive, its offload"])
async def test_after_an_error_the_next_move_need_not_wait_for_a_grace(
    world: World, name: str, error: type[Exception]
) -> None:
    prepare, move, first = UPLOADING[name]
    await prepare(world.process(), KEY)
    with pytest.raises(error):
        await move(over(world, LosingCold(world.tiers.cold, first, error)))
    assert await move(world.process()), "at once, on the same second"
    await finish_all(world)
    after = await look(world)
    assert after.whole, explained(after)


async def test_a_failed_upload_of_an_attachment_holds_no_move_up(world: World) -> None:
    await sealed(world.process(), KEY, 2)
    with pytest.raises(OutcomeUnknown):
        await attach(over(world, LosingCold(world.tiers.cold, 1, OutcomeUnknown)))
    assert await offload(world.process())
    await finish_all(world)
    after = await look(world)
    assert after.whole, explained(after)


async def test_a_keyed_request_that_finds_nothing_to_do_leaves_a_stub_as_small_as_it_was(world: World) -> None:
    core = world.process()
    await archived(core, KEY)
    await core.sessions.transition(KEY, "end", ALICE)
    await core.sessions.archive(KEY, ALICE)
    assert await archive(core)
    await finish_all(world)
    before = (await world.tiers.warm.load(KEY)).stored
    begun = await core.requests.begin(KEY.tenant, None)
    await core.tenants.put(KEY.tenant, TenantSettings(retention_days=10), begun)  # its timers are computed anew
    await core.sessions.append(KEY, said("line 1", "said-1"), ALICE, request("again"))
    after = (await world.tiers.warm.load(KEY)).stored
    assert (after.rev, after.version, after.placement) == (before.rev + 1, before.version, "cold")
    due_at = after.head.work.due_at
    assert due_at != before.head.work.due_at
    assert after.head.work == replace(before.head.work, due_at=due_at), "nothing of the body came back with it"
    assert {**after.parts, "work": b""} == {**before.parts, "work": b""}
    kept = await core.sessions.append(KEY, said("line 1", "said-1"), ALICE, request("again"))
    assert kept.replayed


async def test_a_head_does_not_grow_while_cold_refuses_every_upload(world: World) -> None:
    await offloaded(world.process(), KEY)
    await sealed_once_more(world)
    for _ in range(OWED_OBJECTS_MAX):
        with pytest.raises(TierUnavailable):
            await offload(over(world, LosingCold(world.tiers.cold, 1, TierUnavailable)))
    intents = (await world.tiers.warm.load(KEY)).stored.head.work.intents
    assert sum(len(intent.objects) for intent in intents) == OWED_OBJECTS_MAX
    assert await offload(over(world, LosingCold(world.tiers.cold, 1, TierUnavailable))) is False, "it waits by now"
    await finish_all(world)
    assert not [name for name in await world.tiers.cold.list(session_prefix(KEY)) if name in str(intents)]


async def sealed_once_more(world: World) -> None:
    core = world.process()
    for i in range(4):
        await core.sessions.append(KEY, said(f"more {i}", f"more-{i}"), ALICE)
    assert await core.works["seal"](KEY)


# -- sealers that meet


async def test_a_sealer_that_was_given_up_takes_nothing_that_another_is_about_to_point_to(world: World) -> None:
    """Its look at what lies in warm comes late: by then another sealer has written a segment that no head names yet."""
    late, quick = Faulty(world.tiers.warm), Faulty(world.tiers.warm)
    slow, other = (world._replace(tiers=world.tiers._replace(warm=warm)).process() for warm in (late, quick))
    await begin(slow, KEY)
    await talk(slow, KEY, BOUND)
    listing = late.hold_before("list_bodies")
    first = asyncio.create_task(slow.works["seal"](KEY))
    await listing.reached.wait()
    world.clock.seconds += GRACE_SECONDS
    await other.works["finish"](KEY)  # gives the slow one up, and sweeps what it has written
    pointing = quick.hold_after("list_bodies")
    second = asyncio.create_task(other.works["seal"](KEY))
    await pointing.reached.wait()
    listing.release()
    assert not await first
    pointing.release()
    assert await second
    after = await look(world)
    assert after.whole, explained(after)
    assert (await world.process().reads.lines(KEY, Range(0, 100, 100)))[1].lines
