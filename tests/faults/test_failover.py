"""Redis that moves under load: a primary that dies, slots that are handed over. Nobody is told no, nothing is old."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.crc import key_slot

from sessionmanager.tiers.hot.redis_values import names_of
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support.http_history import HANG_UPS, Run
from tests.support.http_target import TENANT
from tests.support.left_out import share
from tests.support.matrix import normal
from tests.support.redis_servers import move_slot
from tests.support.replicas import Replica, Servers, a_replica, eventually, servers_to_break
from tests.support.sim.history import UNDECIDED

pytestmark = [pytest.mark.fault, HANG_UPS]

REPLICAS: Final = 2
HOT_AGAIN_SECONDS: Final = 25.0
"""Sentinels take five seconds to agree that a primary is down, cluster nodes two; then copies are filled anew."""
SLOWEST_SECONDS: Final = 20.0
"""Of one answer: some 0.3 s on a quiet machine, 7.5 seen on a starved one. What hangs on hot never comes."""
PREFIX: Final = "failover:"
PATIENT: Final = {"session_prefix": PREFIX, "warm_timeout_seconds": "10", "cold_timeout_seconds": "10"}
"""It is hot that fails: a machine that is busy must not make the others look so."""
MOVES: Final = {"quick": 4, "full": 12}


@asynccontextmanager
async def under_load(folder: Path, hot: str) -> AsyncGenerator[tuple[Servers, Run, Callable[[], Awaitable[None]]]]:
    """Replicas that are used while the block breaks things; what the clients saw is judged when it is over.

    Gives what to call once everything is as it should be: until then whatever was broken may be mended.
    """
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(servers_to_break(folder, hot=hot, warm="mongo-memory"))
        made = [
            await stack.enter_async_context(a_replica(servers, f"r{i}", folder, **PATIENT)) for i in range(REPLICAS)
        ]
        await asyncio.gather(*(replica.start() for replica in made))
        await made[0].create("well")
        run = Run(made, seed=random.randrange(1_000_000), likes={"erase": 0.2, "create": 0.2, "end": 0.0})
        stack.push_async_callback(run.close)
        for session in [run.new_session() for _ in range(4)]:
            await run.talkers[0].do(run.talkers[0].request("create", session))
            await run.follow(session, made[0])
        for replica in made:
            await hot_again(replica)
        playing = asyncio.create_task(run.play())

        async def all_is_well() -> None:
            for replica in made:
                await hot_again(replica)

        yield servers, run, all_is_well
        run.over.set()
        await playing
        await run.settle()
    found = run.violations()
    print(f"{len(run.notes.history)} requests; {dict(sorted(run.notes.counts.items()))}")
    assert not found, "\n".join(map(str, found[:20]))
    told_no = [op for op in run.notes.history if op.error in UNDECIDED - {"InProgress"}]
    assert not told_no, "without hot everything goes on: " + "\n".join(f"{op}: {op.detail}" for op in told_no[:5])
    slowest = max(op.answered_at - op.invoked_at for op in run.notes.history if op.answered_at is not None)
    print(f"the slowest answer took {slowest:.2f} s")
    assert slowest < SLOWEST_SECONDS
    assert run.notes.counts["append: ok"] > 20


async def hot_again(replica: Replica) -> None:
    await eventually(lambda: normal(replica, "well"), HOT_AGAIN_SECONDS, f"{replica.name} has hot again")


@pytest.mark.parametrize("how", share(("killed", "frozen"), quick=("frozen",)))
async def test_a_sentinel_failover_under_load_loses_nothing(tmp_path: Path, profile: Profile, how: str) -> None:
    async with under_load(tmp_path, "redis-sentinel") as (servers, _, all_is_well):
        if how == "killed":
            await servers.hot.kill("primary")
        else:
            servers.hot.freeze("primary")
        await all_is_well()
        if profile == "full":  # it comes back, believes that it is the primary, and is told otherwise
            await (
                servers.hot.restart("primary") if how == "killed" else asyncio.to_thread(servers.hot.thaw, "primary")
            )
            await servers.hot.ready()
            await all_is_well()


async def test_a_cluster_whose_slots_are_handed_over_under_load_loses_nothing(tmp_path: Path, profile: Profile) -> None:
    async with under_load(tmp_path, "redis-cluster") as (servers, run, all_is_well):
        for i in range(MOVES[profile]):
            session = run.sessions[i % len(run.sessions)]
            await move_slot(key_slot(names_of(PREFIX, Key(TENANT, session)).copy), servers.hot.url, pause=0.1)
        await all_is_well()
        if profile == "full":
            await servers.hot.kill("node-0")
            await all_is_well()
            await servers.hot.restart("node-0")
            await servers.hot.ready()
            await all_is_well()
