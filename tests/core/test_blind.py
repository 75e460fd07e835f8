"""Loops that look at warm say once that they cannot, however long it lasts, and once more after they could."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from sessionmanager.core.services.monitor import Monitor
from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.errors import TierUnavailable
from tests.support.faulty import Faulty
from tests.support.receiver import Sham, delivering, hooked_for_days
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.contract


class Registry:
    """Warm away and back, as the looks go; `stop` with the last."""

    def __init__(self, away: list[bool], stop: asyncio.Event) -> None:
        self._away = away
        self._stop = stop

    async def everything(self) -> list[Any]:
        away = self._away.pop(0)
        if not self._away:
            self._stop.set()
        if away:
            raise TierUnavailable("warm")
        return []


class Clock:
    def now(self) -> str:
        return "2026-11-21T10:00:00.000Z"


async def test_the_watch_over_services_says_once_that_it_cannot_look() -> None:
    stop, nothing = asyncio.Event(), None
    registry: Any = Registry([True, True, True, False, False, True, True], stop)
    warm: Any = Clock()
    unused: Any = nothing
    monitor = Monitor(warm, registry, unused, unused, poll_seconds=0.0)
    with capture_logs() as lines:
        await asyncio.wait_for(monitor.run(stop), 30)
    assert [(line["event"], line["error"]) for line in lines] == [("services.cannot_look", "TierUnavailable")] * 2


@on_virtual_time
async def test_webhooks_say_once_that_they_cannot_be_looked_at_also_in_a_long_outage() -> None:
    world = hooked_for_days()
    await world.hook("https://example.org/")
    warm = Faulty(world.warm)
    with capture_logs() as lines:
        async with delivering(world.process(Sham(world.clock), WebhookLimits(), warm=warm)):
            for _ in range(2):
                warm.fail_before("list_records", TierUnavailable("warm"), times=100)
                await asyncio.sleep(600)
                assert warm.spent
    assert [line["event"] for line in lines] == ["webhook.cannot_look"] * 2, "of two hundred looks that failed"
