"""Durable commits a second: the warm tier alone, and the whole core, beside bare `sqlite3`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import uvloop

from sessionmanager.core.assembly import Core
from sessionmanager.words import Key
from tests.bench import warm_sqlite
from tests.bench.corpus import Dialogue
from tests.bench.embedded import TENANT, WHO, drafts_of, opened, scratch
from tests.bench.rows import Plan, Row, paired, row

SESSIONS: Final = 64


def warm_rows(plan: Plan) -> list[Row]:
    """As the warm tier's own benchmark has them."""
    rounds = plan.pairs
    return [
        row(
            f"warm: {found['name']}",
            found["value"],
            found["unit"],
            beside=found["beside"],
            ratio=found["ratio"],
            target=found["target"],
        )
        for found in warm_sqlite.rows(rounds=rounds, seconds=plan.seconds)
    ]


def core_rows(plan: Plan) -> list[Row]:
    """Appends of one line each through the core: decide, fold, commit, tell hot."""
    found: list[Row] = []
    with scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        for writers in (1, SESSIONS):
            pairs = [
                (
                    loop.run(_ours(folder / f"ours-{writers}-{turn}", writers, plan.seconds)),
                    warm_sqlite.bare(folder / f"bare-{writers}-{turn}.db", writers, plan.seconds),
                )
                for turn in range(plan.pairs)
            ]
            ours, bare, ratio = paired(pairs)
            name = f"core: durable commits, {writers} writer{'s' if writers > 1 else ''}"
            beside = f"bare sqlite3, {writers} a COMMIT: {bare:,.0f}/s"
            target = ">= 0.5" if writers == 1 else ">= 0.7"
            found.append(row(name, ours, "commits/s", beside=beside, ratio=ratio, target=target))
    return found


async def _ours(folder: Path, writers: int, seconds: float) -> float:
    async with opened(folder) as (core, _):
        keys = [await _session(core, i) for i in range(writers)]
        began = time.perf_counter()
        written = sum(await asyncio.gather(*[_writer(core, key, began + seconds) for key in keys]))
        return written / (time.perf_counter() - began)


async def _session(core: Core, i: int) -> Key:
    key, _ = await core.sessions.create(TENANT, f"bench-{i}", {}, drafts_of(Dialogue(i).drafts(10)), WHO)
    return key


async def _writer(core: Core, key: Key, until: float) -> int:
    drafts = drafts_of([{"type": "message", "role": "user", "content": "a sentence of some length " * 3}])
    written = 0
    while time.perf_counter() < until:
        await core.sessions.append(key, drafts, WHO)
        written += 1
    return written


def rows(plan: Plan) -> list[Row]:
    return [*warm_rows(plan), *core_rows(plan)]
