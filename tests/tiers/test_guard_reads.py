"""Reads under a guard in tasks of their own: ended once when nobody waits for them any more, whatever else happens."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.errors import TierUnavailable
from tests.support.guard_bench import LIMITS, Bench
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


class Driver:
    """A call that takes a second to clean up after it was cancelled, and may not be cancelled meanwhile."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def ask(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.told.append("cancelled")
            try:
                await asyncio.sleep(1.0)
                self.told.append("clean")
            except asyncio.CancelledError:
                self.told.append("a lock is lost")
                raise
            raise


@on_virtual_time
async def test_a_read_whose_caller_leaves_again_and_again_is_cancelled_once() -> None:
    bench, driver = Bench(LIMITS._replace(own_task=True)), Driver()
    caller = asyncio.create_task(bench.guard.read("get", driver.ask()))
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await bench.guard.drain(5.0) == 0
    assert driver.told == ["cancelled", "clean"]
    assert bench.noted.calls == [("get", "cancelled")]


@on_virtual_time
async def test_a_read_out_of_time_is_cancelled_once_also_where_its_caller_leaves_then() -> None:
    """And its caller is answered at once, not when the driver has cleaned up; until then it counts as in flight."""
    bench, driver = Bench(LIMITS._replace(own_task=True)), Driver()
    caller = asyncio.create_task(bench.guard.read("get", driver.ask()))
    await asyncio.sleep(0.999)
    bench.loop.call_later(0.001, caller.cancel)
    with pytest.raises((TierUnavailable, asyncio.CancelledError)):
        await caller
    assert bench.loop.time() == pytest.approx(1.0)
    assert bench.guard.in_flight == 1
    assert await bench.guard.drain(5.0) == 0
    assert driver.told == ["cancelled", "clean"]
    assert len(bench.noted.calls) == 1


@on_virtual_time
async def test_a_read_that_was_given_up_is_told_once_and_its_failure_is_nobodys() -> None:
    bench = Bench(LIMITS._replace(own_task=True))

    async def ask() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise OSError("the line was cut") from None

    with pytest.raises(TierUnavailable):
        await bench.guard.read("get", ask())
    await bench.guard.drain(1.0)
    assert bench.noted.calls == [("get", "timeout"), ("get", "late")]
    assert bench.guard.state()["failures"] == 1
