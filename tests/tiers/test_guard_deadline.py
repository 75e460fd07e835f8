"""How much time the work at hand has left."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from sessionmanager.deadline import deadline, remaining
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
