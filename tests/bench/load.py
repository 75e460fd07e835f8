"""A load generator that costs less than what it measures: keep-alive connections on raw sockets, in its own process.

It reads one `Spec` as JSON on stdin and writes one `Result` on stdout. Closed loop: each connection sends its next
request when the answer to the last is there. Open loop: requests start at fixed times whatever the answers do, and are
timed from the instant when they should have started, so that a stall counts for all it delays.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final, cast

import msgspec
import uvloop
from msgspec import Struct

CONNECTIONS_MAX: Final = 1_024
WAITING_MAX: Final = 100_000
"""Requests of an open loop that may wait for a connection; more would mean that the measurement is over anyway."""
ANSWER_SECONDS_MAX: Final = 60.0
RETRY_SECONDS: Final = 1.0
"""What `Retry-After` says; callers come back within once or twice as long."""
REPOSITORY: Final = Path(__file__).parents[2]


class Shot(Struct, frozen=True):
    """Something to ask for, again and again. kind: under which name it is counted. request: the whole of it."""

    kind: str
    request: bytes


class Spec(Struct, frozen=True, kw_only=True):
    """What to do. shots: of a closed loop dealt out to the connections in turn, each repeating its share; of an open
    loop sent in this order, `rate` a second. cpu: where to run, None = anywhere. refused_apart: what was answered with
    a 503 counts as a kind of its own, `refused`, and a closed loop comes back after `RETRY_SECONDS`, as callers do."""

    host: str
    port: int
    connections: int
    seconds: float
    shots: list[Shot]
    rate: float | None = None
    cpu: int | None = None
    warm_up_seconds: float = 0.2
    once: bool = False
    nice: int = 0
    refused_apart: bool = False


class Times(Struct, frozen=True, kw_only=True):
    """What became of the requests of one kind, in milliseconds."""

    answered: int
    failed: int
    p50: float
    p90: float
    p99: float
    worst: float


class Result(Struct, frozen=True, kw_only=True):
    """per_second: answers a second, all kinds together. statuses: how often each came."""

    per_second: float
    seconds: float
    kinds: dict[str, Times]
    statuses: dict[str, int]


def head(method: str, path: str, token: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole request."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", f"authorization: Bearer {token}", *headers]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way. `free` is called with it whenever it can take the next."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._waited: bytes = b""
        self._left: int = 0
        self._status: bytes = b""
        self._kind = ""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is of no class of asyncio

    def send(self, shot: Shot, began: float) -> None:
        assert self._transport is not None
        self._kind, self._began = shot.kind, began
        self._transport.write(shot.request)

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            if self._waited:
                data = self._waited + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._waited = data
                return
            self._waited = b""
            self._status = data[9:12]
            at = data.find(b"content-length: ", 0, end)
            length = int(data[at + 16 : data.find(b"\r", at + 16)]) if at > 0 else 0
            self._left = end + 4 + length
        self._left -= len(data)
        if self._left == 0:
            self._run.answered(self, self._kind, self._status, self._began)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Run:
    """One measurement."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._taken: dict[str, list[float]] = {}
        self._failed: dict[str, int] = {}
        self._statuses: dict[bytes, int] = {}
        self._counts_from = 0.0
        self._ends_at = 0.0
        self._stopped = False
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._connections: list[_Connection] = []
        self._shares: dict[_Connection, Iterator[Shot]] = {}
        self._free: deque[_Connection] = deque()
        self._waiting: deque[tuple[Shot, float]] = deque()
        self._under_way = 0
        self._all_sent = False

    async def run(self) -> Result:
        spec = self._spec
        for _ in range(spec.connections):
            _, made = await self._loop.create_connection(lambda: _Connection(self), spec.host, spec.port)
            self._connections.append(made)
        now = perf_counter()
        self._counts_from = now + spec.warm_up_seconds
        self._ends_at = self._counts_from + spec.seconds
        if spec.rate is None:
            self._closed_loop()
        else:
            self._free.extend(self._connections)
            self._open_loop(now, itertools.cycle(spec.shots), 0)
        await asyncio.wait_for(self._done, spec.warm_up_seconds + spec.seconds + ANSWER_SECONDS_MAX)
        self._stopped = True
        for connection in self._connections:
            connection.close()
        return self._result()

    def _closed_loop(self) -> None:
        spec = self._spec
        count = len(self._connections)
        for i, connection in enumerate(self._connections):
            share = spec.shots[i::count] or [spec.shots[i % len(spec.shots)]]
            self._shares[connection] = iter(share) if spec.once else itertools.cycle(share)
            self._under_way += 1
            connection.send(next(self._shares[connection]), perf_counter())

    def _open_loop(self, began: float, shots: Iterator[Shot], sent: int) -> None:
        """Send all that should have started by now; come again when the next should."""
        rate, now = self._spec.rate, perf_counter()
        assert rate is not None
        while (at := began + sent / rate) <= now and at < self._ends_at:
            sent += 1
            self._under_way += 1
            if self._free:
                self._free.popleft().send(next(shots), at)
            elif len(self._waiting) < WAITING_MAX:
                self._waiting.append((next(shots), at))
            elif not self._done.done():
                self._done.set_exception(RuntimeError("the service is far behind"))
                return
        if at < self._ends_at:
            self._loop.call_later(at - now, self._open_loop, began, shots, sent)
        else:
            self._all_sent = True
            self._end_if_done()

    def answered(self, connection: _Connection, kind: str, status: bytes, began: float) -> None:
        now = perf_counter()
        closed = self._spec.rate is None
        if self._spec.refused_apart and status == b"503":
            kind = "refused"
        # A closed loop counts answers within the time, an open one every request that should have started within it.
        if self._counts_from <= (now if closed else began) and (now < self._ends_at or not closed):
            self._taken.setdefault(kind, []).append(now - began)
            self._statuses[status] = self._statuses.get(status, 0) + 1
            if status[:1] != b"2":
                self._failed[kind] = self._failed.get(kind, 0) + 1
        if closed and now < self._ends_at and (shot := next(self._shares[connection], None)) is not None:
            if kind == "refused":
                self._loop.call_later(RETRY_SECONDS * random.uniform(1, 2), self._come_back, connection, shot)
            else:
                connection.send(shot, now)
            return
        if self._waiting:
            self._under_way -= 1
            connection.send(*self._waiting.popleft())
            return
        self._free.append(connection)
        self._under_way -= 1
        self._all_sent = self._all_sent or closed
        self._end_if_done()

    def _come_back(self, connection: _Connection, shot: Shot) -> None:
        now = perf_counter()
        if now < self._ends_at:
            connection.send(shot, now)
            return
        self._under_way -= 1
        self._all_sent = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._all_sent and self._under_way == 0 and not self._done.done():
            self._done.set_result(None)

    def lost(self) -> None:
        if not self._stopped and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed a connection"))

    def _result(self) -> Result:
        kinds = {kind: _times(taken, self._failed.get(kind, 0)) for kind, taken in self._taken.items()}
        answered = sum(len(taken) for taken in self._taken.values())
        statuses = {status.decode(): count for status, count in sorted(self._statuses.items())}
        return Result(
            per_second=answered / self._spec.seconds, seconds=self._spec.seconds, kinds=kinds, statuses=statuses
        )


def _times(taken: Sequence[float], failed: int) -> Times:
    ms = sorted(second * 1000 for second in taken)
    return Times(
        answered=len(ms),
        failed=failed,
        p50=statistics.median(ms),
        p90=ms[int(len(ms) * 0.9)],
        p99=ms[int(len(ms) * 0.99)],
        worst=ms[-1],
    )


def run(spec: Spec) -> Result:
    """Run one measurement in a process of its own. Raises RuntimeError with what it said if it failed."""
    assert spec.connections <= CONNECTIONS_MAX, "more connections than the bound"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=msgspec.json.encode(spec),
        capture_output=True,
        cwd=REPOSITORY,
        timeout=spec.warm_up_seconds + spec.seconds + 2 * ANSWER_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return msgspec.json.decode(done.stdout, type=Result)


def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=Spec)
    if spec.cpu is not None:
        os.sched_setaffinity(0, {spec.cpu})
    os.nice(spec.nice)

    async def measured() -> Result:
        return await _Run(spec).run()

    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measured())))


if __name__ == "__main__":
    main()
