"""A pause ends with its time or with its event, and says which."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.waits.pause import pause
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit


@on_virtual_time
async def test_a_pause_whose_event_never_comes_lasts_its_time_and_says_so() -> None:
    now = asyncio.get_running_loop().time
    began = now()
    assert await pause(asyncio.Event(), 5.0) is False
    assert now() - began == pytest.approx(5.0)


@on_virtual_time
async def test_a_pause_ends_with_its_event_which_stays_set() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    began = loop.time()
    loop.call_later(1.0, stop.set)
    assert await pause(stop, 5.0) is True
    assert loop.time() - began == pytest.approx(1.0)
    assert await pause(stop, 5.0) is True
    assert loop.time() - began == pytest.approx(1.0), "an event that is set is not waited for"


@on_virtual_time
async def test_a_pause_that_is_cancelled_is_no_pause_that_is_over() -> None:
    waiting = asyncio.create_task(pause(asyncio.Event(), 5.0))
    await asyncio.sleep(1.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
