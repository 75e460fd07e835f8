"""An outbox and the real service, each killed over and over: in the end every entry is there once and in order."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.client import AsyncClient, Kept, OutboxOptions, message
from tests.client.proxy import Proxy, proxy
from tests.client.spooler import SESSIONS
from tests.conftest import Profile
from tests.support.house import ROOT
from tests.support.process import Process, serving

pytestmark = pytest.mark.fault

KILLS: Final = {"quick": 4, "full": 20}
UP_SECONDS: Final = {"quick": (0.3, 1.0), "full": (0.5, 2.5)}
DOWN_SECONDS: Final = (0.0, 0.5)
CLIENT_KILLS: Final = {"quick": 6, "full": 40}
APPENDS: Final = 100_000
DRAIN_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.004
QUICK: Final = OutboxOptions(pause_seconds_max=0.2, pending_max=1_000_000, close_seconds=DRAIN_SECONDS)


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    return random.Random(seed)


class Service:
    """A service that is killed and started again, behind one address."""

    def __init__(self, folder: Path, front: Proxy) -> None:
        self.token = ""
        self._folder = folder
        self._front = front
        self._stack = ExitStack()

    async def start(self) -> Process:
        process = await asyncio.to_thread(self._stack.enter_context, serving(self._folder))
        self.token, self._front.upstream = process.token, process.address
        return process

    async def close(self) -> None:
        await asyncio.to_thread(self._stack.close)


@asynccontextmanager
async def service(folder: Path, rng: random.Random, *, drops: float) -> AsyncGenerator[tuple[Service, Proxy]]:
    async with proxy(rng, drops=drops) as front:
        one = Service(folder, front)
        try:
            yield one, front
        finally:
            await one.close()


async def said(client: AsyncClient, session: str) -> list[int]:
    return [entry.content async for entry in client.history(session, type="message")]


@pytest.mark.parametrize("place", ["memory", "file"])
async def test_a_service_killed_over_and_over_has_every_entry_once_and_in_order(
    tmp_path: Path, profile: Profile, rng: random.Random, place: str
) -> None:
    path = None if place == "memory" else tmp_path / "box"
    kept: dict[str, list[Kept]] = defaultdict(list)
    async with service(tmp_path / "data", rng, drops=0.02) as (one, front):
        process = await one.start()
        async with AsyncClient(front.address, lambda: one.token) as client:
            for n in range(4):
                await client.create(id=f"s{n}")
            async with client.outbox(path, options=QUICK) as box:
                writers = [asyncio.create_task(_write(f"s{n}", box.append, kept)) for n in range(4)]
                for _ in range(KILLS[profile]):
                    await asyncio.sleep(rng.uniform(*UP_SECONDS[profile]))
                    process.kill()
                    await asyncio.sleep(rng.uniform(*DOWN_SECONDS))
                    process = await one.start()
                for writer in writers:
                    writer.cancel()
                await asyncio.wait(writers)
                assert await box.flush(DRAIN_SECONDS) == 0
                assert box.dead == ()
            front.drops = 0.0
            for session, appends in kept.items():
                assert await said(client, session) == list(range(len(appends))), session
                receipts = [await append.receipt() for append in appends]
                assert [receipt.seqs for receipt in receipts] == sorted(receipt.seqs for receipt in receipts)
    print(f"{sum(map(len, kept.values()))} appends, {KILLS[profile]} kills, {front.dropped} answers dropped")


async def _write(session: str, append: object, kept: dict[str, list[Kept]]) -> None:
    for n in range(APPENDS):
        # Once begun it is kept, also where the writer is cancelled: so it is counted by the task that keeps it.
        task = asyncio.ensure_future(append(session, [message("user", n)]))  # type: ignore[operator]
        task.add_done_callback(lambda done: kept[session].append(done.result()))
        await asyncio.shield(task)
        await asyncio.sleep(PAUSE_SECONDS)


async def test_a_client_killed_at_any_moment_loses_nothing_that_it_was_told_is_kept(
    tmp_path: Path, profile: Profile, rng: random.Random
) -> None:
    file, told, first = tmp_path / "box", list[int](), 0
    async with service(tmp_path / "data", rng, drops=0.1) as (one, front):
        await one.start()
        async with AsyncClient(front.address, lambda: one.token) as client:
            for n in range(SESSIONS):
                await client.create(id=f"spool-{n}")
            for _ in range(CLIENT_KILLS[profile]):
                lines = await _spool(front.address, one.token, file, first, rng.randint(0, 300), kill=True)
                told += lines
                # What was being kept when it died may be there, too: its numbers are never used again.
                first = max([first, *(n + 1 for n in lines)]) + 10
            told += await _spool(front.address, one.token, file, first, 10, kill=False)
            front.drops = 0.0
            for n in range(SESSIONS):
                got = await said(client, f"spool-{n}")
                assert got == sorted(set(got)), f"spool-{n}: once, and in order"
                assert {number for number in told if number % SESSIONS == n} <= set(got)
    print(f"{len(told)} appends told as kept, {CLIENT_KILLS[profile]} kills, {front.dropped} answers dropped")


async def _spool(address: str, token: str, file: Path, first: int, after: int, *, kill: bool) -> list[int]:
    """Run a spooler; with `kill` until it has said that so many are kept, else until all are sent. What it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.client.spooler", address, token, str(file), str(first)),
        str(APPENDS if kill else after),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(DRAIN_SECONDS * 2):
            while not (kill and len(said) >= after) and (line := await process.stdout.readline()):
                said.append(line.decode().strip())
            if kill:
                process.kill()
                said += (await process.stdout.read()).decode().split("\n")[:-1]
    finally:
        if process.returncode is None and kill:
            process.kill()
        await process.wait()
    assert kill or said[-1] == "sent", said[-3:]
    return list(_numbers(said))


def _numbers(said: Iterable[str]) -> Iterable[int]:
    return (int(line) for line in said if line.isdigit())
