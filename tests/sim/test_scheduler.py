"""The virtual clock, the loop and the network of the simulator: deterministic, quick to jump, deaf to the dead."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import pytest

from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from tests.support.sim.network import Link, Odds, Outage, Weather
from tests.support.sim.scheduler import Process, Stuck, VirtualLoop

pytestmark = pytest.mark.unit


def a_link(loop: VirtualLoop, weather: Weather, counts: Counter[str] | None = None) -> tuple[Link, Process]:
    process = Process("r0", 1, loop)
    return Link(loop, weather, process, "warm", counts if counts is not None else Counter()), process


def test_time_jumps_to_the_next_timer_and_nobody_sleeps() -> None:
    loop = VirtualLoop(1)

    async def work() -> float:
        await asyncio.sleep(86_400)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        return loop.time()

    began = time.perf_counter()
    assert loop.run(work()) == 86_405
    assert time.perf_counter() - began < 1


def test_one_seed_is_one_trace_and_another_seed_another() -> None:
    def trace(seed: int) -> str:
        loop = VirtualLoop(seed)
        link, _ = a_link(loop, Weather({"warm": Odds(lose=0.2, twice=0.2, slow=0.2)}))

        async def call(i: int) -> None:
            async def effect() -> None:
                loop.note("effect", i)

            await asyncio.gather(link.write("commit", effect), return_exceptions=True)

        async def work() -> None:
            await asyncio.gather(*(call(i) for i in range(50)))

        loop.run(work())
        return loop.trace

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_a_wait_that_nobody_can_end_is_told() -> None:
    loop = VirtualLoop(1)

    async def work() -> None:
        await loop.create_future()

    with pytest.raises(Stuck, match="main"):
        loop.run(work())


def test_callbacks_that_never_let_time_pass_are_told() -> None:
    loop = VirtualLoop(1)

    async def work() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    loop.steps_max = 1_000
    with pytest.raises(Stuck, match="1000"):
        loop.run(work())


def test_of_a_killed_process_not_even_a_finally_runs() -> None:
    loop = VirtualLoop(1)
    seen: list[str] = []
    process = Process("r0", 1, loop)

    async def victim() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("woke")
        finally:
            seen.append("cleaned up")

    async def work() -> None:
        task = process.start(victim())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(5)
        assert not task.done()
        assert seen == []

    loop.run(work())


def test_work_for_a_thread_is_done_on_the_loop() -> None:
    loop = VirtualLoop(1)

    async def work() -> int:
        return await asyncio.to_thread(sum, [1, 2])

    assert loop.run(work()) == 3


@pytest.mark.parametrize(
    ("fate", "effects", "error"),
    [
        (Odds(), 1, None),
        (Odds(refuse=1), 0, TierUnavailable),
        (Odds(lose=1), 1, OutcomeUnknown),
        (Odds(late=1), 1, OutcomeUnknown),
        (Odds(slow=1), 1, None),
        (Odds(twice=1), 2, None),
    ],
    ids=["deliver", "refuse", "lose", "late", "slow", "twice"],
)
def test_each_fate_does_what_its_name_says(fate: Odds, effects: int, error: type[Exception] | None) -> None:
    for seed in range(5):
        loop = VirtualLoop(seed)
        weather = Weather({"warm": fate})
        link, _ = a_link(loop, weather)
        count = Counter[str]()

        async def effect(count: Counter[str] = count) -> None:
            count["effects"] += 1

        async def work(link: Link = link, effect: object = effect) -> object:
            (answer,) = await asyncio.gather(link.write("commit", effect), return_exceptions=True)  # type: ignore[arg-type]
            await asyncio.sleep(10)
            return answer

        answer = loop.run(work())
        assert isinstance(answer, error) if error else answer is None
        assert count["effects"] == effects


def test_a_kill_may_come_before_or_after_the_effect_and_answers_nobody() -> None:
    effects = Counter[int]()
    for seed in range(20):
        loop = VirtualLoop(seed)
        link, process = a_link(loop, Weather({"warm": Odds(kill=1)}))

        async def effect(seed: int = seed) -> None:
            effects[seed] += 1

        async def work(process: Process = process, link: Link = link, effect: object = effect) -> None:
            task = process.start(link.write("commit", effect))  # type: ignore[arg-type]
            await process.died
            await asyncio.sleep(10)
            assert not task.done()

        loop.run(work())
    assert 0 < len(effects) < 20


def test_an_outage_is_one_of_its_replica_and_ends_with_the_weather() -> None:
    loop = VirtualLoop(1)
    weather = Weather(outages=(Outage("warm", 0, 100, "r0"),))
    link, _ = a_link(loop, weather)
    other = Link(loop, weather, Process("r1", 1, loop), "warm", Counter())

    async def effect() -> str:
        return "answer"

    async def work() -> None:
        assert await other.read("load", effect) == "answer"
        with pytest.raises(TierUnavailable):
            await link.read("load", effect)
        weather.clear()
        assert await link.read("load", effect) == "answer"

    loop.run(work())
