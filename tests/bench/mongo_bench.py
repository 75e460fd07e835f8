"""Warm on MongoDB beside the one compare-and-set that it cannot avoid; bytes on the wire; and Motor beside its heir.

    python -m tests.bench.mongo_bench

needs a server (`make services`, or TEST_MONGO_MEMORY_URL): with the stand-in the server is the bound, so only ratios
and our own processor time count. Motor has ended and is no dependency; where it can be imported it is measured too:

    pip download --no-deps -d /tmp/motor motor==3.7.1 && unzip -q /tmp/motor/*.whl -d /tmp/motor
    PYTHONPATH=/tmp/motor python -m tests.bench.mongo_bench
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import uvloop
from pymongo import AsyncMongoClient, WriteConcern

from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored, frame
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key
from tests.bench.rows import Plan, Row, paired, row, table
from tests.support.builders import T0, a_change, a_head, a_line, a_stored, a_trail
from tests.support.mongo import EMBRACING, a_database, a_proxied

WRITERS: Final = (1, 64)
MAJORITY: Final = WriteConcern("majority", j=True)
LINE: Final = a_line(1, "a sentence of some length, as people say it on the telephone " * 3).data
PARTS: Final = {name: data for name, data in a_stored(a_head()).parts.items() if name in ("pulse", "work")}
CPU_MS_MAX: Final = 0.3
TAIL: Final = 100

Write = Callable[[int, int], Awaitable[Any]]
"""Make the write of this writer that follows its rev."""
Spent = tuple[float, float]
"""Writes a second, and milliseconds of our processor a write."""


async def _spend(write: Write, writers: int, first: int, seconds: float) -> tuple[Spent, int]:
    """Let every writer write until the time is over; answers what it took, and the next rev."""
    until = time.perf_counter() + seconds
    revs = [first] * writers

    async def go_on(writer: int) -> None:
        while time.perf_counter() < until:
            await write(writer, revs[writer])
            revs[writer] += 1

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*[go_on(writer) for writer in range(writers)])
    taken, used = time.perf_counter() - began, time.process_time() - used
    count = sum(revs) - first * writers
    for writer in range(writers):  # all end at one rev, so that the next turn begins alike
        while revs[writer] < max(revs):
            await write(writer, revs[writer])
            revs[writer] += 1
    return (count / taken, used / count * 1000), max(revs)


def _append(key: Key, rev: int) -> Change:
    entry = a_line(rev)._replace(data=LINE)
    trail = a_trail(key, at=T0, version=rev, request_id="0123456789abcdef0123456789abcdef")
    stored = Stored(key, rev + 1, rev + 1, PARTS)
    tail_from = rev - TAIL if rev % TAIL == 0 else 0  # as a seal would keep it
    return Change(key, rev, stored, ("pulse", "work"), rev.to_bytes(16, "big"), None, (), (entry,), tail_from, trail)


def _ours(warm: Warm) -> Write:
    return lambda writer, rev: warm.commit(_append(Key("acme", f"call-{writer}"), rev))


def _bare(collection: Any) -> Write:
    """One compare-and-set that moves rev, rewrites what an append rewrites and pushes a line; nothing else."""
    parts = {f"parts.{name}": frame(data) for name, data in PARTS.items()}

    async def write(writer: int, rev: int) -> None:
        update = {
            "$set": {"rev": rev + 1, **parts},
            "$push": {"tail": {"$each": [{"s": rev, "b": LINE}], "$slice": -100}},
        }
        result = await collection.update_one({"_id": f"bare-{writer}", "rev": rev}, update)
        assert result.matched_count == 1

    return write


async def _commits(plan: Plan, writers: int) -> list[Row]:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(a_database())
        warm = await stack.enter_async_context(open_mongo(url, **EMBRACING))
        client = await stack.enter_async_context(AsyncMongoClient[dict[str, Any]](url))
        collection = client.get_default_database(write_concern=MAJORITY)["bare"]
        for writer in range(writers):
            await warm.commit(a_change(Key("acme", f"call-{writer}")))
            await collection.insert_one({"_id": f"bare-{writer}", "rev": 1, "parts": {}, "tail": []})
        ours, bare = _ours(warm), _bare(collection)
        pairs: list[tuple[Spent, Spent]] = []
        our_rev = bare_rev = 1
        for _ in range(plan.pairs):
            mine, our_rev = await _spend(ours, writers, our_rev, plan.seconds)
            theirs, bare_rev = await _spend(bare, writers, bare_rev, plan.seconds)
            pairs.append((mine, theirs))
    rate, beside, ratio = paired([(mine[0], theirs[0]) for mine, theirs in pairs])
    cpu, bare_cpu, _ = paired([(mine[1], theirs[1]) for mine, theirs in pairs])
    name = f"warm commits on MongoDB, {writers} at once"
    return [
        row(name, rate, "commits/s", beside=f"bare compare-and-set {beside:.0f}/s", ratio=ratio),
        row(
            f"{name}: processor beyond the bare one", cpu - bare_cpu, "ms", beside=f"{cpu:.3f} - {bare_cpu:.3f}",
            target=f"<= {CPU_MS_MAX}",
        ),
    ]  # fmt: skip


async def _bytes(plan: Plan) -> list[Row]:
    """What one append sends, early and late."""
    async with a_proxied() as (url, _, proxy), open_mongo(url, **EMBRACING) as warm:
        key = Key("acme", "call")
        await warm.commit(a_change(key))
        last = 40 if plan.quick else 900
        for rev in range(1, last):
            await warm.commit(_append(key, rev))
        sent = proxy.sent["update"]
        early, late = sum(sent[2:22]) / 20, sum(sent[-22:-2]) / 20
    name = f"bytes to MongoDB an append, line {last} beside the first"
    return [row(name, late, "bytes", beside=f"{early:.0f} bytes", ratio=late / early, target="<= 1.05")]


async def _drivers(plan: Plan, writers: int) -> list[Row]:
    """The same operations by PyMongo Async and by Motor, in turns."""
    if importlib.util.find_spec("motor") is None:
        return []
    motor = importlib.import_module("motor.motor_asyncio")
    found: list[Row] = []
    async with a_database() as url:
        new: Any = AsyncMongoClient(url)
        old: Any = motor.AsyncIOMotorClient(url)
        database = url.rpartition("/")[2]
        both = [client.get_database(database, write_concern=MAJORITY) for client in (new, old)]
        for name in ("compare-and-set", "load", "insert"):
            operations = [await _operation(name, place[f"{name}-{i}"], writers) for i, place in enumerate(both)]
            pairs: list[tuple[Spent, Spent]] = []
            revs = [1, 1]
            for _ in range(plan.pairs):
                spent: list[Spent] = []
                for i, operation in enumerate(operations):
                    one, revs[i] = await _spend(operation, writers, revs[i], plan.seconds / 2)
                    spent.append(one)
                pairs.append((spent[0], spent[1]))
            told = f"PyMongo Async, {name}, {writers} at once"
            rate, beside, ratio = paired([(ours[0], theirs[0]) for ours, theirs in pairs])
            found.append(row(told, rate, "a second", beside=f"Motor {beside:.0f}", ratio=ratio))
            cpu, beside, ratio = paired([(ours[1], theirs[1]) for ours, theirs in pairs])
            found.append(row(f"{told}: processor", cpu, "ms", beside=f"Motor {beside:.3f}", ratio=ratio))
        await new.close()
        old.close()
    return found


async def _operation(name: str, collection: Any, writers: int) -> Write:
    for writer in range(writers):
        document = {"_id": f"bare-{writer}", "rev": 1, "parts": {}, "tail": [{"s": s, "b": LINE} for s in range(TAIL)]}
        await collection.insert_one(document)
    if name == "compare-and-set":
        return _bare(collection)

    async def load(writer: int, rev: int) -> None:
        assert await collection.find_one({"_id": f"bare-{writer}"}, {"rev": 1, "parts": 1, "tail": {"$slice": -TAIL}})

    async def insert(writer: int, rev: int) -> None:
        await collection.insert_one({"_id": f"{writer}/{rev}", "at": T0, "actor": "alice", "action": "append"})

    return load if name == "load" else insert


def rows(plan: Plan) -> list[Row]:
    """All of it; the rows of Motor only where it can be imported."""
    found: list[Row] = []
    for writers in WRITERS:
        found += uvloop.run(_commits(plan, writers))
    found += uvloop.run(_bytes(plan))
    for writers in WRITERS:
        found += uvloop.run(_drivers(plan, writers))
    return found


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(table(rows(Plan())))
