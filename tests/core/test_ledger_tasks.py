"""A commit and whoever asked for it: once sent, the one goes on without the other, and nobody is told what nobody waits
for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.core.assembly import Core, build_core
from sessionmanager.core.command import Who
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.errors import Draining, NotFound, OutcomeUnknown
from sessionmanager.model.entry import Draft
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.faulty import Faulty

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
ALICE = Who("alice")
SAID = (Draft(type="message", role="user", content=Raw(b'"hello"')),)


class Bench:
    """A core over embedded tiers, hot and warm as faulty as they are told to be; what the loop complains of is kept."""

    def __init__(self, core: Core, hot: Any, warm: Any) -> None:
        self.core = core
        self.hot = hot
        self.warm = warm
        self.complaints: list[dict[str, Any]] = []

    async def entries(self) -> int:
        return (await self.core.sessions.view(KEY, latest=True)).stored.head.pulse.entry_count


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        cold = await stack.enter_async_context(open_directory((tmp_path / "cold").as_uri()))
        warm: Any = Faulty(await stack.enter_async_context(open_sqlite(f"sqlite:///{tmp_path}/warm.db")))
        hot: Any = Faulty(await stack.enter_async_context(open_memory("memory://")))
        core = build_core(hot, warm, cold, MasterKeys(bytes(32)))
        await core.sessions.create(KEY.tenant, KEY.id, {}, SAID, ALICE)
        bench = Bench(core, hot, warm)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bench.complaints.append(context))
        yield bench
        gc.collect()
        assert bench.complaints == []
        await core.ledger.drain()


async def append(bench: Bench, entry_id: str | None = None) -> None:
    said = SAID if entry_id is None else (replace(SAID[0], id=entry_id),)
    await bench.core.sessions.append(KEY, said, ALICE)


async def hang_up(bench: Bench, held: Any) -> None:
    """Ask for a commit, and leave once it has been sent."""
    caller = asyncio.create_task(append(bench))
    await held.reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.parametrize("hold", ["hold_before", "hold_after"])
async def test_a_commit_that_was_sent_stands_once_when_its_caller_has_hung_up(bench: Bench, hold: str) -> None:
    before = await bench.entries()
    await hang_up(bench, getattr(bench.warm, hold)("commit"))
    await append(bench)  # in turn, so the other has ended
    assert await bench.entries() == before + 2


async def test_hot_hears_of_a_commit_whose_caller_has_hung_up(bench: Bench) -> None:
    for tier, operation in ((bench.warm, "commit"), (bench.hot, "after_commit")):
        before = await bench.core.sessions.view(KEY)
        await hang_up(bench, tier.hold_after(operation))
        await append(bench)  # in turn, so the other has ended
        after = await bench.core.sessions.view(KEY)
        assert (after.tier, after.stored.version) == ("hot", before.stored.version + 2)


async def test_an_error_that_nobody_waits_for_is_no_news(bench: Bench) -> None:
    """The loop would log "exception was never retrieved" where a task holds one that nobody looks at."""
    for error in (OutcomeUnknown(), KeyError("a fault of ours")):
        held = bench.warm.hold_before("commit")
        bench.warm.fail_before("commit", error)
        if isinstance(error, OutcomeUnknown):
            bench.warm.fail_before("load", error)  # nor can it be found out
        await hang_up(bench, held)
        await append(bench)  # in turn, so the other has ended
    await bench.core.ledger.drain()
    assert bench.core.ledger.in_flight == 0


async def test_draining_waits_for_a_commit_whose_caller_has_hung_up(bench: Bench) -> None:
    before = await bench.entries()
    held = bench.warm.hold_before("commit")
    again = bench.warm.hold_before("commit")
    await hang_up(bench, held)
    draining = asyncio.create_task(bench.core.ledger.drain())
    await again.reached.wait()
    assert bench.core.ledger.in_flight == 1
    assert not draining.done()
    again.release()
    await draining
    assert await bench.entries() == before + 1


async def test_whoever_leaves_before_anything_was_sent_commits_nothing(bench: Bench) -> None:
    before = await bench.entries()
    held, looked = bench.warm.hold_before("commit"), bench.warm.hold_before("find_entry_ids")
    first, second = asyncio.create_task(append(bench)), asyncio.create_task(append(bench))
    await held.reached.wait()
    assert bench.core.ledger.waiting == 1
    third = asyncio.create_task(append(bench, "named"))
    second.cancel()
    held.release()
    await first
    await looked.reached.wait()
    third.cancel()
    await asyncio.wait((second, third))
    assert bench.core.ledger.in_flight == 0
    assert await bench.entries() == before + 1


async def test_errors_come_to_whoever_waits_and_draining_refuses(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.core.sessions.append(Key("acme", "nobody"), SAID, ALICE)
    await bench.core.ledger.drain()
    with pytest.raises(Draining):
        await append(bench)
