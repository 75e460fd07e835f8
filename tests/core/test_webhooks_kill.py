"""`kill -9` of the process that delivers, again and again: each line arrives, those of a session in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx2
import pytest

from tests.support.process import Process, serving
from tests.support.receiver import receiver

pytestmark = pytest.mark.fault

LIVES: Final = 4
SESSIONS: Final = 4
SEED: Final = 12


@asynccontextmanager
async def life(folder: Path) -> AsyncGenerator[tuple[Process, httpx2.AsyncClient]]:
    """A process that serves and delivers, and a client of it; killed at the end."""
    running = serving(folder, webhook_networks="127.0.0.0/8")
    process = await asyncio.to_thread(running.__enter__)
    try:
        headers = {"Authorization": f"Bearer {process.token}"}
        async with httpx2.AsyncClient(base_url=process.address, headers=headers, timeout=20.0) as http:
            yield process, http
    finally:
        process.kill()
        await asyncio.to_thread(running.__exit__, None, None, None)


async def talk(http: httpx2.AsyncClient, life_number: int) -> None:
    """Say something in all sessions, until the process is killed."""
    for n in range(1_000):
        entry = {"type": "message", "role": "user", "content": f"{life_number}.{n}"}
        for session in range(SESSIONS):
            await http.post(f"/sessions/s{session}/entries", json={"entries": [entry]})


async def test_each_line_arrives_and_in_order_though_the_process_is_killed_again_and_again(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    async with receiver() as there:
        there.delay_seconds = 0.002
        for number in range(LIVES):
            async with life(tmp_path / "data") as (_, http):
                if number == 0:
                    (await http.post("/webhooks", json={"url": there.url})).raise_for_status()
                    for session in range(SESSIONS):
                        (await http.post("/sessions", json={"id": f"s{session}"})).raise_for_status()
                talking = asyncio.create_task(talk(http, number))
                count = len(there.got) + draw.randrange(5, 60)
                await there.until(lambda count=count: len(there.got) >= count)
                # Killed in the middle of whatever it does; what it had not acknowledged may stand or not.
                talking.cancel()
                with suppress(asyncio.CancelledError, httpx2.HTTPError):
                    await talking
        async with life(tmp_path / "data") as (_, http):
            newest = {f"s{n}": (await http.get(f"/sessions/s{n}")).json()["entry_count"] for n in range(SESSIONS)}
            await there.until(
                lambda: all(set(there.seqs(name)) == set(range(1, last + 1)) for name, last in newest.items())
            )
        assert sum(newest.values()) > LIVES * 10
        for name, last in newest.items():
            assert list(dict.fromkeys(there.seqs(name))) == list(range(1, last + 1))
        ids = {(got.place, got.headers["webhook-id"]) for got in there.got}
        assert len(ids) == sum(newest.values()), "a line has one id, whoever sends it"
