"""The service on Redis, MongoDB and S3, beside the calls of bare drivers that it cannot avoid.

Everything is in one run on servers of its own: whole requests by a `serve` process, the core by this one. The servers
are the bound (MongoDB's stand-in above all), so that ratios and our own processor time count, not times.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aioboto3
import uvloop
from aiobotocore.config import AioConfig

from sessionmanager.core.assembly import Core
from sessionmanager.core.keys.files import make_key_file
from sessionmanager.tiers.warm.mongo.layout import RING_HALF
from sessionmanager.wiring import open_service
from sessionmanager.words import Key
from tests.bench.corpus import Dialogue
from tests.bench.drivers import Bare, bare_commit, bare_read, clients
from tests.bench.embedded import TENANT, WHO, drafts_of, scratch, settings_of
from tests.bench.load import Shot, Spec, head, run
from tests.bench.rows import Plan, Row, paired, row
from tests.bench.servers import Server, cpus, service
from tests.bench.throughput import make_sessions
from tests.services.own import own_server
from tests.support.redis_servers import Wire
from tests.support.s3_line import Line, Message, Pass, a_line
from tests.support.services import REGION, parse_s3

CONNECTIONS: Final = 64
RATE: Final = 200.0
SESSIONS: Final = 64
LINES: Final = 60
CPU_MS_MAX: Final = 0.3
P50_MS: Final = {"create": 50.0, "get": 20.0, "resume": 60.0, "update": 40.0}
"""What half of the requests of each kind must stay under."""
BUCKET: Final = "bench"
SAID: Final = b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice."}]}'


class Places(NamedTuple):
    """Addresses of the servers, and what the service is told of them. line: a way to S3 that sees each request."""

    redis: str
    mongo: str
    line: Line
    environ: Mapping[str, str]


class Spent(NamedTuple):
    """Of one call: calls a second, and milliseconds of the caller's processor."""

    rate: float
    cpu_ms: float


@asynccontextmanager
async def places(folder: Path) -> AsyncGenerator[Places]:
    """Servers of our own, an empty bucket, a master key."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(own_server("redis", folder / "redis"))
        mongo = await stack.enter_async_context(own_server("mongo-memory", folder / "mongo"))
        s3 = await stack.enter_async_context(own_server("s3", folder / "s3"))
        address = parse_s3(s3.url)
        line = await stack.enter_async_context(a_line(address.endpoint_url))
        session: Any = aioboto3.Session(address.key_id, address.secret)
        config = AioConfig(s3={"addressing_style": "path"})
        made = session.client("s3", endpoint_url=address.endpoint_url, region_name=REGION, config=config)
        client = await stack.enter_async_context(made)
        await client.create_bucket(Bucket=BUCKET)
        make_key_file(folder / "master")
        yield Places(
            redis.url,
            f"{mongo.url}/bench",
            line,
            {
                "REDIS_URL": redis.url,
                "MONGO_URI": f"{mongo.url}/bench",
                "MONGO_STANDALONE": "allowed",
                "S3_BUCKET": BUCKET,
                "S3_ENDPOINT_URL": address.endpoint_url,
                "S3_REGION": REGION,
                "MASTER_KEY_FILE": str(folder / "master"),
                "AWS_ACCESS_KEY_ID": address.key_id,
                "AWS_SECRET_ACCESS_KEY": address.secret,
                "WARM_TIMEOUT_SECONDS": "5",
                "HOT_TIMEOUT_SECONDS": "1",
            },
        )


@contextmanager
def environment(added: Mapping[str, str]) -> Generator[None]:
    """What the settings and the AWS chain of this process read, for a while."""
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@asynccontextmanager
async def core_over(folder: Path, environ: Mapping[str, str]) -> AsyncGenerator[Core]:
    with environment(environ):
        async with open_service(settings_of(folder)) as running:
            yield running.core


async def spent(call: Callable[[int], Awaitable[object]], count: int, callers: int = 1) -> Spent:
    """So many callers at once, each of them `count` calls one after the other. call: told the caller's number."""

    async def go_on(caller: int) -> None:
        for _ in range(count):
            await call(caller)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(go_on(caller) for caller in range(callers)))
    taken, used = time.perf_counter() - began, time.process_time() - used
    return Spent(count * callers / taken, used / count / callers * 1000)


# -- whole requests


def _over_http(plan: Plan, place: Places, folder: Path) -> list[Row]:
    """Requests a second beside bare driver calls in a loop, and an open loop as a voice platform has it."""
    found: list[Row] = []
    with service(folder / "served", dict(place.environ)) as server:
        paths = make_sessions(server, 8 if plan.quick else SESSIONS, LINES)
        found += _open_loop(plan, server, paths)  # first: the other loads leave sessions that are larger than any
        for name, method, path, body, bare in (
            ("append", "POST", "/entries", SAID, bare_commit),
            ("update", "PATCH", "", b'{"metadata":{"queue":"billing"}}', bare_commit),
            ("resume", "POST", "/resume", b"{}", bare_commit),
            ("get", "GET", "", b"", bare_read),
        ):
            extra = ("if-match: *",) if method == "PATCH" else ()
            shots = [Shot(name, head(method, each + path, server.token, body, *extra)) for each in paths]
            pairs = [
                (_closed(server, shots, plan.seconds), uvloop.run(_bare(place, bare, plan.seconds)))
                for _ in range(plan.pairs)
            ]
            ours, theirs, ratio = paired([(a.rate, b.rate) for a, b in pairs])
            beside = "one Redis read" if bare is bare_read else "one compare-and-set, one script"
            told = f"production: {name}, {CONNECTIONS} connections"
            found.append(row(told, ours, "requests/s", beside=f"{beside}: {theirs:,.0f}/s", ratio=ratio))
            cpu, bare_cpu, _ = paired([(a.cpu_ms, b.cpu_ms) for a, b in pairs])
            found.append(row(f"{told}: processor of the server", cpu, "ms", beside=f"{beside}: {bare_cpu:.3f} ms"))
    return found


def _closed(server: Server, shots: list[Shot], seconds: float) -> Spent:
    before = server.cpu_seconds()
    found = run(
        Spec(
            host="127.0.0.1", port=server.port, connections=CONNECTIONS, seconds=seconds, shots=shots, cpu=cpus()[1]
        )
    )  # fmt: skip
    answered = sum(times.answered for times in found.kinds.values())
    if not answered or any(times.failed for times in found.kinds.values()):
        raise RuntimeError(f"{shots[0].kind}: {found.statuses}")
    whole = found.per_second * (seconds + 0.2)
    return Spent(found.per_second, (server.cpu_seconds() - before) * 1000 / whole)


def _open_loop(plan: Plan, server: Server, paths: list[str]) -> list[Row]:
    shots: list[Shot] = []
    for queue in (b"billing", b"support"):  # in turn, so that each update changes something
        patch = b'{"metadata":{"queue":"%b"}}' % queue
        for path in paths:
            shots += [
                Shot("create", head("POST", "/sessions", server.token, b'{"caller":"+12025550123"}')),
                Shot("get", head("GET", path, server.token)),
                Shot("resume", head("POST", f"{path}/resume", server.token, b"{}")),
                Shot("update", head("PATCH", path, server.token, patch, "if-match: *")),
            ]
    seconds = 0.5 if plan.quick else 15.0
    found = run(
        Spec(
            host="127.0.0.1", port=server.port, connections=CONNECTIONS, seconds=seconds, shots=shots, cpu=cpus()[1],
            rate=RATE,
        )
    )  # fmt: skip
    load = f"{RATE:.0f} requests/s on {CONNECTIONS} connections"
    told: list[Row] = []
    for kind, bound in P50_MS.items():
        times = found.kinds[kind]
        if times.failed:
            raise RuntimeError(f"{kind}: {found.statuses}")
        told.append(row(f"production: {kind}, p50", times.p50, "ms", beside=load, target=f"< {bound:g}"))
        told.append(row(f"production: {kind}, p99", times.p99, "ms", beside=load))
    return told


# -- what cannot be avoided


async def _bare(place: Places, bare: Bare, seconds: float) -> Spent:
    """As many callers at once as the load has connections."""
    async with clients(place.redis, place.mongo, CONNECTIONS) as drivers:
        until = time.perf_counter() + seconds

        async def go_on(caller: int) -> int:
            calls = 0
            while time.perf_counter() < until:
                await bare(drivers, caller, calls)
                calls += 1
            return calls

        began, used = time.perf_counter(), time.process_time()
        calls = sum(await asyncio.gather(*(go_on(caller) for caller in range(CONNECTIONS))))
        taken, used = time.perf_counter() - began, time.process_time() - used
    return Spent(calls / taken, used / calls * 1000)


# -- the core


async def _commits(plan: Plan, place: Places, folder: Path) -> list[Row]:
    """Processor time of an append through the whole core, beyond that of the two driver calls in it.

    One after the other and many at once: a process that rests while its servers work finds its caches cold, and the
    very same bare calls cost it twice as much with 3 ms between two of them (decision 0051). So the bare ones are to
    documents of the same kind, which take the server as long.
    """
    said = drafts_of([{"type": "message", "role": "user", "content": "a sentence of some length " * 3}])
    found: list[Row] = []
    async with (
        core_over(folder / "core", place.environ) as core,
        clients(place.redis, place.mongo, CONNECTIONS, ring=3 * RING_HALF // 2) as drivers,
    ):
        keys: list[Key] = []
        for caller in range(CONNECTIONS):
            key, _ = await core.sessions.create(TENANT, f"cpu-{caller}", {}, drafts_of(Dialogue(1).drafts(10)), WHO)
            keys.append(key)
        revs = [0] * CONNECTIONS

        async def ours(caller: int) -> None:
            await core.sessions.append(keys[caller], said, WHO)

        async def theirs(caller: int) -> None:
            await bare_commit(drivers, caller, revs[caller])
            revs[caller] += 1

        for callers, count in ((1, 300), (CONNECTIONS, 20)):
            turn = min(count, 10) if plan.quick else count
            pairs: list[tuple[float, float]] = []
            for _ in range(plan.pairs):
                mine, bare = await spent(ours, turn, callers), await spent(theirs, turn, callers)
                pairs.append((mine.cpu_ms, bare.cpu_ms))
            cpu, bare_cpu, _ = paired(pairs)
            found.append(
                row(
                    f"production: an append through the core, {callers} at once, processor beyond its two driver calls",
                    cpu - bare_cpu, "ms", beside=f"{cpu:.3f} - {bare_cpu:.3f}", target=f"<= {CPU_MS_MAX}",
                )
            )  # fmt: skip
    return found


async def _wires(plan: Plan, place: Places, folder: Path) -> list[Row]:
    """Bytes to and from MongoDB and Redis of one append through the core, early in a conversation and late."""
    # A whole turn of the ring of a session's last commits: one commit of each spills those of the turn before the last.
    count, first, last = (10, 10, 40) if plan.quick else (RING_HALF, 2 * RING_HALF, 900)
    said = drafts_of([{"type": "message", "role": "user", "content": "a sentence of some length " * 3}])
    found: list[Row] = []
    async with Wire.to(place.mongo) as mongo, Wire.to(place.redis) as redis:
        environ = {**place.environ, "MONGO_URI": f"mongodb://127.0.0.1:{mongo.port}/wires", "REDIS_URL": redis.url}
        async with core_over(folder / "wires", environ) as core:
            key, _ = await core.sessions.create(TENANT, "wires", {}, (), WHO)
            await spent(lambda _: core.sessions.append(key, said, WHO), first)
            early = await _bytes(core, key, said, count, (mongo, redis))
            await spent(lambda _: core.sessions.append(key, said, WHO), last - first - 2 * count)
            late = await _bytes(core, key, said, count, (mongo, redis))
    for name, before, after in zip(("MongoDB", "Redis"), early, late, strict=True):
        told = f"production: bytes to and from {name} an append, line {last} beside line {first}"
        found.append(row(told, after, "B", beside=f"{before:.0f} B", ratio=after / before, target="<= 1.1"))
    return found


async def _bytes(core: Core, key: Key, said: Any, count: int, wires: tuple[Wire, ...]) -> list[float]:
    for wire in wires:
        wire.taken()
    await spent(lambda _: core.sessions.append(key, said, WHO), count)
    return [sum(wire.taken()[:2]) / count for wire in wires]


# -- cold


class _Count:
    """What passes over the line to S3, both ways."""

    def __init__(self, line: Line) -> None:
        self.requests = self.bytes = 0
        line.rule = self._pass

    async def _pass(self, message: Message, on: Pass) -> Message:
        answer = await on(message)
        self.requests += 1
        self.bytes += len(message.raw()) + len(answer.raw())
        return answer

    def taken(self) -> tuple[int, int]:
        counts = self.requests, self.bytes
        self.requests = self.bytes = 0
        return counts


async def _cold(plan: Plan, place: Places, folder: Path) -> list[Row]:
    """Requests and bytes to S3 of an archive, and of a resume from it."""
    found: list[Row] = []
    async with core_over(folder / "cold", {**place.environ, "S3_ENDPOINT_URL": place.line.url}) as core:
        count = _Count(place.line)
        for lines in (40, 200 if plan.quick else 900):
            drafts = Dialogue(lines).drafts(lines)
            key, _ = await core.sessions.create(TENANT, f"cold-{lines}", {}, (), WHO)
            for i in range(0, lines, 50):
                await core.sessions.append(key, drafts_of(drafts[i : i + 50]), WHO)
            await core.sessions.transition(key, "suspend", WHO)
            count.taken()
            await core.sessions.archive(key, WHO)
            async with asyncio.timeout(60):
                while (await core.ledger.warm.load(key)).stored.placement != "cold":
                    await core.archiver.run(key)
            requests, size = count.taken()
            beside = f"{lines} lines, {sum(len(str(each)) for each in drafts):,} B said"
            found.append(row(f"production: requests to S3 of an archive, {lines} lines", requests, "requests"))
            found.append(
                row(f"production: bytes to and from S3 of an archive, {lines} lines", size, "B", beside=beside)
            )
            core.bodies.forget(key)
            resumed = await core.sessions.resume(key, WHO, max_age_seconds=None)
            assert resumed.written.tier == "cold"
            requests, size = count.taken()
            told = f"production: requests to S3 of a resume from cold, {lines} lines"
            found.append(row(told, requests, "requests", target="<= 2"))
            told = f"production: bytes to and from S3 of a resume from cold, {lines} lines"
            found.append(row(told, size, "B", beside=beside))
    return found


def rows(plan: Plan) -> list[Row]:
    """All of it."""
    with scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        place = runner.run(stack.enter_async_context(places(folder)))
        try:
            found = runner.run(_commits(plan, place, folder))
            found += runner.run(_wires(plan, place, folder))
            found += runner.run(_cold(plan, place, folder))
            return found + _over_http(plan, place, folder)
        finally:
            runner.run(stack.aclose())
