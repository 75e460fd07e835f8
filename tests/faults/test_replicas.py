"""Three replicas, many clients, random faults and kills: every promise is judged on what the clients saw."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Profile
from tests.support.broken_serve import PROGRAM, VARIABLE
from tests.support.gremlin import Gremlin
from tests.support.http_history import HANG_UPS, Run
from tests.support.left_out import share
from tests.support.matrix import normal
from tests.support.replicas import Replica, Servers, a_replica, eventually, servers_to_break

pytestmark = [pytest.mark.fault, HANG_UPS]

REPLICAS: Final = 3
SECONDS: Final = {"quick": 15.0, "full": 120.0}
SOMETIMES: Final = {
    "quick": ("append: ok", "replays", "answer: OutcomeUnknown"),
    "full": ("append: ok", "replays", "answer: OutcomeUnknown", "answer: TierUnavailable", "archive: ok", "erase: ok"),
}
HEAL_SECONDS: Final = 15.0
TINY: Final = {
    "tail_entries_max": "8",
    "tail_entries_kept": "3",
    "warm_segments_max": "3",
    "warm_segments_kept": "1",
    "idle_suspend_seconds": "0",
    "archive_after_days": "0",
    "cold_timeout_seconds": "2",
}
"""Bounds at which a dozen lines are sealed and the next dozen moves to cold."""


@asynccontextmanager
async def replicas(servers: Servers, folder: Path, count: int = REPLICAS) -> AsyncGenerator[list[Replica]]:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(a_replica(servers, f"r{i}", folder, **TINY)) for i in range(count)]
        await asyncio.gather(*(replica.start() for replica in made))
        yield made


def a_seed() -> int:
    """Of what clients ask for and of the faults; what the machine does between them no seed decides."""
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    return seed


async def begin(run: Run) -> None:
    """Two sessions are there, each followed by somebody at every replica."""
    for session in (run.new_session(), run.new_session()):
        await run.talkers[0].do(run.talkers[0].request("create", session))
        for replica in run.replicas:
            await run.follow(session, replica)


async def test_replicas_keep_every_promise_whatever_breaks(tmp_path: Path, profile: Profile) -> None:
    seconds = float(os.environ.get("TEST_HISTORY_SECONDS", SECONDS[profile]))
    seed = a_seed()
    async with servers_to_break(tmp_path) as servers, replicas(servers, tmp_path) as made:
        run = Run(made, seed)
        gremlin = Gremlin(servers, made, random.Random(seed))
        try:
            await made[0].create("well")
            await begin(run)
            playing = asyncio.create_task(run.play())

            async def between() -> None:
                run.new_session()
                if playing.done():
                    await playing

            await gremlin.run(seconds, between)
            for replica in made:
                await replica.lines.heal()
            run.over.set()
            await playing
            began = time.monotonic()
            for replica in made:
                await eventually(lambda replica=replica: normal(replica, "well"), HEAL_SECONDS, "all is well again")
            print(f"well again after {time.monotonic() - began:.1f} s")
            await run.settle()
        finally:
            await run.close()
    found = run.violations()
    print(f"{len(run.notes.history)} requests; {dict(gremlin.done)}; {dict(sorted(run.notes.counts.items()))}")
    assert not found, "\n".join(map(str, found[:20]))
    faults = [line for replica in made for line in replica.logged() if line["level"] in ("error", "critical")]
    assert not faults, faults[:5]
    for sometimes in SOMETIMES[profile]:
        assert run.notes.counts[sometimes], f"a run in which there was no {sometimes!r} proves nothing"


CAUGHT_BY: Final = {
    "lost update": {"acknowledged_writes_stand", "versions_are_one_order", "everything_recovers"},
    "stale cache": {"reads_are_fresh"},
    "false no": {"what_was_refused_never_appears", "nothing_appears_twice"},
    "forgetful": {"nothing_appears_twice", "repeats_get_the_first_answer"},
}
BROKEN_SECONDS: Final = 4.0
SHORT_LEASE_SECONDS: Final = 0.3


@pytest.mark.parametrize("fault", share(CAUGHT_BY, quick=("lost update", "stale cache")))
async def test_a_replica_with_a_broken_tier_is_caught(tmp_path: Path, fault: str) -> None:
    """The check can fail: of two replicas, one is broken on purpose, and nothing else is wrong."""
    short = {**TINY, "hot_lease_seconds": str(SHORT_LEASE_SECONDS)}
    async with (
        servers_to_break(tmp_path, warm="mongo-memory") as servers,
        a_replica(servers, "right", tmp_path, **short) as right,
        a_replica(servers, "broken", tmp_path, **short) as broken,
    ):
        broken.program = PROGRAM
        broken.outer[VARIABLE] = fault
        await asyncio.gather(right.start(), broken.start())
        likes = {"erase": 0.0, "end": 0.0, "create": 0.1, "get": 3.0}
        run = Run((broken, right), a_seed(), likes=likes, lease_seconds=SHORT_LEASE_SECONDS)
        try:
            await begin(run)
            playing = asyncio.create_task(run.play())
            await asyncio.wait({playing}, timeout=BROKEN_SECONDS)
            run.over.set()
            await playing
            await run.read_endings()
        finally:
            await run.close()
    rules = Counter(violation.rule for violation in run.violations())
    print(f"{fault}: {len(run.notes.history)} requests; {dict(rules)}")
    assert CAUGHT_BY[fault] & rules.keys(), rules
