"""Looks: how many, how late, how many at once, and what a kill between any two steps leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.rooms.rooms import AWAY_SECONDS, LOOKING_MAX
from sessionmanager.errors import NotFound
from sessionmanager.model.participants import Join
from sessionmanager.model.rooms.config import config_of, deviations, room_name
from sessionmanager.words import Key
from tests.contracts.rooms import RoomServiceContract
from tests.support.casts import ALICE, TENANT, Stage, entries_of, head_of, open_stage
from tests.support.halt import Halt, Killed
from tests.support.left_out import share
from tests.support.plain_rooms import SYNC_SECONDS, PlainLiveKit, with_rooms

pytestmark = pytest.mark.contract

KEY = Key(TENANT, "call")
NAME = room_name(KEY)
TURNS_MAX = 200


class TestPlain(RoomServiceContract):
    @pytest.fixture
    def rooms(self) -> PlainLiveKit:
        return PlainLiveKit()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path) as opened:
        yield opened


@pytest.fixture
def livekit() -> PlainLiveKit:
    return PlainLiveKit()


class Slow(PlainLiveKit):
    """Answers a look with what it saw when it was asked, once it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.holds = False

    async def look(self, name: str) -> Any:
        found = await super().look(name)
        if self.holds:
            self.reached.set()
            await self.go_on.wait()
        return found


async def settle(core: Core) -> None:
    """Let the worker and the looks go on until nothing is due at this moment."""
    for _ in range(TURNS_MAX):
        looked = await core.worker.turn()
        await looked_at(core)
        if not looked and not core.worker.waiting:
            return
    raise AssertionError("there is always something due")


async def looked_at(core: Core) -> None:
    """Until no look is under way."""
    async with asyncio.timeout(60):
        for _ in count():
            if not core.rooms.looking:
                return
            await asyncio.sleep(0.001)


async def later(stage: Stage, *cores: Core, seconds: float = SYNC_SECONDS) -> None:
    stage.clock.seconds += seconds
    for core in cores:
        await settle(core)


async def create(core: Core) -> None:
    await core.sessions.create(TENANT, KEY.id, {}, (), ALICE, room=True)


async def open_session(stage: Stage, core: Core) -> None:
    await create(core)
    await settle(core)
    await later(stage, core, seconds=1)
    assert (await room_of(core)).sync_state == "active"


async def room_of(core: Core) -> Any:
    room = (await head_of(core, KEY)).detail.room
    assert room is not None
    return room


async def inside(core: Core) -> dict[str, str]:
    people = (await head_of(core, KEY)).detail.participants
    return {one.identity: one.room_sid for one in people if one.room_sid is not None}


async def test_a_room_is_looked_at_once_a_period_however_many_processes_there_are(
    stage: Stage, livekit: PlainLiveKit
) -> None:
    cores = [with_rooms(stage, livekit) for _ in range(3)]
    await open_session(stage, cores[0])
    version = (await head_of(cores[0], KEY)).version
    livekit.calls.clear()
    for _ in range(4):
        await later(stage, *cores)
    assert livekit.calls == ["look"] * 4
    assert (await head_of(cores[0], KEY)).version == version, "what agrees is written nowhere"


async def test_of_many_processes_that_find_a_look_due_one_has_it(stage: Stage, livekit: PlainLiveKit) -> None:
    cores = [with_rooms(stage, livekit) for _ in range(4)]
    await open_session(stage, cores[0])
    livekit.calls.clear()
    stage.clock.seconds += SYNC_SECONDS
    await asyncio.gather(*(core.rooms.run(KEY) for core in cores))
    for core in cores:
        await looked_at(core)
    assert livekit.calls == ["look"]


async def test_many_hints_at_once_are_two_looks(stage: Stage, livekit: PlainLiveKit) -> None:
    core = with_rooms(stage, livekit)
    await open_session(stage, core)
    livekit.calls.clear()
    livekit.come(NAME, "anna")
    assert all(await asyncio.gather(*(core.rooms.hint(NAME) for _ in range(50))))
    await looked_at(core)
    assert 1 <= livekit.calls.count("look") <= 2
    assert set(await inside(core)) == {"anna"}
    assert not await core.rooms.hint("somebody-elses")


async def test_whoever_asks_while_a_look_is_under_way_gets_one_that_began_after_they_asked(stage: Stage) -> None:
    livekit = Slow()
    core = with_rooms(stage, livekit)
    await open_session(stage, core)
    livekit.holds = True
    first = asyncio.create_task(core.rooms.sync(KEY, "manual"))
    await livekit.reached.wait()
    livekit.come(NAME, "anna")
    others = [asyncio.create_task(core.rooms.sync(KEY, "manual")) for _ in range(10)]
    await asyncio.sleep(0)
    before = len(livekit.calls)
    livekit.go_on.set()
    assert (await first).judged.found == ()
    found = await asyncio.gather(*others)
    assert all("participant_unknown:anna" in one.judged.found for one in found)
    assert livekit.calls[before:].count("look") == 1, "those who wait share one"


async def test_a_slow_look_does_not_undo_what_a_quicker_one_has_found_meanwhile(stage: Stage) -> None:
    slow, quick = Slow(), PlainLiveKit()
    slow.rooms = quick.rooms
    here, there = with_rooms(stage, slow), with_rooms(stage, quick)
    await open_session(stage, there)
    slow.holds = True
    late = asyncio.create_task(here.rooms.sync(KEY, "manual"))
    await slow.reached.wait()
    quick.come(NAME, "anna")
    stage.clock.seconds += 1
    await there.rooms.sync(KEY, "manual")
    assert set(await inside(there)) == {"anna"}
    stage.clock.seconds += 1
    slow.go_on.set()
    await late
    assert set(await inside(there)) == {"anna"}


async def test_a_livekit_that_hangs_keeps_the_worker_from_nothing(stage: Stage) -> None:
    class Hanging(PlainLiveKit):
        async def look(self, name: str) -> Any:
            await asyncio.Event().wait()

    core = with_rooms(stage, Hanging())
    await create(core)
    async with asyncio.timeout(60):
        await core.worker.turn()
        await core.worker.turn()
    assert core.rooms.looking == 1
    await core.rooms.close()
    assert core.rooms.looking == 0
    assert await core.rooms.hint(NAME) in (True, False)
    assert core.rooms.looking == 0, "closed: nothing begins any more"


async def test_looks_at_once_are_bounded_and_what_is_left_out_comes_with_its_timer(stage: Stage) -> None:
    class Hanging(PlainLiveKit):
        async def look(self, name: str) -> Any:
            await asyncio.Event().wait()

    core = with_rooms(stage, Hanging())
    for number in range(LOOKING_MAX + 20):
        await core.sessions.create(TENANT, f"s{number}", {}, (), ALICE, room=True)
    for _ in range(20):
        await core.worker.turn()
    assert core.rooms.looking == LOOKING_MAX
    await core.rooms.close()


async def test_without_livekit_nothing_is_due_and_nothing_is_looked_at(stage: Stage, livekit: PlainLiveKit) -> None:
    await create(with_rooms(stage, livekit))
    bare = stage.process()
    assert not bare.rooms.exist
    await settle(bare)
    with pytest.raises(NotFound):
        await bare.rooms.sync(KEY, "manual")


async def test_while_livekit_is_away_it_is_looked_for_more_often_than_in_quiet_times(
    stage: Stage, livekit: PlainLiveKit
) -> None:
    core = with_rooms(stage, livekit)
    await open_session(stage, core)
    livekit.away = True
    await later(stage, core)
    assert (await room_of(core)).interrupted_at is not None
    for _ in range(4):
        await later(stage, core, seconds=AWAY_SECONDS)
    version = (await head_of(core, KEY)).version
    await later(stage, core, seconds=AWAY_SECONDS)
    assert (await room_of(core)).sync_state == "error"
    livekit.away = False
    livekit.come(NAME, "anna")
    await later(stage, core, seconds=AWAY_SECONDS)
    assert ((await room_of(core)).sync_state, set(await inside(core))) == ("active", {"anna"})
    assert (await head_of(core, KEY)).version <= version + 2, "what lasts is not told again and again"


async def test_a_room_that_could_not_be_closed_with_its_session_is_closed_when_livekit_is_back(
    stage: Stage, livekit: PlainLiveKit
) -> None:
    core = with_rooms(stage, livekit)
    await open_session(stage, core)
    livekit.away = True
    await core.sessions.transition(KEY, "end", ALICE)
    await settle(core)
    assert (await room_of(core)).sync_state == "ending"
    livekit.away = False
    await later(stage, core, seconds=30)
    assert (await room_of(core)).sync_state == "idle"
    assert livekit.rooms == {}


async def test_the_room_of_an_erased_session_is_closed_by_its_next_webhook_where_livekit_was_away(
    stage: Stage, livekit: PlainLiveKit
) -> None:
    core = with_rooms(stage, livekit)
    await open_session(stage, core)
    livekit.come(NAME, "anna")
    livekit.away = True
    await core.sessions.erase(KEY, ALICE)
    for _ in range(3):
        await core.worker.turn()
    assert NAME in livekit.rooms
    livekit.away = False
    assert await core.rooms.hint(NAME)
    await looked_at(core)
    assert livekit.rooms == {}
    assert not await core.rooms.hint(NAME), "and is forgotten"


# -- kills


@pytest.mark.parametrize("at", share(range(1, 40), quick=range(1, 40, 3)))
async def test_a_kill_at_any_call_leaves_what_the_next_process_brings_together(
    stage: Stage, livekit: PlainLiveKit, at: int
) -> None:
    halt = Halt()
    doomed = with_rooms(stage, livekit, halt)
    await core_with_people(stage, doomed, livekit)
    livekit.rooms[NAME] = livekit.rooms[NAME]._replace(metadata='{"turnDetection":"wrong"}')
    livekit.come(NAME, "bert")
    left = await doomed.participants.join(KEY, ALICE, Join("par_cleo", "client", "cleo", "client"))
    livekit.come(NAME, "cleo", bound="par_cleo")
    await doomed.participants.leave(KEY, left.participant.id, ALICE)
    halt.arm(at)
    died = False
    try:
        await doomed.rooms.sync(KEY, "manual")
    except Killed:
        died = True
    await doomed.rooms.close()
    fresh = with_rooms(stage, livekit)
    for _ in range(3):
        await later(stage, fresh)
    assert set(await inside(fresh)) == {"anna", "bert"} == {one.identity for one in livekit.rooms[NAME].people}
    assert deviations(config_of(KEY, None), livekit.rooms[NAME].metadata) == {}
    assert (await room_of(fresh)).sync_state == "active"
    attempts = [
        line["data"]["room"]["sync_attempts"] for line in await entries_of(stage, KEY) if line["type"] == "room"
    ]
    assert attempts == sorted(attempts)
    assert died or at > 5, "a look makes more calls than that"


async def core_with_people(stage: Stage, core: Core, livekit: PlainLiveKit) -> None:
    await open_session(stage, core)
    livekit.come(NAME, "anna")
    await core.rooms.hint(NAME)
    await looked_at(core)
    assert set(await inside(core)) == {"anna"}


@pytest.mark.parametrize("at", share(range(1, 25), quick=range(1, 25, 3)))
async def test_a_kill_while_a_room_is_opened_or_closed_leaves_neither_two_rooms_nor_one_too_many(
    stage: Stage, livekit: PlainLiveKit, at: int
) -> None:
    halt = Halt()
    doomed = with_rooms(stage, livekit, halt)
    await create(doomed)
    halt.arm(at)
    for _ in range(3):
        try:
            await doomed.worker.turn()
            await looked_at(doomed)
        except Killed:
            break
    await doomed.rooms.close()
    fresh = with_rooms(stage, livekit)
    for _ in range(3):
        await later(stage, fresh)
    assert set(livekit.rooms) == {NAME}
    assert (await room_of(fresh)).sid == livekit.rooms[NAME].sid
    halt = Halt()
    ending = with_rooms(stage, livekit, halt)
    await ending.sessions.transition(KEY, "end", ALICE)
    halt.arm(at)
    try:
        await ending.worker.turn()
        await looked_at(ending)
    except Killed:
        pass
    await ending.rooms.close()
    last = with_rooms(stage, livekit)
    await later(stage, last, seconds=60)
    assert livekit.rooms == {}
    assert (await room_of(last)).sync_state == "idle"
