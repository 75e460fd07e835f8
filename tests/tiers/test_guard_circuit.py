"""A guard: which ends of calls open and close its breakers, and what it counts."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.errors import AlreadyExists, DataCorrupt, NotFound, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.tiers.guard import NotAsked
from tests.support.guard_bench import DOWN, Bench, status
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


# -- breaker


@on_virtual_time
async def test_failures_of_an_async_call_open_it_and_it_closes_again() -> None:
    """The very thing that a decorated coroutine function never does."""
    bench = Bench()
    await bench.open()
    begun = len(bench.faulty.begun)
    await asyncio.sleep(4.0)
    with pytest.raises(TierUnavailable) as refused:
        await bench.get()
    assert refused.value.retry_after_seconds == pytest.approx(6.0)
    assert bench.guard.state() == {
        "status": "open",
        "failures": 3,
        "last_error": "TierUnavailable",
        "reason": "the warm tier is unavailable",
        "away_seconds": pytest.approx(4.0),
        "retry_after_seconds": pytest.approx(6.0),
        "refuses": "reads",
    }
    assert len(bench.faulty.begun) == begun
    await asyncio.sleep(6.0)
    assert await bench.get() == 0
    assert status(bench) == ("ok", "nothing")
    assert bench.noted.states == ["open", "half-open", "ok"]


@on_virtual_time
async def test_of_many_callers_after_the_reset_one_tries() -> None:
    bench = Bench()
    await bench.open()
    await asyncio.sleep(10.0)
    held = bench.faulty.hold_before("get")
    trial = asyncio.create_task(bench.get())
    await held.reached.wait()
    refused = await asyncio.gather(*(bench.get() for _ in range(10)), return_exceptions=True)
    assert {type(end) for end in refused} == {NotAsked}
    held.release()
    assert await trial == 0
    assert await bench.get() == 0


@on_virtual_time
async def test_a_cancelled_trial_is_no_failure_and_blocks_nobody() -> None:
    bench = Bench()
    await bench.open()
    await asyncio.sleep(10.0)
    held = bench.faulty.hold_before("get")
    trial = asyncio.create_task(bench.get())
    await held.reached.wait()
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert bench.noted.calls[-1] == ("get", "cancelled")
    assert await bench.get() == 0
    assert status(bench) == ("ok", "nothing")


@on_virtual_time
async def test_a_trial_that_hangs_opens_it_again() -> None:
    bench = Bench()
    await bench.open()
    await asyncio.sleep(10.0)
    bench.faulty.hold_before("get")
    with pytest.raises(TierUnavailable):
        await bench.get()
    assert status(bench) == ("open", "reads")


@on_virtual_time
async def test_cancellations_are_no_failures() -> None:
    bench = Bench()
    for _ in range(5):
        held = bench.faulty.hold_before("get")
        call = asyncio.create_task(bench.get())
        await held.reached.wait()
        call.cancel()
        await asyncio.wait([call])
    assert status(bench) == ("ok", "nothing")


@pytest.mark.parametrize("error", [NotFound(), RevConflict(), AlreadyExists(), DataCorrupt(), ValueError("ours")])
@on_virtual_time
async def test_an_answer_that_says_no_is_no_failure(error: Exception) -> None:
    bench = Bench()
    for operation, call in (("get", bench.get), ("put", lambda: bench.put(1))):
        bench.faulty.fail_before(operation, error, 10)
        for _ in range(10):
            with pytest.raises(type(error)):
                await call()
    assert status(bench) == ("ok", "nothing")


@pytest.mark.parametrize("error", [TierUnavailable("warm"), OutcomeUnknown(), ConnectionResetError("a driver's")])
@on_virtual_time
async def test_a_tier_that_cannot_be_reached_is_a_failure(error: Exception) -> None:
    bench = Bench()
    bench.faulty.fail_after("put", error, 3)
    for _ in range(3):
        with pytest.raises(type(error)):
            await bench.put(1)
    assert status(bench) == ("open", "writes")
    assert bench.guard.state()["last_error"] == type(error).__name__


@on_virtual_time
async def test_a_full_disk_stops_writes_and_no_reads() -> None:
    bench = Bench()
    bench.faulty.fail_before("put", DOWN, 3)
    for _ in range(3):
        with pytest.raises(TierUnavailable):
            await bench.put(1)
    assert await bench.get() == 0
    assert status(bench) == ("open", "writes")
    await bench.open()
    assert status(bench) == ("open", "everything")
    await asyncio.sleep(10.0)
    await bench.get()
    assert status(bench) == ("half-open", "writes"), "a write may try, and none has"
    await bench.put(1)
    assert status(bench) == ("ok", "nothing")
    assert bench.noted.states == ["open", "half-open", "ok"]


@on_virtual_time
async def test_every_end_is_counted_by_its_name() -> None:
    bench = Bench()
    await bench.put(1)
    bench.faulty.fail_before("get", NotFound())
    bench.faulty.fail_before("get", RevConflict())
    bench.faulty.fail_before("get", KeyError())
    bench.faulty.fail_before("get", DOWN)
    for _ in range(4):
        with pytest.raises((NotFound, RevConflict, KeyError, TierUnavailable)):
            await bench.get()
    assert bench.noted.calls == [
        ("put", "ok"),
        ("get", "not-found"),
        ("get", "rev-conflict"),
        ("get", "internal"),
        ("get", "tier-unavailable"),
    ]
