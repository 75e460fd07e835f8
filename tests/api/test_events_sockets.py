"""Feeds of a real process, over connections that are cut, stuck or told to go."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessionmanager.api.serving.protocol import ServerBounds
from tests.conftest import Profile
from tests.support.feeds import until
from tests.support.live import live
from tests.support.process import Process, serving
from tests.support.streams import socket_stream

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("events") / "data") as running:
        yield running


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@asynccontextmanager
async def client(process: Process) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {process.token}"}
    async with httpx2.AsyncClient(base_url=process.address, headers=headers, timeout=20) as opened:
        yield opened


async def append(http: httpx2.AsyncClient, session: str, text: str) -> None:
    entry = {"type": "message", "role": "user", "content": text}
    done = await http.post(f"/sessions/{session}/entries", json={"entries": [entry]})
    assert done.status_code == 201, done.text


def test_readers_whose_connections_are_cut_miss_and_repeat_nothing_while_others_write(
    process: Process, profile: Profile
) -> None:
    cuts, rng = {"quick": 25, "full": 1_000}[profile], random.Random(11)

    async def read(http: httpx2.AsyncClient, session: str, stop: asyncio.Event) -> None:
        got: list[int] = []
        for i in range(cuts // 4):
            headers = [("Last-Event-ID", str(got[-1]))] if got and i % 2 else []
            path = f"/sessions/{session}/events" + ("" if headers else f"?after={got[-1] if got else 0}")
            async with socket_stream(process.address, path, process.token, headers) as stream:
                await stream.until(1 + rng.randrange(4))
                got += stream.stored()
        stop.set()
        async with socket_stream(process.address, f"/sessions/{session}/events?after={got[-1]}", process.token) as last:
            newest = (await http.get(f"/sessions/{session}")).json()["entry_count"]
            if newest > got[-1]:
                await last.until(1 + newest - got[-1])
            got += last.stored()
        assert got[:newest] == list(range(1, newest + 1))

    async def write(http: httpx2.AsyncClient, session: str, stop: asyncio.Event) -> None:
        i = 0
        while not stop.is_set():
            await append(http, session, f"{i}")
            i += 1
            await asyncio.sleep(rng.random() * 0.01)

    async def all_of_it() -> None:
        async with client(process) as http:
            both = []
            for session in ("cut-1", "cut-2", "cut-3", "cut-4"):
                assert (await http.post("/sessions", json={"id": session})).status_code == 201
                stop = asyncio.Event()
                both += [read(http, session, stop), write(http, session, stop)]
            await asyncio.gather(*both)

    run(all_of_it())


async def test_a_reader_that_takes_nothing_is_cut_and_comes_back_without_a_gap() -> None:
    async with live(ServerBounds(write_stall_seconds=0.3)) as service:
        await service.create("stuck")
        stuck = socket.create_connection(("127.0.0.1", int(service.address.rpartition(":")[2])))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = ("GET /sessions/stuck/events HTTP/1.1", "Host: x", f"Authorization: Bearer {service.token()}")
        stuck.sendall("\r\n".join((*lines, "", "")).encode())
        feeds = service.service.api.feeds
        await until(lambda: len(feeds) == 1)
        for i in range(200):
            if not feeds:
                break
            await service.say("stuck", f"{i}" + "x" * 60_000)
        await until(lambda: len(feeds) == 0, "its place is free again")
        stuck.close()
        newest = await service.newest("stuck")
        async with socket_stream(service.address, "/sessions/stuck/events?after=0", service.token()) as stream:
            await stream.until(1 + newest)
            assert stream.stored() == list(range(1, newest + 1))


def test_a_replica_that_stops_says_goaway_and_ends_soon(tmp_path: Path) -> None:
    async def stop(process: Process) -> None:
        async with client(process) as http:
            await http.post("/sessions", json={"id": "stops"})
            paths = ["/sessions/stops/events?after=0", "/events"]
            async with (
                socket_stream(process.address, paths[0], process.token) as one,
                socket_stream(process.address, paths[1], process.token) as all_of_them,
            ):
                await one.until(2)
                await all_of_them.until(1)
                began = time.monotonic()
                process.process.terminate()
                for stream in (one, all_of_them):
                    end = (await stream.over())[-1]
                    assert (end.name, end.id, end.json()["reason"]) == ("goaway", None, "draining")
                    assert end.retry is not None
                assert await asyncio.to_thread(process.process.wait, 10) == 0
                assert time.monotonic() - began < 5

    folder = tmp_path / "data"
    with serving(folder) as process:
        run(stop(process))
    log = (tmp_path / "data.log").read_text()
    assert not [line for line in log.splitlines() if json.loads(line)["level"] in ("error", "critical")]
