"""Sessions get the services they ask for, whoever dies on the way and whatever services answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.services.seating import TELLING_PER_TENANT_MAX
from sessionmanager.errors import NotFound, Unauthenticated
from sessionmanager.model import service_steps
from sessionmanager.model.participants import Join
from sessionmanager.model.service_steps import TELL_SECONDS, Answer
from sessionmanager.words import Key
from tests.support.casts import ALICE, TENANT, Stage, create, entries_of, head_of, open_stage, seat_of, settle, told
from tests.support.halt import Halt, Killed

pytestmark = pytest.mark.contract


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path) as opened:
        yield opened


async def test_a_session_becomes_ready_when_all_that_it_requires_have_joined(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1", "llm-1")
    key = await create(core, "call", "asr", "llm")
    await settle(core)
    head = await head_of(core, key)
    assert (head.status, head.profile.ready_services) == ("ready", ("asr-1", "llm-1"))
    assert {asked.service for asked in stage.calls.asked} == {"asr-1", "llm-1"}
    assert len({asked.name for asked in stage.calls.asked}) == 2
    assert not stage.heard.failures


async def test_the_worker_does_not_wait_for_a_service_that_hangs(stage: Stage) -> None:
    class Hanging:
        def __init__(self) -> None:
            self.reached, self.go = asyncio.Event(), asyncio.Event()

        async def join(self, service: Any, asked: Any) -> Answer:
            self.reached.set()
            await self.go.wait()
            return Answer("joined")

    calls = Hanging()
    core = stage.process(calls=calls)
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    await core.worker.turn()
    await calls.reached.wait()
    await core.worker.turn()
    assert (await seat_of(core, key)).status == "registered"
    calls.go.set()
    await settle(core)
    assert (await head_of(core, key)).status == "ready"


async def test_what_happens_to_one_seat_does_not_tell_the_service_of_another_again(stage: Stage) -> None:
    class OneHangs:
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def join(self, service: Any, asked: Any) -> Answer:
            self.asked.append(service.id)
            if service.id == "asr-1":
                await asyncio.Event().wait()
            return Answer("refused", "status-500")

    calls = OneHangs()
    core = stage.process(calls=calls)
    await stage.register(core, "asr-1", "tts-1")
    await create(core, "call", "asr", "tts")
    for _ in range(3):
        for _ in range(5):
            await core.worker.turn()
            await asyncio.sleep(0.01)
        stage.clock.seconds += 5
    assert sorted(calls.asked) == ["asr-1", "tts-1", "tts-1", "tts-1"]
    await core.services.seating.close()


async def test_one_that_answers_500_is_tried_again_every_half_minute_on_another_instance(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1", "asr-2")
    stage.calls.says = {name: Answer("refused", "status-500") for name in ("asr-1", "asr-2")}
    key = await create(core, "call", "asr")
    for tried in range(1, 4):
        await settle(core)
        assert len(stage.calls.asked) == tried
        stage.clock.seconds += 29
        await settle(core)
        assert len(stage.calls.asked) == tried
        stage.clock.seconds += 1
    assert len({asked.service for asked in stage.calls.asked[:2]}) == 2
    stage.calls.says = {"asr-1": Answer("joined"), "asr-2": Answer("joined")}
    await settle(core)
    assert (await head_of(core, key)).status == "ready"
    entries = await entries_of(stage, key)
    assert sum(entry["type"] == "error" for entry in entries) == 3


async def test_one_that_accepts_and_never_comes_is_given_up_after_its_join_time_out(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1", answer="accepted")
    key = await create(core, "call", "asr")
    await settle(core)
    (asked,) = stage.calls.asked
    stage.clock.seconds += 60
    await settle(core)
    seat = await seat_of(core, key)
    assert (seat.status, seat.reason) == ("disconnected", service_steps.JOIN_TIMEOUT)
    with pytest.raises(Unauthenticated):
        await core.participants.require_bound(key, asked.pid, asked.epoch)
    with pytest.raises(Unauthenticated):
        await core.participants.heartbeat(key, asked.pid, ALICE)


async def test_one_that_joins_late_but_in_time_is_ready_with_its_heartbeat(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1", answer="accepted")
    key = await create(core, "call", "asr")
    await settle(core)
    (asked,) = stage.calls.asked
    stage.clock.seconds += 59
    await core.participants.require_bound(key, asked.pid, asked.epoch)
    for _ in range(2):  # it joins twice
        person = await core.participants.heartbeat(key, asked.pid, ALICE)
        assert person.status == "attached"
    await settle(core)
    assert (await head_of(core, key)).status == "ready"
    events = [entry["data"]["event"] for entry in await entries_of(stage, key) if entry["type"] == "participant"]
    assert events == ["expected", "joined"]


async def test_nobody_comes_and_the_session_is_over_at_the_client_time_out(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    complete, missing = await create(core, "complete", "asr"), await create(core, "missing", "llm")
    for _ in range(12):
        await settle(core)
        stage.clock.seconds += 30
    await settle(core)
    assert (await head_of(core, complete)).pulse.end_reason == "client-timeout"
    assert (await head_of(core, missing)).status == "error"
    asked = len(stage.calls.asked)
    stage.clock.seconds += 10_000
    await settle(core)
    assert len(stage.calls.asked) == asked, "what is over asks nobody"


async def test_a_client_that_is_expected_comes_with_its_first_heartbeat(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    wanted = Join("par_anna", "client", "anna", "client", None)
    _, person = await core.services.seating.expect(key, ALICE, wanted)
    assert person.status == "joining"
    await settle(core)
    assert (await head_of(core, key)).status == "ready"
    await core.participants.heartbeat(key, person.id, ALICE)
    await settle(core)
    assert (await head_of(core, key)).status == "active"


async def test_an_unregistered_service_is_a_failure_and_no_error_of_ours(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    await core.services.seating.run(key)
    await told(core)
    with pytest.raises(NotFound):
        await core.services.registry.get(TENANT, "asr-2")
    await core.services.registry.remove(TENANT, "asr-1", None)
    other = await create(core, "other", "asr")
    await settle(core)
    assert (await seat_of(core, other)).reason == "no-instance"


async def test_no_tenants_slow_services_take_all_places(stage: Stage) -> None:
    class Hanging:
        async def join(self, service: Any, asked: Any) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

    core = stage.process(calls=Hanging())
    await stage.register(core, "asr-1")
    for i in range(TELLING_PER_TENANT_MAX + 5):
        await create(core, f"call-{i}", "asr")
    for _ in range(20):
        await core.worker.turn()
    assert core.services.seating.telling == TELLING_PER_TENANT_MAX
    await core.services.seating.close()
    assert core.services.seating.telling == 0


async def test_no_token_is_ever_in_the_log_or_the_head(stage: Stage) -> None:
    core = stage.process()
    await stage.register(core, "asr-1")
    key = await create(core, "call", "asr")
    await settle(core)
    text = json.dumps(await entries_of(stage, key)) + str((await core.ledger.exact(key)).stored.parts)
    assert "token" not in text


async def test_two_replicas_ask_a_service_once(stage: Stage) -> None:
    one, two = stage.process(), stage.process()
    await stage.register(one, "asr-1")
    keys = [await create(one, f"call-{i}", "asr") for i in range(10)]
    for _ in range(4):
        await asyncio.gather(*(core.services.seating.run(key) for key in keys for core in (one, two)))
        await asyncio.gather(told(one), told(two))
    assert len(stage.calls.asked) == len(keys)
    assert {(await head_of(one, key)).status for key in keys} == {"ready"}


# -- kills


async def play(core: Core) -> None:
    """What a replica does for the session until nothing is due."""
    tasks: list[asyncio.Task[None]] = []
    await core.worker.turn()
    while core.services.seating.telling:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.sleep(0)
    for task in tasks:
        if task.done() and not task.cancelled() and isinstance(task.exception(), Killed):
            raise Killed


async def recover(stage: Stage, key: Key) -> Core:
    """Another replica takes over; time passes until it may."""
    core = stage.process()
    for _ in range(6):
        await settle(core)
        if (await seat_of(core, key)).status in ("joining", "ready"):
            break
        stage.clock.seconds += TELL_SECONDS
    return core


@pytest.mark.parametrize("answer", ["joined", "accepted"])
async def test_a_replica_that_dies_at_any_step_is_followed_by_another_that_finishes(
    tmp_path: Path, answer: str
) -> None:
    deaths = 0
    for at in range(1, 60):
        folder = tmp_path / str(at)
        folder.mkdir()
        async with open_stage(folder) as stage:
            setup = stage.process()
            await stage.register(setup, "asr-1", answer=answer)
            key = await create(setup, "call", "asr")
            halt = Halt()
            first = stage.process(halt)
            halt.arm(at)
            dead = await _dies(first, key)
            if answer == "accepted":
                await _heartbeats(stage, key)
            core = await recover(stage, key)
            if answer == "accepted":
                await _heartbeats(stage, key)
                await settle(core)
            await _is_finished_once(stage, core, key)
            deaths += dead
            if not dead:
                break
    assert deaths > 8, "every call to a tier and to a service is a place to die"
    assert not dead, "the last round saw the whole way"


async def _dies(core: Core, key: Key) -> bool:
    """Plays a replica until it dies, or has done all there is to do."""
    core.worker.nudge(key)
    try:
        for _ in range(6):
            await play(core)
    except Killed:
        return True
    return False


async def _heartbeats(stage: Stage, key: Key) -> None:
    """The service, if it was told, says that it has come."""
    core = stage.process()
    seat = await seat_of(core, key)
    if seat.participant is not None and stage.calls.asked:
        await core.participants.heartbeat(key, seat.participant, ALICE)


async def _is_finished_once(stage: Stage, core: Core, key: Key) -> None:
    head = await head_of(core, key)
    assert (head.status, head.profile.ready_services) == ("ready", ("asr-1",))
    assert len(head.detail.participants) == 1, "told twice, it has joined once"
    assert 1 <= len(stage.calls.asked) <= 2
    assert {(asked.pid, asked.epoch) for asked in stage.calls.asked} == {(head.detail.participants[0].id, 0)}
    statuses = [entry["status"] for entry in await entries_of(stage, key) if entry["type"] == "status"]
    assert statuses == ["waiting_for_services", "ready"]
