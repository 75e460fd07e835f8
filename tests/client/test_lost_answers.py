"""Answers are lost on the way: each keyed append happens once, and a repeat gets the very bytes of the first answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.client import AsyncClient, Retry, message
from tests.client.proxy import proxy
from tests.conftest import Profile
from tests.support.process import serving

pytestmark = pytest.mark.fault

CLIENTS: Final = 16
SESSIONS: Final = 4
APPENDS: Final = {"quick": 480, "full": 10_000}
DROPS: Final = 0.2
# So many answers are lost that a budget for healthy times would be used up.
STUBBORN: Final = Retry(tries_max=60, deadline_seconds=120, pause_seconds=0.01, pause_seconds_max=0.1, burst=1_000_000)


async def test_sixteen_clients_through_a_proxy_that_drops_answers_append_each_line_once(
    tmp_path: Path, profile: Profile
) -> None:
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    each = APPENDS[profile] // CLIENTS
    with serving(tmp_path / "data") as process:
        async with (
            proxy(random.Random(seed), drops=DROPS) as front,
            AsyncClient(process.address, process.token) as plain,
        ):
            front.upstream = process.address
            for n in range(SESSIONS):
                await plain.create(id=f"s{n}")
            began = time.perf_counter()
            first = dict(
                pair
                for pairs in await asyncio.gather(
                    *(_append(front.address, process.token, number, each) for number in range(CLIENTS))
                )
                for pair in pairs
            )
            seconds = time.perf_counter() - began
            for n in range(SESSIONS):
                said = Counter([entry.content async for entry in plain.history(f"s{n}", type="message")])
                wanted = {f"{c}-{i}" for c in range(CLIENTS) for i in range(each) if (c + i) % SESSIONS == n}
                assert said == dict.fromkeys(wanted, 1)
            await _repeat(plain, first)
    assert front.dropped > APPENDS[profile] * DROPS / 2
    print(f"{len(first)} appends in {seconds:.1f} s, {front.dropped} answers dropped")


def _body(text: str) -> bytes:
    return json.dumps({"entries": [message("user", text)]}).encode()


async def _append(address: str, token: str, number: int, count: int) -> list[tuple[str, bytes]]:
    """The texts of one client, each with the answer that it got in the end. No ids: the key alone has to do."""
    got: list[tuple[str, bytes]] = []
    async with AsyncClient(address, token, retry=STUBBORN) as client:
        for i in range(count):
            text, session = f"{number}-{i}", f"s{(number + i) % SESSIONS}"
            answer = await client.call("POST", f"/sessions/{session}/entries", body=_body(text), key=f"k-{text}")
            got.append((text, answer.body))
    return got


async def _repeat(client: AsyncClient, first: dict[str, bytes]) -> None:
    for text, body in first.items():
        number, i = map(int, text.split("-"))
        path = f"/sessions/s{(number + i) % SESSIONS}/entries"
        again = await client.call("POST", path, body=_body(text), key=f"k-{text}")
        assert again.body == body
        assert again.headers["idempotency-replayed"] == "true"
