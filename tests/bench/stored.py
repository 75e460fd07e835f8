"""Bytes that are kept: of a session that grows line by line in warm, and of one whose history has moved to cold."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import uvloop

from sessionmanager.core.assembly import Core
from sessionmanager.core.history import Range
from sessionmanager.words import Key
from tests.bench.corpus import Dialogue
from tests.bench.embedded import TENANT, WHO, drafts_of, opened, scratch
from tests.bench.rows import Plan, Row, row

LIVE: Final = 900
"""Entries of a live session: just below what makes the worker seal."""
PAGE: Final = 1_000


def rows(plan: Plan) -> list[Row]:
    with scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        return [
            loop.run(_live(folder / "live", plan)),
            loop.run(_sealed(folder / "sealed", plan)),
            loop.run(_moved(folder / "moved", plan)),
        ]


async def _live(data: Path, plan: Plan) -> Row:
    """Sessions that were appended to one line a commit, nothing sealed: heads, audit trail and lists weigh, too."""
    count = 2 if plan.quick else 40
    length = 50 if plan.quick else LIVE
    async with opened(data) as (core, _):
        keys = [await _grown(core, f"live-{i}", length, 1, Dialogue(i)) for i in range(count)]
        said = sum([await _json_bytes(core, key) for key in keys])
    return row(
        f"stored: warm, {length} entries appended one by one", _warm_bytes(data) / said, "× JSON",
        beside=f"{said / 1e6:.2f} MB of JSON", target="<= 1.3",
    )  # fmt: skip


async def _sealed(data: Path, plan: Plan) -> Row:
    """The same when segments stay in warm, as they do while cold is away."""
    length = 3_000 if plan.quick else 100_000
    async with opened(data, warm_segments_max="1024", warm_segments_kept="1023") as (core, _):
        key = await _grown(core, "sealed", length, 16, Dialogue(5))
        said = await _json_bytes(core, key)
    return row(
        "stored: warm, 16 entries a commit, sealed and kept there", _warm_bytes(data) / said, "× JSON",
        beside=f"{said / 1e6:.2f} MB of JSON", target="<= 1.3",
    )  # fmt: skip


async def _moved(data: Path, plan: Plan) -> Row:
    length = 3_000 if plan.quick else 100_000
    async with opened(data) as (core, _):
        key = await _grown(core, "moved", length, 16, Dialogue(6))
        said = await _json_bytes(core, key)
        await core.sessions.transition(key, "suspend", WHO)
        await core.sessions.archive(key, WHO)
        while (await core.ledger.warm.load(key)).stored.placement != "cold":
            await core.worker.attend(key)
    kept = sum(path.stat().st_size for path in (data / "cold").rglob("*") if path.is_file())
    return row(
        "stored: cold, of an archived session", kept / said, "× JSON",
        beside=f"{said / 1e6:.2f} MB of JSON", target="<= 0.5",
    )  # fmt: skip


async def _grown(core: Core, name: str, length: int, batch: int, dialogue: Dialogue) -> Key:
    key, _ = await core.sessions.create(TENANT, name, {}, [], WHO)
    for _ in range(0, length, batch):
        await core.sessions.append(key, drafts_of(dialogue.drafts(batch)), WHO)
        await asyncio.sleep(0)
    return key


async def _json_bytes(core: Core, key: Key) -> int:
    """Bytes of the entries as readers get them."""
    size, after = 0, 0
    while True:
        _, found = await core.sessions.entries(key, Range(after, 2**53, PAGE))
        size += sum(len(line.data) for line in found.lines)
        after = found.reached
        if found.done:
            return size


def _warm_bytes(data: Path) -> int:
    """The database after a clean end, which leaves no log."""
    return sum(path.stat().st_size for path in data.glob("warm.db*") if path.suffix != ".lock")
