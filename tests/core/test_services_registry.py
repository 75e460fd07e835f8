"""Who is registered and lives: heartbeats, health checks, new lives, and sessions that are told of a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.services import registry as registries
from sessionmanager.core.services.monitor import TELL_AGAIN_SECONDS
from sessionmanager.core.services.registry import KIND, Service, WantedService
from sessionmanager.errors import AlreadyExists, NotFound, QuotaExceeded
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.words import Key
from tests.support.casts import ALICE, TENANT, Stage, create, head_of, open_stage, seat_of, settle
from tests.support.halt import Halt, Killed

pytestmark = pytest.mark.contract

WANTED: Final = WantedService("asr-1", "asr", "http://asr-1.test")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path) as opened:
        yield opened


async def one(core: Core, service_id: str = "asr-1") -> Service:
    return await core.services.registry.get(TENANT, service_id)


async def watch(stage: Stage, core: Core, seconds: float = 10.0, times: int = 1) -> None:
    for _ in range(times):
        await core.services.monitor.turn()
        await settle(core)
        stage.clock.seconds += seconds


# -- registering


async def test_a_service_registers_and_may_be_asked_at_once(stage: Stage) -> None:
    core = stage.process()
    service, fresh = await core.services.registry.register(TENANT, WANTED, "alice")
    assert (service.status, fresh, service.owner) == ("registered", True, "alice")
    assert [one.id for one in await core.services.registry.candidates(TENANT, ["asr"])] == ["asr-1"]
    assert await core.services.registry.candidates(TENANT, ["tts"]) == []
    assert await core.services.registry.candidates("other", ["asr"]) == []


async def test_nobody_takes_over_the_id_of_another(stage: Stage) -> None:
    registry = stage.process().services.registry
    await registry.register(TENANT, WANTED, "alice")
    with pytest.raises(AlreadyExists):
        await registry.register(TENANT, WANTED._replace(endpoint="http://evil.test"), "mallory")
    for call in (registry.heartbeat(TENANT, "asr-1", "mallory", None), registry.remove(TENANT, "asr-1", "mallory")):
        with pytest.raises(NotFound):
            await call
    assert (await registry.get(TENANT, "asr-1")).endpoint == "http://asr-1.test"
    service, _ = await registry.register(TENANT, WANTED, "operator", any_owner=True)
    assert service.owner == "alice"


async def test_a_tenants_services_are_bounded_and_apart_from_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "SERVICES_PER_TENANT_MAX", 2)
    registry = stage.process().services.registry
    for name in ("a", "b"):
        await registry.register(TENANT, WANTED._replace(id=name), "alice")
    await registry.register(TENANT, WANTED._replace(id="a"), "alice")
    with pytest.raises(QuotaExceeded):
        await registry.register(TENANT, WANTED._replace(id="c"), "alice")
    await registry.register(f"{TENANT}2", WANTED._replace(id="c"), "alice")
    assert [service.id for service in await registry.list(TENANT)] == ["a", "b"]


async def test_a_broken_record_takes_no_other_service_away(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    await stage.warm.put_record(ALL_TENANTS, KIND, f"{TENANT}/broken", b"{", rev=0)
    assert [service.id for service in await core.services.registry.list(TENANT)] == ["asr-1"]


# -- how they are


async def test_a_service_that_answers_well_is_ready(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    await core.services.monitor.turn()
    service = await one(core)
    assert (service.status, service.seen_at) == ("ready", stage.warm.now())


async def test_one_that_is_never_heard_of_is_given_up_after_the_registration_time_out(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    stage.calls.well["asr-1"] = "unreachable"
    await watch(stage, core, times=3)
    assert (await one(core)).status == "registered", "30 s are not over"
    await watch(stage, core)
    service = await one(core)
    assert (service.status, service.reason) == ("disconnected", "unreachable")
    assert await core.services.registry.candidates(TENANT, ["asr"]) == []


async def test_one_that_misses_three_checks_in_a_row_is_gone_and_comes_back_by_itself(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    await watch(stage, core)
    stage.calls.well["asr-1"] = "status-500"
    await watch(stage, core, times=2)
    stage.calls.well["asr-1"] = None
    await watch(stage, core)
    stage.calls.well["asr-1"] = "status-500"
    await watch(stage, core, times=2)
    assert (await one(core)).status == "ready", "not in a row"
    await watch(stage, core)
    assert (await one(core)).status == "disconnected"
    asked = len(stage.calls.checked)
    await watch(stage, core, times=5)
    assert len(stage.calls.checked) <= asked + 1, "who is gone is asked seldom"
    stage.calls.well["asr-1"] = None
    await watch(stage, core, times=7)
    assert (await one(core)).status == "ready"


async def test_a_service_with_heartbeats_is_never_asked(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    for _ in range(5):
        await core.services.registry.heartbeat(TENANT, "asr-1", "asr-1", 0.5)
        await watch(stage, core, seconds=9)
    assert stage.calls.checked == []
    service = await one(core)
    assert (service.status, service.load) == ("ready", 0.5)


async def test_however_many_replicas_there_are_a_service_is_asked_once_an_interval(stage: Stage) -> None:
    cores = [stage.process() for _ in range(4)]
    await stage.register(cores[0], "asr-1", "asr-2")
    for _ in range(3):
        await asyncio.gather(*(core.services.monitor.turn() for core in cores))
        stage.clock.seconds += 10
    assert sorted(stage.calls.checked) == ["asr-1"] * 3 + ["asr-2"] * 3


async def test_a_check_of_an_earlier_life_says_nothing_about_this_one(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    before = await one(core)
    stage.clock.seconds += 1
    await stage.register(core, "asr-1")
    after = await core.services.registry.checked(before, "unreachable")
    assert (after.status, after.missed) == ("registered", 0)


# -- sessions are told


async def ready(stage: Stage, core: Core) -> Key:
    await stage.register(core, "asr-1", "asr-2")
    key = await create(core, "call", "asr")
    await settle(core)
    assert (await head_of(core, key)).status == "ready"
    stage.clock.seconds += 1
    return key


async def service_of(core: Core, key: Key) -> str:
    service = (await seat_of(core, key)).service
    assert service is not None
    return service


async def test_a_service_that_dies_after_joining_is_replaced(stage: Stage) -> None:
    core = stage.process()
    key = await ready(stage, core)
    first = await service_of(core, key)
    stage.calls.well[first] = "unreachable"
    await watch(stage, core, times=5)
    assert await service_of(core, key) != first
    assert (await head_of(core, key)).profile.ready_services == (await service_of(core, key),)


async def test_one_that_begins_a_new_life_is_asked_into_its_sessions_again(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    await settle(core)
    stage.clock.seconds += 1
    await stage.register(core, "asr-1")
    await watch(stage, core)
    assert [asked.service for asked in stage.calls.asked] == ["asr-1", "asr-1"]
    assert stage.calls.asked[1].epoch == 1, "its old token is void"
    assert (await seat_of(core, key)).status == "ready"
    await watch(stage, core, times=5)
    assert len(stage.calls.asked) == 2, "what it was asked in this life it knows"


async def test_one_that_is_removed_is_replaced_and_then_forgotten(stage: Stage) -> None:
    core = stage.process()
    key = await ready(stage, core)
    first = await service_of(core, key)
    await core.services.registry.remove(TENANT, first, None)
    with pytest.raises(NotFound):
        await one(core, first)
    with pytest.raises(NotFound):
        await core.services.registry.heartbeat(TENANT, first, None, None)
    await watch(stage, core)
    assert await service_of(core, key) != first
    await watch(stage, core, seconds=TELL_AGAIN_SECONDS)
    await watch(stage, core)
    assert await stage.warm.get_record(ALL_TENANTS, KIND, f"{TENANT}/{first}") is None


async def test_sessions_that_rest_or_are_over_are_not_told(stage: Stage) -> None:
    core = stage.process()
    key = await ready(stage, core)
    await core.sessions.transition(key, "end", ALICE)
    version = (await head_of(core, key)).version
    for name in ("asr-1", "asr-2"):
        await core.services.registry.remove(TENANT, name, None)
    await watch(stage, core, times=3)
    assert (await head_of(core, key)).version == version


async def test_a_replica_that_dies_while_it_tells_sessions_is_followed_by_another_that_finishes(
    tmp_path: Path,
) -> None:
    dead = True
    for at in range(1, 80):
        folder = tmp_path / str(at)
        folder.mkdir()
        async with open_stage(folder) as stage:
            setup = stage.process()
            await stage.register(setup, "asr-1")
            keys = [await create(setup, f"call-{i}", "asr") for i in range(3)]
            await settle(setup)
            stage.clock.seconds += 1
            await setup.services.registry.remove(TENANT, "asr-1", None)
            await stage.register(setup, "asr-2")
            halt = Halt()
            halt.arm(at)
            dead = await _dies(stage.process(halt))
            core = stage.process()
            for _ in range(5):
                await watch(stage, core, seconds=TELL_AGAIN_SECONDS)
            for key in keys:
                assert (await head_of(core, key)).profile.ready_services == ("asr-2",)
            assert await stage.warm.get_record(ALL_TENANTS, KIND, f"{TENANT}/asr-1") is None
        if not dead:
            break
    assert at > 8, "every call is a place to die"
    assert not dead, "the last round saw the whole way"


async def _dies(core: Core) -> bool:
    try:
        await core.services.monitor.turn()
    except Killed:
        return True
    return False
