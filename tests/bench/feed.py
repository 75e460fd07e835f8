"""From an append to all who follow: 2,000 on one session, and one on each of 2,000 sessions.

The load is in this process, on its own processor: each follower is a socket that looks for the number in each entry.
A latency begins before the append is sent, so it holds the commit as well.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Final, cast

import uvloop

from tests.bench.embedded import scratch
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, cpus, service

FOLLOWERS: Final = 2_000
APPENDS: Final = 40
OPEN_AT_ONCE: Final = 50
MARK: Final = b'"content":"mark-'
PATIENCE_SECONDS: Final = 60.0
P99_MS_MAX: Final = 250
"""What a feed promises with the doorbell (reliability notes, promise 11)."""
FOLLOWER_KIB_MAX: Final = 200
"""5,000 followers within a GiB (promise 17)."""


def rows(plan: Plan) -> list[Row]:
    """Latency and memory of both shapes."""
    count, appends = (20, 3) if plan.quick else (FOLLOWERS, APPENDS)
    return [
        *_shape("followers of one session", count, appends, lambda i: "hub"),
        *_shape("sessions with one follower each", count, appends * 5, lambda i: f"own-{i}"),
    ]


def _shape(name: str, count: int, appends: int, session: Callable[[int], str]) -> list[Row]:
    with scratch() as folder, service(folder / "data") as server:
        before = os.sched_getaffinity(0)
        try:
            if cpus()[1] is not None:
                os.sched_setaffinity(0, {cpus()[1] or 0})
            delays, empty, full = uvloop.run(_measure(server, [session(i) for i in range(count)], appends))
        finally:
            os.sched_setaffinity(0, before)
    delays.sort()
    said = f"{len(delays):,} deliveries to {count:,}"
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    return [
        row(f"feed: {name}, p50", p50 * 1000, "ms", beside=said),
        row(f"feed: {name}, p99", p99 * 1000, "ms", beside=said, target=f"<= {P99_MS_MAX}"),
        row(
            f"memory: one of {name}",
            (full - empty) / 1024 / count,
            "KiB",
            beside=f"{full / 2**20:.0f} MiB in all",
            target=f"<= {FOLLOWER_KIB_MAX}",
        ),
    ]


class Follower(asyncio.Protocol):
    """One stream. marks: number in an entry → when it came."""

    def __init__(self, head: bytes, opened: Callable[[], None], came: Callable[[int], None]) -> None:
        self._head = head
        self._opened = opened
        self._came = came
        self._rest = b""
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._head)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._greeted and b"event: hello" in data:
            self._greeted = True
            self._opened()
        *whole, self._rest = data.split(b"\n\n")
        for event in whole:
            place = event.find(MARK)
            if place >= 0:
                self._came(int(event[place + len(MARK) :].partition(b'"')[0]))


async def _measure(server: Server, follows: list[str], appends: int) -> tuple[list[float], int, int]:
    """Every delay in seconds, and the server's memory without and with the followers."""
    loop = asyncio.get_running_loop()
    sessions = list(dict.fromkeys(follows))
    http = Requests(server)
    for session in sessions:
        await http.post("/sessions", b'{"id":"%b"}' % session.encode())
    await http.post(f"/sessions/{sessions[0]}/entries", _entry("warm-up"))
    empty = server.memory_bytes()
    delays: list[float] = []
    sent: list[float] = []
    opened, gate = asyncio.Semaphore(0), asyncio.Semaphore(OPEN_AT_ONCE)
    all_came, expected = asyncio.Event(), 0

    def came(number: int) -> None:
        delays.append(time.perf_counter() - sent[number])
        if len(delays) == expected:
            all_came.set()

    async def follow(session: str) -> asyncio.BaseTransport:
        head = f"GET /sessions/{session}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        async with gate:
            transport, _ = await loop.create_connection(
                lambda: Follower(head.encode(), opened.release, came), "127.0.0.1", server.port
            )
            await asyncio.wait_for(opened.acquire(), PATIENCE_SECONDS)
        return transport

    transports = await asyncio.gather(*(follow(session) for session in follows))
    full = server.memory_bytes()
    rng = random.Random(1)
    for number in range(appends):
        session = rng.choice(sessions)
        all_came.clear()
        expected += follows.count(session)
        sent.append(time.perf_counter())
        await http.post(f"/sessions/{session}/entries", _entry(f"mark-{number}"))
        await asyncio.wait_for(all_came.wait(), PATIENCE_SECONDS)
    for transport in transports:
        transport.close()
    http.close()
    return delays, empty, full


def _entry(text: str) -> bytes:
    return b'{"entries":[{"type":"message","role":"user","content":"%b"}]}' % text.encode()


class Requests:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._server.port)
        reader, writer = self._streams
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._server.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if not answer.startswith(b"http/1.1 201"):
            raise RuntimeError(answer[:100].decode())

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
