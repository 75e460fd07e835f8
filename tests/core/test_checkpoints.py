"""Checkpoints: kept a moment, taken by one alone, gone with their time and with an erasure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.checkpoints import CHECKPOINT_BYTES_MAX, KEEP_SECONDS, KIND, Checkpoint
from sessionmanager.errors import CheckpointTaken, Erased, NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.model.participants import Join
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.scenes import ALICE, World, begin, open_world

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
SAID = b"what is my"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def sound(data: bytes = SAID) -> Checkpoint:
    return Checkpoint(data, "audio/basic")


async def joined(core: Core, identity: str = "bridge", key: Key = KEY) -> str:
    wanted = Join(id=core.participants.new_id(), kind="bridge", identity=identity, role="bridge")
    return (await core.participants.join(key, ALICE, wanted)).participant.id


async def test_another_process_goes_on_with_it_and_the_one_before_is_refused_from_then_on(world: World) -> None:
    one, other = world.process(), world.process()
    await begin(one, KEY)
    pid = await joined(one)
    await one.checkpoints.keep(KEY, pid, "one", 1, sound(b"what"))
    await one.checkpoints.keep(KEY, pid, "one", 2, sound())
    assert await other.checkpoints.take(KEY, pid, "other") == sound()
    for data in (SAID, b""):
        with pytest.raises(CheckpointTaken):
            await one.checkpoints.keep(KEY, pid, "one", 3, sound(data))
    await other.checkpoints.keep(KEY, pid, "other", 1, sound(b"what is my bal"))
    assert await one.checkpoints.take(KEY, pid, "third") == sound(b"what is my bal")


async def test_it_outlives_the_service_and_all_of_hot(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    await world.tiers.hot.drop_for_ever(KEY)
    assert await world.process().checkpoints.take(KEY, pid, "other") == sound()


async def test_whoever_is_killed_after_taking_it_leaves_it_to_the_next(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    for holder in ("two", "three", "three"):
        assert await core.checkpoints.take(KEY, pid, holder) == sound()
    with pytest.raises(CheckpointTaken):
        await core.checkpoints.keep(KEY, pid, "two", 1, sound())


async def test_of_many_who_take_it_at_once_one_holds_it(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    names = [f"h{i}" for i in range(4)]
    await asyncio.gather(*(world.process().checkpoints.take(KEY, pid, name) for name in names))
    kept = await asyncio.gather(
        *(core.checkpoints.keep(KEY, pid, name, 1, sound(name.encode())) for name in names), return_exceptions=True
    )
    assert sorted(map(str, map(type, kept))) == sorted([str(type(None)), *[str(CheckpointTaken)] * 3])


async def test_who_takes_nothing_is_the_holder_all_the_same(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    assert await core.checkpoints.take(KEY, pid, "other") is None
    with pytest.raises(CheckpointTaken):
        await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    assert await core.checkpoints.take(KEY, pid, "other") is None


async def test_one_that_was_overtaken_by_a_later_one_changes_nothing(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 2, sound(b"words"))
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    assert await core.checkpoints.take(KEY, pid, "other") == sound(b"words")


async def test_no_bytes_empty_it(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    await core.checkpoints.keep(KEY, pid, "one", 2, sound(b""))
    assert await core.checkpoints.take(KEY, pid, "other") is None


async def test_it_is_one_participants_in_one_session_of_one_tenant(world: World) -> None:
    core = world.process()
    keys = (KEY, Key("acme", "call-2"), Key("other", "call-1"))
    for key in keys:
        await begin(core, key)
    pid, colleague = await joined(core), await joined(core, "colleague")
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    assert await core.checkpoints.take(KEY, colleague, "other") is None
    for key in keys[1:]:
        with pytest.raises(NotFound):
            await core.checkpoints.take(key, pid, "other")
        assert await core.checkpoints.take(key, await joined(core, key=key), "other") is None
    assert await core.checkpoints.take(KEY, pid, "other") == sound()


async def test_who_has_left_keeps_nothing(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.participants.leave(KEY, pid, ALICE)
    for of in (pid, "par_unknown"):
        with pytest.raises(NotFound):
            await core.checkpoints.keep(KEY, of, "one", 1, sound())


async def test_it_is_forgotten_when_its_time_is_over_whether_or_not_it_was_swept(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    world.clock.seconds += KEEP_SECONDS - 1
    assert await core.checkpoints.take(KEY, pid, "two") == sound(), "which keeps it as long again"
    world.clock.seconds += KEEP_SECONDS + 1
    assert await core.checkpoints.take(KEY, pid, "three") is None
    world.clock.seconds += KEEP_SECONDS + 1
    assert await world.tiers.warm.sweep(world.tiers.warm.now(), 10) == 1
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())


async def test_no_byte_of_it_can_be_read_in_warm_and_the_session_does_not_move(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    before = (await world.tiers.warm.load(KEY)).stored
    await core.checkpoints.keep(KEY, pid, "the-holder", 1, sound())
    (record,) = await world.tiers.warm.list_records(KEY.tenant, KIND)
    for secret in (SAID, b"audio/basic", b"the-holder"):
        assert secret not in record.data
    assert KEY.id not in record.id
    after = (await world.tiers.warm.load(KEY)).stored
    assert (after.rev, after.version) == (before.rev, before.version)


async def test_an_erasure_takes_it_away_and_nobody_keeps_or_takes_one_again(world: World) -> None:
    core = world.process()
    for key in (KEY, Key("acme", "call-2")):
        await begin(core, key)
        await core.checkpoints.keep(key, await joined(core, key=key), "one", 1, sound())
    pid = (await core.participants.list(KEY))[0].id
    await core.sessions.erase(KEY, ALICE)
    with pytest.raises(Erased):
        await core.checkpoints.take(KEY, pid, "other")
    await core.works["erase"](KEY)
    (left,) = await world.tiers.warm.list_records(KEY.tenant, KIND)
    with pytest.raises(Erased):
        await core.checkpoints.keep(KEY, pid, "one", 2, sound())
    assert [left] == await world.tiers.warm.list_records(KEY.tenant, KIND)


async def test_the_largest_comes_back_whole(world: World) -> None:
    core = world.process()
    await begin(core, KEY)
    pid = await joined(core)
    data = bytes(range(256)) * (CHECKPOINT_BYTES_MAX // 256)
    await core.checkpoints.keep(KEY, pid, "h" * 255, 2**53 - 1, Checkpoint(data, "t" * 255))
    assert await core.checkpoints.take(KEY, pid, "other") == Checkpoint(data, "t" * 255)


async def test_where_it_is_not_known_whether_a_write_stands_the_same_again_is_right(world: World) -> None:
    warm: Any = Faulty(world.tiers.warm)
    core = world._replace(tiers=world.tiers._replace(warm=warm)).process()
    await begin(core, KEY)
    pid = await joined(core)
    warm.fail_after("put_record", OutcomeUnknown("no answer came"))
    with pytest.raises(OutcomeUnknown):
        await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    await core.checkpoints.keep(KEY, pid, "one", 1, sound())
    warm.fail_after("put_record", OutcomeUnknown("no answer came"))
    with pytest.raises(OutcomeUnknown):
        await core.checkpoints.take(KEY, pid, "other")
    assert await core.checkpoints.take(KEY, pid, "other") == sound()
    warm.fail_before("get_record", TierUnavailable("warm"))
    with pytest.raises(TierUnavailable):
        await core.checkpoints.take(KEY, pid, "other")
