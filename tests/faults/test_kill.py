"""The real process, killed with SIGKILL under load over and over: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from sessionmanager.client.client import PlainClient
from sessionmanager.core.assembly import build_core
from sessionmanager.core.keys.files import read_key_file
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.opening import MASTER_KEY_NAME
from sessionmanager.settings_parts import core_settings
from sessionmanager.tiers.registry import opener
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support.audit import Tiers, audit, explained
from tests.support.kill_load import Load
from tests.support.process import Process, serving
from tests.support.server import settings_for

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
    print(f"TEST_SEED={seed}")  # the order of requests depends on it, what the machine does beside them does not
    rng = random.Random(seed)
    load, service = Load(rng), Service(tmp_path / "data")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.close)
        writing = asyncio.create_task(load.run())
        stack.push_async_callback(_cancelled, writing)
        for kill in range(KILLS[profile] + 1):
            process = await service.start()
            client = await stack.enter_async_context(
                PlainClient(process.address, process.token, deadline_seconds=DEADLINE_SECONDS)
            )
            await load.check_some(client)
            load.service_up(client)
            last = kill == KILLS[profile]
            await _unless_failed(load.until(load.count + rng.randint(0, ACKS_MAX), everything=last), writing)
            if not last:
                load.service_down()
                process.kill()
        load.stopping = True
        await writing
        await load.check_all(client)
    print(f"{load.count} acknowledged, {load.replayed} repeated, {load.archived} archived, {len(load.erased)} erased")
    print(f"seconds from start to answer: {', '.join(f'{seconds:.2f}' for seconds in service.start_seconds)}")
    await _check_tiers(tmp_path / "data", load)


async def _unless_failed(reached: Coroutine[Any, Any, None], writing: asyncio.Task[None]) -> None:
    """Wait for `reached`; where a writer fails before, its error is raised."""
    waiting = asyncio.create_task(reached)
    done, _ = await asyncio.wait({waiting, writing}, timeout=DEADLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    await _cancelled(waiting)
    if writing in done:
        await writing
    assert waiting in done, "the writers do not get on"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _check_tiers(folder: Path, load: Load) -> None:
    """What kills left behind is ended once its grace is over: nothing owed, no orphan, every head its log's fold."""
    settings = settings_for(folder, **TINY)
    master = MasterKeys(read_key_file(folder / MASTER_KEY_NAME))
    policy = core_settings(settings).policy
    step = late = max(policy.intent_grace_seconds, policy.upload_deadline_seconds) + 1

    def clock() -> float:
        return time.time() + late

    async with AsyncExitStack() as stack:
        hot = await stack.enter_async_context(opener("hot", settings.hot_url)(settings.hot_url))
        warm = await stack.enter_async_context(opener("warm", settings.warm_url)(settings.warm_url, clock=clock))
        cold = await stack.enter_async_context(opener("cold", settings.cold_url)(settings.cold_url))
        core = build_core(hot, warm, cold, master, core_settings(settings))
        for _ in range(LOOKS_MAX):
            if not await warm.due(FAR, 1):
                break
            await core.worker.turn()
            late += step
        assert not await warm.due(FAR, 1), "something is owed for ever"
        moved = 0
        for session in load.sent:
            found = await audit(core, Tiers(hot, warm, cold), Key("default", session))
            # A segment whose sealer was killed waits for whoever lists the bodies next (see `core/moves/seal.py`).
            orphans = [name for name in found.orphans if not name.startswith("warm body")]
            assert found._replace(orphans=tuple(orphans)).whole, f"{session}: {explained(found)}"
            assert (found.placement == "erased") == (session in load.erased), session
            moved += found.cold_bodies
        assert moved, "nothing was moved to cold"
