"""Writes under a guard: in a task of their own never cancelled, given up in time and counted until they end; without
one over with their caller, or in time."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.guard import Limits
from sessionmanager.waits.deadline import deadline
from tests.support.faulty import Held
from tests.support.guard_bench import DOWN, LIMITS, Bench
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


@pytest.fixture(params=[True, False], ids=["own task", "caller's task"])
def limits(request: pytest.FixtureRequest) -> Limits:
    return LIMITS._replace(own_task=request.param)


@on_virtual_time
async def test_a_write_without_an_answer_in_time_is_not_known_and_goes_on() -> None:
    bench = Bench(LIMITS)
    held = bench.faulty.hold_before("put")
    with pytest.raises(OutcomeUnknown):
        await bench.put(7)
    assert bench.loop.time() == pytest.approx(1.0)
    assert bench.guard.in_flight == 1
    assert bench.box.value == 0
    held.release()
    assert await bench.guard.drain(1.0) == 0
    assert bench.box.value == 7
    assert bench.noted.calls == [("put", "timeout"), ("put", "late")]
    assert bench.guard.state()["failures"] == 1


@on_virtual_time
async def test_a_write_that_was_given_up_and_then_fails_is_counted_once() -> None:
    bench = Bench(LIMITS)
    held = Held()

    async def call() -> None:
        await held.stop()
        raise DOWN

    with pytest.raises(OutcomeUnknown):
        await bench.guard.write("put", call())
    held.release()
    assert await bench.guard.drain(1.0) == 0
    assert bench.guard.state()["failures"] == 1


@on_virtual_time
async def test_a_write_goes_on_when_its_caller_is_cancelled() -> None:
    bench = Bench(LIMITS)
    held = bench.faulty.hold_before("put")
    caller = asyncio.create_task(bench.put(7))
    await held.reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert bench.guard.in_flight == 1
    held.release()
    assert await bench.guard.drain(1.0) == 0
    assert bench.box.value == 7
    assert bench.noted.calls == [("put", "ok")]


@on_virtual_time
async def test_a_write_that_was_applied_and_then_lost_is_not_known(limits: Limits) -> None:
    bench = Bench(limits)
    bench.faulty.hold_after("put")
    with deadline(0.2), pytest.raises(OutcomeUnknown):
        await bench.put(7)
    assert bench.box.value == 7


@on_virtual_time
async def test_writes_that_were_given_up_are_bounded() -> None:
    bench = Bench(LIMITS._replace(failures_max=100))
    held = [bench.faulty.hold_before("put") for _ in range(4)]
    ends = await asyncio.gather(*(bench.put(n) for n in range(4)), return_exceptions=True)
    assert [type(end) for end in ends] == [OutcomeUnknown] * 4
    with pytest.raises(TierUnavailable, match="too many"):
        await bench.get()
    for one in held:
        one.release()
    assert await bench.guard.drain(1.0) == 0
    await bench.get()


@on_virtual_time
async def test_a_write_may_wait_for_one_thing_after_another(limits: Limits) -> None:
    bench = Bench(limits)
    told: list[object] = []

    async def call() -> str:
        told.append(await asyncio.sleep(0.1, "slept"))
        await asyncio.sleep(0)
        future = bench.loop.create_future()
        bench.loop.call_later(0.1, future.set_exception, KeyError("told"))
        try:
            await future
        except KeyError as error:
            told.append(error.args[0])
        return "written"

    assert await bench.guard.write("put", call()) == "written"
    assert told == ["slept", "told"]
    assert bench.noted.calls == [("put", "ok")]
    assert bench.guard.in_flight == 0


@on_virtual_time
async def test_the_time_of_a_write_is_that_of_all_it_waits_for() -> None:
    bench = Bench(LIMITS)
    held = Held()

    async def call() -> None:
        await asyncio.sleep(0.7)
        await held.stop()

    with pytest.raises(OutcomeUnknown):
        await bench.guard.write("put", call())
    assert bench.loop.time() == pytest.approx(1.0)
    assert bench.guard.in_flight == 1
    held.release()
    assert await bench.guard.drain(1.0) == 0
    assert bench.noted.calls == [("put", "timeout"), ("put", "late")]


@on_virtual_time
async def test_what_a_write_waits_for_is_not_cancelled_with_its_caller() -> None:
    bench = Bench(LIMITS)
    future = bench.loop.create_future()

    async def call() -> None:
        await future
        await asyncio.sleep(0.1)
        raise DOWN

    caller = asyncio.create_task(bench.guard.write("put", call()))
    await asyncio.sleep(0.1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not future.cancelled()
    future.set_result(None)
    assert await bench.guard.drain(1.0) == 0
    assert bench.noted.calls == [("put", "tier-unavailable")]
    assert bench.guard.state()["failures"] == 1


@on_virtual_time
async def test_in_its_callers_task_a_late_write_is_cancelled_and_not_known() -> None:
    bench = Bench(LIMITS._replace(own_task=False))
    bench.faulty.hold_before("put")
    with pytest.raises(OutcomeUnknown):
        await bench.put(7)
    assert bench.loop.time() == pytest.approx(1.0)
    assert bench.guard.in_flight == bench.box.value == 0
    assert bench.noted.calls == [("put", "timeout")]
    assert bench.guard.state()["failures"] == 1


@on_virtual_time
async def test_in_its_callers_task_a_write_is_cancelled_with_its_caller() -> None:
    bench = Bench(LIMITS._replace(own_task=False))
    held = bench.faulty.hold_before("put")
    caller = asyncio.create_task(bench.put(7))
    await held.reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert bench.guard.in_flight == bench.box.value == 0
    assert bench.noted.calls == [("put", "cancelled")]
    assert bench.guard.state()["failures"] == 0


@on_virtual_time
async def test_in_its_callers_task_an_answer_that_comes_with_the_end_of_the_time_is_the_answer() -> None:
    bench = Bench(LIMITS._replace(own_task=False))
    future = bench.loop.create_future()

    async def call() -> str:
        return await future

    bench.loop.call_later(LIMITS.timeout_seconds, future.set_result, "in time")
    assert await bench.guard.write("put", call()) == "in time"
    assert bench.noted.calls == [("put", "ok")]


@on_virtual_time
async def test_in_its_callers_task_a_write_makes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(LIMITS._replace(own_task=False))
    future = bench.loop.create_future()
    made: list[object] = []

    async def call() -> asyncio.Task[object] | None:
        await future
        return asyncio.current_task()

    bench.loop.call_later(0.1, future.set_result, None)
    monkeypatch.setattr(bench.loop, "create_task", made.append)
    ran_in = await bench.guard.write("put", call())
    monkeypatch.undo()
    assert ran_in is asyncio.current_task()
    assert made == []
