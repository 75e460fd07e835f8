"""Hot in Redis beside what it cannot avoid: one script and one read through the driver's own client.

Both are in one run, turn by turn, on one server of their own. The bare ones send and get as many bytes, and check and
decode nothing. Bytes and round trips are counted by a proxy between; what a session weighs, Redis says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
from redis.asyncio import BlockingConnectionPool, Redis

from sessionmanager.model.change import Change
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy, Hot
from sessionmanager.tiers.hot.redis import open_redis
from sessionmanager.words import Key
from tests.bench.rows import Plan, Row, paired, row
from tests.services.own import own_server
from tests.support.builders import T0, a_change, a_head, a_line, a_stored
from tests.support.redis_servers import MAC_KEY, Wire

PREFIX: Final = "sessionmanager:"
TEXT: Final = "a sentence of some length, as people say it on the telephone " * 2
TAIL: Final = 20
LINE: Final = a_line(1, TEXT).data
CALLS: Final = 1500
BARE: Final = "redis.call('HSET', KEYS[1], unpack(ARGV)) return 1"


def rows(plan: Plan) -> list[Row]:
    return uvloop.run(_rows(plan))


async def _rows(plan: Plan) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with own_server("redis", Path(folder) / "redis") as server, Wire.to(server.url) as wire:
            async with _open(server.url) as hot:
                found = await _times(hot, server.url, plan)
                found += await _weights(hot, server.url)
            async with _open(wire.url) as hot:
                found += await _wires(hot, wire)
    return found


@asynccontextmanager
async def _open(url: str) -> AsyncGenerator[Hot]:
    async with open_redis(url, mac_key=MAC_KEY, prefix=PREFIX, timeout_seconds=5.0) as hot:
        yield hot


def a_copy(key: Key, lines: int = TAIL) -> Copy:
    tail = tuple(a_line(seq, TEXT) for seq in range(1, lines + 1))
    return Copy(a_stored(a_head(key, rev=max(lines, 1), entry_count=lines)), tail, T0)


async def keep(hot: Hot, copy: Copy) -> None:
    token = await hot.begin_fill(copy.stored.key)
    assert token is not None
    await hot.end_fill(copy.stored.key, token, copy)


# -- time


async def _times(hot: Hot, url: str, plan: Plan) -> list[Row]:
    """Microseconds a call, one after the other; and of them how many on our processor."""
    calls = 100 if plan.quick else CALLS
    key = Key("acme", "call-timed")
    copy = a_copy(key)
    await keep(hot, copy)
    client: Redis[Any] = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=32, protocol=2))
    sha = await client.script_load(BARE)
    rev = copy.stored.rev
    fields = [one for name in ("pulse", "work") for one in (name, copy.stored.parts[name])]
    commits: list[tuple[float, float]] = []
    reads: list[tuple[float, float]] = []
    work: dict[str, list[float]] = {"commit": [], "script": [], "recall": [], "read": []}
    for _ in range(plan.pairs):
        changes = [StoredEntry(seq, a_line(seq, TEXT).data) for seq in range(rev + 1, rev + 1 + calls)]
        plain = [change_of(key, rev + step, line) for step, line in enumerate(changes)]
        rev += calls
        ours = await timed(calls, each(hot, plain))
        bare = await timed(calls, lambda: client.evalsha(sha, 1, "bare", *fields, "line", LINE))
        commits.append((ours[0], bare[0]))
        work["commit"].append(ours[1])
        work["script"].append(bare[1])
        ours = await timed(calls, lambda: hot.recall(key))
        bare = await timed(calls, lambda: client.hgetall(f"{PREFIX}{{{key.text}}}:copy"))
        reads.append((ours[0], bare[0]))
        work["recall"].append(ours[1])
        work["read"].append(bare[1])
    await client.aclose()
    told: list[Row] = []
    for name, pairs, beside, (ours_work, bare_work) in (
        ("after_commit, one line", commits, "one script", (work["commit"], work["script"])),
        ("recall, about 100 lines", reads, "HGETALL", (work["recall"], work["read"])),
    ):
        ours_us, bare_us, ratio = paired(pairs)
        told.append(row(f"hot redis: {name}", ours_us, "us", beside=f"{beside} {bare_us:.0f} us", ratio=ratio))
        spent, bare_spent, _ = paired(list(zip(ours_work, bare_work, strict=True)))
        told.append(row(f"hot redis: {name}, our processor", spent, "us", beside=f"{bare_spent:.0f} us"))
    return told


def each(hot: Hot, changes: list[Change]) -> Callable[[], Awaitable[None]]:
    """A call that tells of the next change each time."""
    left = iter(changes)
    return lambda: hot.after_commit(next(left), T0)


def change_of(key: Key, rev: int, line: StoredEntry) -> Change:
    return a_change(key, rev=rev, entries=(line,))


async def timed(calls: int, call: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Microseconds a call: by the clock, and of this process's processor time."""
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - began) * 1e6 / calls, (time.process_time() - spent) * 1e6 / calls


# -- weight


async def _weights(hot: Hot, url: str) -> list[Row]:
    """What Redis says a session's keys take, beside the bytes that are the session's own."""
    told: list[Row] = []
    async with Redis.from_url(url, protocol=2) as client:
        for lines in (0, TAIL):
            key = Key("acme", f"call-weighed-{lines}")
            copy = a_copy(key, lines)
            await keep(hot, copy)
            rev = copy.stored.rev
            await hot.after_commit(a_change(key, rev=rev, entries=(a_line(lines + 1, TEXT),)), T0)
            kept = await hot.recall(key)
            assert kept is not None
            payload = sum(len(kept.stored.parts[name]) for name in HOT_PARTS) + sum(
                len(line.data) for line in kept.tail
            )
            taken = 0
            for suffix in ("copy", "floor"):
                taken += await client.memory_usage(f"{PREFIX}{{{key.text}}}:{suffix}", samples=0)
            name = f"hot redis: bytes of a session of {lines + 1} lines"
            told.append(row(name, taken, "B", beside=f"of its own {payload} B"))
            name = f"hot redis: bytes over its own, {lines + 1} lines"
            told.append(row(name, taken - payload, "B", target="<= 2048"))
    return told


# -- wire


async def _wires(hot: Hot, wire: Wire) -> list[Row]:
    """Bytes and round trips of one call each."""
    key = Key("acme", "call-on-the-wire")
    copy = a_copy(key)
    await keep(hot, copy)  # every script is known and a connection is there
    await hot.recall(key)
    change = a_change(key, rev=copy.stored.rev, entries=(a_line(TAIL + 1, TEXT),))
    await hot.after_commit(change, T0)
    told: list[Row] = []

    async def count(name: str, call: Awaitable[Any], payload: int) -> Any:
        wire.taken()
        answer = await call
        up, down, trips = wire.taken()
        told.append(row(f"hot redis: {name} on the wire", up + down, "B", beside=f"of its own {payload} B"))
        told.append(row(f"hot redis: {name}, round trips", trips, "trips", target="= 1"))
        return answer

    own = sum(len(copy.stored.parts[name]) for name in HOT_PARTS) + sum(len(line.data) for line in copy.tail)
    change = a_change(key, rev=copy.stored.rev + 1, entries=(a_line(TAIL + 2, TEXT),))
    delta = sum(len(change.stored.parts[name]) for name in change.changed) + len(change.entries[0].data)
    await count("recall of 21 lines", hot.recall(key), own + delta)
    await count("after_commit of one line", hot.after_commit(change, T0), delta)
    token = await count("begin_fill", hot.begin_fill(key), 0)
    newer = copy._replace(stored=a_stored(a_head(key, rev=copy.stored.rev + 2, entry_count=TAIL)))
    await count("end_fill of 20 lines", hot.end_fill(key, token, newer), own)
    return told
