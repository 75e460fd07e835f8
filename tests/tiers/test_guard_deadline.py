"""How much time the work at hand has left."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from math import inf

import pytest

from sessionmanager.waits.deadline import Late, deadline, in_time, remaining
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


def test_without_a_deadline_there_is_no_end() -> None:
    assert remaining() == inf


@on_virtual_time
async def test_what_is_left_grows_less_and_ends_with_the_block() -> None:
    with deadline(5.0):
        assert remaining() == pytest.approx(5.0)
        await asyncio.sleep(2.0)
        assert remaining() == pytest.approx(3.0)
        await asyncio.sleep(4.0)
        assert remaining() == pytest.approx(-1.0)
    assert remaining() == inf


@on_virtual_time
async def test_an_inner_deadline_never_lengthens_an_outer_one() -> None:
    with deadline(5.0):
        with deadline(60.0):
            assert remaining() == pytest.approx(5.0)
        with deadline(1.0):
            assert remaining() == pytest.approx(1.0)
        assert remaining() == pytest.approx(5.0)


@on_virtual_time
async def test_tasks_carry_it_and_others_do_not_see_it() -> None:
    async def seen() -> float:
        await asyncio.sleep(1.0)
        return remaining()

    outside = asyncio.create_task(seen())
    with deadline(5.0):
        inside = asyncio.create_task(seen())
    assert await inside == pytest.approx(4.0)
    assert await outside == inf


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


@on_virtual_time
async def test_a_call_that_never_waits_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call() -> int:
        return 7

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", None)
    assert await in_time(0.0, call()) == 7


@on_virtual_time
async def test_a_call_that_waits_is_cancelled_when_its_time_is_over() -> None:
    loop, ended = asyncio.get_running_loop(), list[str]()

    async def call(seconds: float) -> None:
        try:
            for _ in itertools.count():
                await asyncio.sleep(seconds)
        finally:
            ended.append("ended")

    for seconds in (5.0, 0.4):
        began = loop.time()
        with pytest.raises(Late):
            await in_time(1.0, call(seconds))
        assert loop.time() == pytest.approx(began + 1.0)
    assert len(ended) == 2


async def test_a_call_that_only_lets_others_have_their_turn_is_cancelled_too() -> None:
    async def call() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(Late):
        await in_time(0.01, call())


@on_virtual_time
async def test_a_call_may_end_its_own_waits_and_still_answer() -> None:
    async def call() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await _forever()
        return "an answer"

    assert await in_time(1.0, call()) == "an answer"


@on_virtual_time
async def test_a_caller_who_is_cancelled_is_cancelled_also_at_the_end_of_the_time() -> None:
    async def caller() -> None:
        await in_time(1.0, _forever())

    for seconds in (0.5, 1.0):
        task = asyncio.create_task(caller())
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


@on_virtual_time
async def test_a_time_out_within_the_call_is_its_own() -> None:
    async def call() -> None:
        async with asyncio.timeout(0.5):
            await _forever()

    with pytest.raises(TimeoutError) as raised:
        await in_time(1.0, call())
    assert not isinstance(raised.value, Late)


@on_virtual_time
async def test_what_a_call_waits_for_after_its_time_is_cancelled_as_well() -> None:
    loop = asyncio.get_running_loop()
    in_the_end = loop.create_future()
    loop.call_later(1.0, in_the_end.set_result, None)

    async def call() -> None:
        await in_the_end
        await asyncio.sleep(5.0)

    with pytest.raises(Late):
        await in_time(1.0, call())
    assert loop.time() == pytest.approx(1.0)
