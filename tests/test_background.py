"""What runs beside requests: an error ends it for a moment, and never unseen."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from sessionmanager import logs
from sessionmanager.running.background import keep

pytestmark = pytest.mark.unit


class Fragile:
    """Fails at its first turns, then runs until it is told to stop."""

    def __init__(self, ends: list[Exception | None]) -> None:
        self.ends = ends
        self.begun = 0
        self.first = asyncio.Event()
        self.steady = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self.begun += 1
        self.first.set()
        if self.ends:
            end = self.ends.pop(0)
            if end is not None:
                raise end
            return
        self.steady.set()
        await stop.wait()


async def test_what_ends_before_its_time_is_told_and_begins_again() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream=stream)
    stop, work = asyncio.Event(), Fragile([ZeroDivisionError("what was said"), None])
    task = asyncio.create_task(keep(work.run, stop, again_seconds=0.0))
    await asyncio.wait_for(work.steady.wait(), 30)
    stop.set()
    await asyncio.wait_for(task, 30)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert work.begun == 3
    assert [(line["event"], line["work"], line["error"]) for line in lines] == [
        ("background.failed", "Fragile.run", "ZeroDivisionError"),
        ("background.failed", "Fragile.run", "ended"),
    ]
    assert "what was said" not in stream.getvalue()


async def test_a_work_that_fails_at_its_end_keeps_nobody_waiting() -> None:
    logs.configure("critical", "json", stream=io.StringIO())
    stop, work = asyncio.Event(), Fragile([RuntimeError()])
    task = asyncio.create_task(keep(work.run, stop, again_seconds=3600.0))
    await asyncio.wait_for(work.first.wait(), 30)
    stop.set()
    await asyncio.wait_for(task, 30)
    assert work.begun == 1
