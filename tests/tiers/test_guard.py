"""A guard: what comes through, in what time, how many at once, and what a call that never waits costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessionmanager.errors import AlreadyExists, DataCorrupt, NotFound, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.waits.deadline import deadline
from tests.support.guard_bench import DOWN, LIMITS, Bench, status
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


# -- answers


@on_virtual_time
async def test_answers_and_errors_come_through_as_they_are() -> None:
    bench = Bench()
    await bench.put(7)
    assert await bench.get() == 7
    errors = [NotFound(), RevConflict(), AlreadyExists(), DataCorrupt(), OutcomeUnknown(), DOWN, KeyError("x")]
    for error in errors:
        for operation, call in (("get", bench.get), ("put", lambda: bench.put(1))):
            bench.faulty.fail_before(operation, error)
            with pytest.raises(type(error)) as raised:
                await call()
            assert raised.value is error
    assert bench.guard.in_flight == 0


@on_virtual_time
async def test_a_call_that_waits_in_between_gets_what_it_waits_for() -> None:
    """The hand-over from running by hand to waiting loses neither values nor errors nor the loop's own calls."""
    bench = Bench(LIMITS._replace(own_task=False))

    async def call() -> list[Any]:
        seen: list[Any] = [await asyncio.sleep(0.1, "slept")]
        try:
            async with asyncio.timeout(0.2):
                await asyncio.sleep(10)
        except TimeoutError:
            seen.append("inner time-out")
        future = bench.loop.create_future()
        bench.loop.call_later(0.1, future.set_exception, KeyError("told"))
        try:
            await future
        except KeyError as error:
            seen.append(error.args[0])
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        return seen

    seen = await bench.guard.read("get", call())
    assert seen == ["slept", "inner time-out", "told", asyncio.current_task()]
    assert await bench.guard.write("put", asyncio.sleep(0.5, "written")) == "written"


# -- time


@on_virtual_time
async def test_a_read_without_an_answer_in_time_is_unavailable_and_cancelled() -> None:
    bench = Bench()
    held = bench.faulty.hold_before("get")
    with pytest.raises(TierUnavailable) as late:
        await bench.get()
    assert late.value.tier == "warm"
    assert bench.loop.time() == pytest.approx(1.0)
    held.release()
    assert bench.faulty.applied == []
    assert bench.noted.calls == [("get", "timeout")]
    assert bench.guard.state()["failures"] == 1


@on_virtual_time
async def test_an_operation_may_have_a_time_of_its_own() -> None:
    bench = Bench()
    bench.faulty.delay("slowly", 4.9)
    assert await bench.guard.read("slowly", bench.faulty.slowly()) == 0
    assert bench.noted.seconds == [pytest.approx(4.9)]


@pytest.mark.parametrize(("left", "seconds"), [(10.0, 2.5), (2.0, 1.0), (0.6, 0.6), (100.0, 5.0)])
@on_virtual_time
async def test_a_long_operation_takes_a_quarter_of_its_request_and_never_less_than_others_do(
    left: float, seconds: float
) -> None:
    bench = Bench()
    for i in range(3):
        bench.faulty.hold_before("slowly")
        began = bench.loop.time()
        with deadline(left), pytest.raises(TierUnavailable):
            await bench.guard.read("slowly", bench.faulty.slowly())
        assert bench.loop.time() - began == pytest.approx(seconds)
        assert bench.guard.state()["failures"] == i + 1, "the tier had its time"


@on_virtual_time
async def test_a_read_ends_with_the_time_of_its_request() -> None:
    bench = Bench()
    bench.faulty.hold_before("get")
    with deadline(0.3), pytest.raises(TierUnavailable):
        await bench.get()
    assert bench.loop.time() == pytest.approx(0.3)


@on_virtual_time
async def test_with_no_time_left_nothing_begins() -> None:
    bench = Bench()
    with deadline(0.3):
        await asyncio.sleep(0.4)
        for call in (bench.get(), bench.put(1)):
            with pytest.raises(TierUnavailable):
                await call
    assert bench.faulty.begun == []
    assert bench.noted.calls == [("get", "refused"), ("put", "refused")]
    assert status(bench) == ("ok", "nothing")


@on_virtual_time
async def test_callers_in_a_hurry_do_not_open_the_breaker() -> None:
    bench = Bench()
    for _ in range(10):
        bench.faulty.hold_before("get")
        with deadline(0.1), pytest.raises(TierUnavailable):
            await bench.get()
    assert status(bench) == ("ok", "nothing")
    for _ in range(3):
        bench.faulty.hold_before("get")
        with deadline(0.6), pytest.raises(TierUnavailable):
            await bench.get()
    assert status(bench) == ("open", "reads")


@on_virtual_time
async def test_a_time_out_of_the_tier_itself_is_not_taken_for_ours() -> None:
    bench = Bench()

    async def call() -> None:
        await asyncio.sleep(0.1)
        raise TimeoutError("the driver's own")

    with pytest.raises(TimeoutError, match="driver"):
        await bench.guard.read("get", call())
    assert bench.guard.state()["last_error"] == "TimeoutError"


# -- calls at once


@on_virtual_time
async def test_more_calls_at_once_than_the_bound_are_refused_at_once() -> None:
    bench = Bench()
    held = [bench.faulty.hold_before("get") for _ in range(4)]
    waiting = [asyncio.create_task(bench.get()) for _ in range(4)]
    for one in held:
        await one.reached.wait()
    before = bench.loop.time()
    for call in (bench.get(), bench.put(1)):
        with pytest.raises(TierUnavailable, match="too many") as refused:
            await call
        assert refused.value.retry_after_seconds
    assert bench.loop.time() == before
    for one in held:
        one.release()
    assert await asyncio.gather(*waiting) == [0] * 4
    assert status(bench) == ("ok", "nothing")
    assert bench.guard.in_flight == 0


@on_virtual_time
async def test_draining_waits_for_what_is_in_flight_and_no_longer_than_told() -> None:
    bench = Bench()
    assert await bench.guard.drain(1.0) == 0
    bench.faulty.delay("get", 0.5)
    bench.faulty.delay("put", 0.7)
    calls = [asyncio.create_task(bench.get()), asyncio.create_task(bench.put(1))]
    await asyncio.sleep(0)
    assert bench.guard.in_flight == 2
    assert await bench.guard.drain(0.1) == 2
    assert await bench.guard.drain(0.5) == 1
    assert await bench.guard.drain(5.0) == 0
    assert bench.loop.time() == pytest.approx(0.7)
    await asyncio.gather(*calls)


# -- cost


@on_virtual_time
async def test_a_read_that_never_waits_arms_no_timer_and_makes_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(LIMITS._replace(own_task=False))
    armed: list[str] = []
    for name in ("call_at", "call_later", "call_soon", "create_task"):
        monkeypatch.setattr(bench.loop, name, lambda *args, name=name, **kwargs: armed.append(name))
    answer = await bench.guard.read("get", bench.box.get())
    monkeypatch.undo()
    assert answer == 0
    assert armed == []
