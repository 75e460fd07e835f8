"""The real process, killed with SIGKILL under load over and over: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.client.client import AsyncClient
from sessionmanager.core.core import build_core
from sessionmanager.core.keyfiles import read_key_file
from sessionmanager.core.keys import MasterKey
from sessionmanager.model.timers import INTENT_GRACE_SECONDS
from sessionmanager.tiers.registry import opener
from sessionmanager.wiring import MASTER_KEY_NAME, core_settings
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support.audit import Tiers, audit, explained
from tests.support.kill_load import Load
from tests.support.server import Process, serving, settings_for

pytestmark = pytest.mark.fault

KILLS: Final = {"quick": 10, "full": 50}
ACKS_MAX: Final = 120
"""A process is killed after a random number of acknowledgements, at most so many."""
DEADLINE_SECONDS: Final = 60.0
LOOKS_MAX: Final = 200
FAR: Final = "2999-01-01T00:00:00.000Z"
TINY: Final = {
    "tail_entries_max": "8",
    "tail_entries_kept": "3",
    "warm_segments_max": "3",
    "warm_segments_kept": "1",
    "idle_suspend_seconds": "0",
    "archive_after_days": "0",
}
"""Bounds at which a dozen lines are sealed and the next dozen moves to cold."""


class Service:
    """The process that answers now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.start_seconds: list[float] = []

    async def start(self) -> Process:
        began = time.perf_counter()
        process = await asyncio.to_thread(self._stack.enter_context, serving(self._folder, **TINY))
        self.start_seconds.append(time.perf_counter() - began)
        return process

    async def close(self) -> None:
        """Stop what still runs, as SIGTERM does."""
        await asyncio.to_thread(self._stack.close)


async def test_nothing_acknowledged_is_lost_or_doubled_however_often_the_process_is_killed(
    tmp_path: Path, profile: Profile
) -> None:
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    rng = random.Random(seed)
    load, service = Load(rng), Service(tmp_path / "data")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.close)
        writers = stack.enter_async_context  # noqa: F841
        writing = asyncio.create_task(load.run())
        stack.push_async_callback(_cancelled, writing)
        for kill in range(KILLS[profile] + 1):
            process = await service.start()
            client = await stack.enter_async_context(
                AsyncClient(process.address, process.token, deadline_seconds=DEADLINE_SECONDS)
            )
            await load.check_all(client)
            load.service_up(client)
            await _first(load.until(load.count + rng.randint(0, ACKS_MAX)), writing)
            if kill < KILLS[profile]:
                load.service_down()
                process.kill()
        load.stopping = True
        await writing
        await load.check_all(client)
    assert load.replayed, "no acknowledged request was repeated"
    assert load.archived, "no session was archived"
    print(f"{load.count} acknowledged, {load.replayed} repeated, {load.archived} archived; start {service.start_seconds}")
    await _check_tiers(tmp_path / "data", load)
