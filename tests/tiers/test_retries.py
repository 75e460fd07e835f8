"""Reads that failed are repeated: where it may help, within the time there is, and never so many that they do harm."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from sessionmanager.errors import DataCorrupt, NotFound, TierUnavailable
from sessionmanager.tiers.guard import Guard, Limits, NoAnswer, NotAsked
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.tiers.retries import (
    BUDGET_MAX,
    BUDGET_SHARE,
    PAUSE_SECONDS,
    PAUSE_SECONDS_MAX,
    TRIES_MAX,
    Retries,
)
from sessionmanager.waits.deadline import deadline
from sessionmanager.words import Key
from tests.support.guard_bench import DOWN, Bench
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

LIMITS = Limits(timeout_seconds=1.0, concurrency_max=4, failures_max=1_000_000, reset_seconds=10.0)
KEY = Key("acme", "call-1")


class Repeating(Bench):
    """A guarded box whose reads are repeated; `pauses` are those that were taken."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(limits)
        self.pauses: list[float] = []
        self.retries = Retries(self.guard, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(seconds)

    async def ask(self) -> int:
        return await self.retries.read("get", lambda: self.faulty.get())  # noqa: PLW0108 - made anew for each try

    @property
    def tries(self) -> int:
        return self.faulty.begun.count("get")


@on_virtual_time
async def test_a_read_whose_connection_broke_is_made_again_and_nobody_notices() -> None:
    bench = Repeating()
    bench.box.value = 7
    bench.faulty.fail_before("get", DOWN, TRIES_MAX - 1)
    assert await bench.ask() == 7
    assert bench.tries == TRIES_MAX
    assert bench.noted.repeats == [("get", "ok")]
    assert bench.noted.calls == [("get", "tier-unavailable")] * (TRIES_MAX - 1) + [("get", "ok")]


@on_virtual_time
async def test_it_is_given_up_after_so_many_tries_with_the_last_error() -> None:
    bench = Repeating()
    last = TierUnavailable("warm", "the last")
    bench.faulty.fail_before("get", DOWN, TRIES_MAX - 1)
    bench.faulty.fail_before("get", last)
    with pytest.raises(TierUnavailable) as caught:
        await bench.ask()
    assert caught.value is last
    assert bench.tries == TRIES_MAX
    assert bench.noted.repeats == [("get", "failed")]


@on_virtual_time
async def test_pauses_grow_and_have_full_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    bench = Repeating()
    bench.faulty.fail_before("get", DOWN, TRIES_MAX)
    with pytest.raises(TierUnavailable):
        await bench.ask()
    assert asked[:2] == [(0, PAUSE_SECONDS), (0, 2 * PAUSE_SECONDS)], "from nothing on, and twice as long"
    assert bench.pauses == [PAUSE_SECONDS, 2 * PAUSE_SECONDS]
    assert 2 * PAUSE_SECONDS <= PAUSE_SECONDS_MAX


@pytest.mark.parametrize("error", [NotFound(), DataCorrupt(), OSError(), KeyError()])
@on_virtual_time
async def test_an_answer_and_a_fault_of_ours_are_not_asked_for_twice(error: Exception) -> None:
    bench = Repeating()
    bench.faulty.fail_before("get", error)
    with pytest.raises(type(error)):
        await bench.ask()
    assert bench.tries == 1
    assert bench.noted.repeats == []


@on_virtual_time
async def test_what_the_guard_refused_or_waited_for_in_vain_is_not_repeated() -> None:
    bench = Repeating(LIMITS._replace(failures_max=1))
    bench.faulty.hold_before("get")
    with pytest.raises(NoAnswer):
        await bench.ask()
    assert bench.loop.time() == pytest.approx(1.0), "one wait, and no more"
    with pytest.raises(NotAsked):
        await bench.ask()
    assert bench.tries == 1
    assert bench.noted.repeats == []


@on_virtual_time
async def test_a_breaker_that_opens_meanwhile_ends_the_tries() -> None:
    bench = Repeating(LIMITS._replace(failures_max=2))
    bench.faulty.fail_before("get", DOWN, TRIES_MAX)
    with pytest.raises(NotAsked):
        await bench.ask()
    assert bench.tries == 2
    assert bench.noted.repeats == [("get", "failed")]


@on_virtual_time
async def test_with_too_little_time_left_nothing_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def longest(low: float, high: float) -> float:
        return high

    monkeypatch.setattr(random, "uniform", longest)
    bench = Repeating()
    bench.faulty.fail_before("get", DOWN)
    with deadline(PAUSE_SECONDS / 2), pytest.raises(TierUnavailable):
        await bench.ask()
    assert (bench.tries, bench.pauses) == (1, [])
    assert bench.noted.repeats == [("get", "deadline")]


@on_virtual_time
async def test_of_all_calls_a_tenth_may_be_repeats() -> None:
    bench = Repeating()
    calls = 1_000
    bench.faulty.fail_before("get", DOWN, 100_000)
    for _ in range(calls):
        with pytest.raises(TierUnavailable):
            await bench.ask()
    repeats = bench.tries - calls
    assert repeats <= BUDGET_MAX + BUDGET_SHARE * calls
    assert repeats >= BUDGET_SHARE * calls
    assert ("get", "budget") in bench.noted.repeats[-10:], "most of them are not"


@on_virtual_time
async def test_the_budget_is_earned_back_by_calls_and_saved_up_to_a_bound() -> None:
    bench = Repeating()
    for _ in range(1_000):
        await bench.ask()
    assert bench.retries.budget == BUDGET_MAX
    bench.faulty.fail_before("get", DOWN)
    await bench.ask()
    assert bench.retries.budget == pytest.approx(BUDGET_MAX - 1)


@on_virtual_time
async def test_reads_of_warm_and_cold_are_repeated_and_no_write_and_nothing_of_hot() -> None:
    asked: dict[str, int] = {}

    class Broken:
        """A tier whose every connection breaks."""

        def __getattr__(self, name: str) -> Any:
            async def call(*args: Any, **kwargs: Any) -> Any:
                asked[name] = asked.get(name, 0) + 1
                raise TierUnavailable("warm")

            return call

    broken: Any = Broken()
    warm, cold = GuardedWarm(broken, Guard("warm", LIMITS)), GuardedCold(broken, Guard("cold", LIMITS))
    hot = GuardedHot(broken, Guard("hot", LIMITS))
    change: Any = None
    for call in (
        lambda: warm.load(KEY), lambda: warm.commit(change), lambda: warm.note(()), lambda: warm.purge(KEY),
        lambda: cold.get("a/b"), lambda: cold.put_once("a/b", b""), lambda: cold.remove("a/b"),
        lambda: hot.recall(KEY), lambda: hot.publish(KEY, b""),
    ):  # fmt: skip
        with pytest.raises(TierUnavailable):
            await call()
    assert {name: count for name, count in asked.items() if count > 1} == {"load": TRIES_MAX, "get": TRIES_MAX}
    assert len(asked) == 9
