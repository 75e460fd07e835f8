"""Append and resume cost the same however long a session is: at the core, over HTTP, and from cold.

One folder holds a session of each length, built once. Samples of all lengths are taken in turn, so that what the
machine does beside them touches each alike; a bare SQLite append at the same lengths shows how far to trust them.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from sessionmanager.core.assembly import Core
from sessionmanager.tiers.warm.sqlite_schema import SEQ_BITS, connect
from sessionmanager.words import Key
from tests.bench.corpus import Dialogue
from tests.bench.embedded import TENANT, WHO, Opened, drafts_of, opened, scratch
from tests.bench.load import head
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, service

BATCH: Final = 256
SHORT: Final = 10
LEVEL: Final = 500
"""Lines of the tail of each session when it is archived."""
ARCHIVED_SECONDS_MAX: Final = 60.0
VARIED: Final = 20_000
"""Entries of dialogue after which the same are said again: making them up costs more than storing them."""
SAID: Final = b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice."}]}'

Samples = dict[int, list[float]]


def lengths(plan: Plan) -> tuple[int, ...]:
    return (1_000, 3_000) if plan.quick else (1_000, 100_000, 1_000_000)


def rows(plan: Plan) -> list[Row]:
    found: list[Row] = []
    with scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        data = folder / "data"
        found += loop.run(_built(data, plan))
        found += _bare(folder / "bare.db", plan)
        found += loop.run(_at_the_core(data, plan))
        found += _over_http(data, plan)
        found += loop.run(_from_cold(data, plan))
    return found


# -- building


async def _built(data: Path, plan: Plan) -> list[Row]:
    """Sessions of each length, appended in batches with the worker sealing and moving segments meanwhile."""
    batches = [drafts_of(Dialogue(i).drafts(BATCH)) for i in range(VARIED // BATCH)]
    rate = 0.0
    async with opened(data) as (core, _):
        for length in lengths(plan):
            key, _ = await core.sessions.create(TENANT, f"long-{length}", {}, [], WHO)
            began, count = time.perf_counter(), 1
            for batch in itertools.cycle(batches):
                count += len((await core.sessions.append(key, batch[: length - count], WHO)).entries)
                await asyncio.sleep(0)  # the worker's turn
                if count >= length:
                    break
            rate = length / (time.perf_counter() - began)
            await core.worker.attend(key)
        # One more behind them all, so that each of them appends amid the table of entries as nearly all sessions do.
        await core.sessions.create(TENANT, "behind", {}, batches[0], WHO)
    return [row(f"core: entries a second, {BATCH} a commit, while sealing, {max(lengths(plan)):,}", rate, "entries/s")]


def _keys(plan: Plan) -> dict[int, Key]:
    return {length: Key(TENANT, f"long-{length}") for length in lengths(plan)}


# -- a bare SQLite append


def _bare(path: Path, plan: Plan) -> list[Row]:
    connection = connect(str(path), sqlite3.Connection, writer=True)
    connection.execute("CREATE TABLE heads (no INTEGER PRIMARY KEY, rev INTEGER, head BLOB)")
    connection.execute("CREATE TABLE entries (pos INTEGER PRIMARY KEY, data BLOB)")
    line, execute = b"x" * 300, connection.execute
    for length in lengths(plan):
        execute("BEGIN")
        execute("INSERT INTO heads VALUES (?, ?, ?)", (length, length, line))
        rows_of = ((length << SEQ_BITS | seq, line) for seq in range(length))
        connection.executemany("INSERT INTO entries VALUES (?, ?)", rows_of)
        execute("COMMIT")
    execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    taken: Samples = {length: [] for length in lengths(plan)}
    for i in range(_samples(plan)):
        for length in _in_turn(plan, i):
            began = time.perf_counter()
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO entries VALUES (?, ?)", (length << SEQ_BITS | (length + i), line))
            execute("UPDATE heads SET rev = rev + 1, head = ? WHERE no = ?", (line, length))
            execute("COMMIT")
            taken[length].append(time.perf_counter() - began)
    connection.close()
    return _rows("bare sqlite3: append", taken, "<= 1.1")


# -- at the core


async def _at_the_core(data: Path, plan: Plan) -> list[Row]:
    async with opened(data) as (core, _):
        keys, said = (
            _keys(plan),
            drafts_of([{"type": "message", "role": "user", "content": "Yes, that is the number."}]),
        )

        async def append(key: Key) -> None:
            await core.sessions.append(key, said, WHO)

        async def resume(key: Key) -> None:
            await core.sessions.resume(key, WHO, max_age_seconds=None)

        async def resume_short(key: Key) -> None:
            await core.sessions.resume(key, WHO, max_age_seconds=None, lines=SHORT)

        async def suspend(key: Key) -> None:
            await core.sessions.transition(key, "suspend", WHO)

        written = await _bytes_written(core, keys, plan)
        appends = await _sampled(plan, keys, append, fresh=core)
        resumes = await _sampled(plan, keys, resume, before=suspend)
        short = await _sampled(plan, keys, resume_short, before=suspend, fresh=core)
        return [
            *_rows("core: append", appends, "<= 1.2"),
            *_rows("core: resume of a suspended session", resumes, "<= 1.2"),
            *_rows(f"core: resume of a suspended session, entries={SHORT}", short, "<= 1.2"),
            *written,
        ]


async def _sampled(
    plan: Plan,
    keys: dict[int, Key],
    work: Callable[[Key], Awaitable[None]],
    *,
    before: Callable[[Key], Awaitable[None]] | None = None,
    fresh: Core | None = None,
) -> Samples:
    """Seconds that the work took. fresh: also on a session of ten entries, a new one for each sample."""
    taken: Samples = {length: [] for length in (*((SHORT,) if fresh else ()), *keys)}
    for i in range(_samples(plan)):
        for length in _turned(list(taken), i):
            key = keys.get(length) or await _ten_entries(fresh)
            if before is not None:
                await before(key)
            began = time.perf_counter()
            await work(key)
            taken[length].append(time.perf_counter() - began)
    return taken


async def _ten_entries(core: Core | None) -> Key:
    assert core is not None, "only where it is asked for"
    key, _ = await core.sessions.create(TENANT, None, {}, drafts_of(Dialogue().drafts(SHORT - 2)), WHO)
    return key


async def _bytes_written(core: Core, keys: dict[int, Key], plan: Plan) -> list[Row]:
    """Bytes that this process sends to files for an append of one line: the mean, as pages are split now and then."""
    said = drafts_of([{"type": "message", "role": "user", "content": "a sentence as people say it " * 4}])
    found: list[Row] = []
    first = 0.0
    for length, key in keys.items():
        sizes: list[int] = []
        for _ in range(_samples(plan)):
            before = _written()
            await core.sessions.append(key, said, WHO)
            sizes.append(_written() - before)
        size = statistics.mean(sizes)
        first = first or size
        found.append(
            row(f"bytes written an append, {length:,} entries", size / 1024, "KiB", ratio=size / first, target="<= 1.1")
        )
    return found


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise RuntimeError("no wchar in io")


# -- over HTTP


class _Caller:
    """One keep-alive connection, blocking: what is timed is the service and two system calls."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> float:
        """Seconds until the whole answer was there. Raises RuntimeError for one that is not 2xx."""
        began = time.perf_counter()
        self._socket.sendall(request)
        data = self._socket.recv(262_144)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._socket.recv(262_144)
        at = data.find(b"content-length: ", 0, end)
        left = end + 4 + int(data[at + 16 : data.find(b"\r", at + 16)]) - len(data)
        while left > 0:
            left -= len(self._socket.recv(262_144))
        taken = time.perf_counter() - began
        if data[9:10] != b"2":
            raise RuntimeError(data[:500].decode(errors="replace"))
        return taken

    def close(self) -> None:
        self._socket.close()


def _over_http(data: Path, plan: Plan) -> list[Row]:
    with service(data) as server:
        caller = _Caller(server)
        try:
            appends = _asked(plan, server, caller, "/entries", SAID, short=True)
            resumes = _asked(plan, server, caller, "/resume", b"{}")
            short = _asked(plan, server, caller, "/resume", b'{"entries":%d}' % SHORT, short=True)
        finally:
            caller.close()
    return [
        *_rows("http: append", appends, "<= 1.2"),
        *_rows("http: resume of a suspended session", resumes, "<= 1.2"),
        *_rows(f"http: resume of a suspended session, entries={SHORT}", short, "<= 1.2"),
    ]


def _asked(plan: Plan, server: Server, caller: _Caller, path: str, body: bytes, *, short: bool = False) -> Samples:
    taken: Samples = {length: [] for length in (*((SHORT,) if short else ()), *lengths(plan))}
    new = 0
    for i in range(_samples(plan)):
        for length in _turned(list(taken), i):
            session = f"/sessions/long-{length}"
            if length == SHORT:
                new += 1
                session = f"/sessions/short{path.replace('/', '-')}-{new}"
                said = {"id": session.rpartition("/")[2], "entries": Dialogue().drafts(SHORT - 2)}
                status, answer = server.call("POST", "/sessions", said)
                if status != 201:
                    raise RuntimeError(answer.decode())
            if path == "/resume":
                caller.ask(head("POST", f"{session}/suspend", server.token, b"{}"))
            taken[length].append(caller.ask(head("POST", session + path, server.token, body)))
    return taken


# -- from cold


async def _from_cold(data: Path, plan: Plan) -> list[Row]:
    taken: Samples = {length: [] for length in lengths(plan)}
    objects: dict[int, list[int]] = {length: [] for length in taken}
    sizes: dict[int, list[int]] = {length: [] for length in taken}
    async with opened(data) as service:
        for length in taken:
            await _levelled(service.core, Key(TENANT, f"long-{length}"))
        for i in range(3 if plan.quick else 40):
            for length in _in_turn(plan, i):
                key = Key(TENANT, f"long-{length}")
                await _archived(service, key)
                service.cold.reset()
                began = time.perf_counter()
                resumed = await service.core.sessions.resume(key, WHO, max_age_seconds=None)
                taken[length].append(time.perf_counter() - began)
                if resumed.written.tier != "cold":
                    raise RuntimeError("it was not resumed from cold")
                objects[length].append(service.cold.objects)
                sizes[length].append(service.cold.bytes)
    found = _rows("core: resume from cold", taken, "<= 1.2")
    for length in taken:
        name = f"core: resume from cold, {length:,} entries"
        found.append(row(f"{name}, objects read at most", max(objects[length]), "objects", target="<= 2"))
        median = statistics.median(sizes[length])
        found.append(
            row(f"{name}, bytes read", median / 1024, "KiB", ratio=median / statistics.median(sizes[min(sizes)]))
        )
    return found


async def _levelled(core: Core, key: Key) -> None:
    """Append until the tail has so many lines: it lies in the object that is read, however long the history is."""
    said = drafts_of(Dialogue().drafts(BATCH))
    while (left := LEVEL - (await core.ledger.exact(key)).stored.head.tail_count) != 0:
        await core.sessions.append(key, said[: left if left > 0 else BATCH], WHO)
        await core.worker.attend(key)


async def _archived(service: Opened, key: Key) -> None:
    """Move the body to cold, and forget what this process remembers of it."""
    core = service.core
    await core.sessions.transition(key, "suspend", WHO)
    await core.sessions.archive(key, WHO)
    async with asyncio.timeout(ARCHIVED_SECONDS_MAX):
        while (await core.ledger.warm.load(key)).stored.placement != "cold":
            await core.worker.attend(key)
            await asyncio.sleep(0)  # the worker of the process may be at it, and then it is its turn
    core.bodies.forget(key)


# -- shared


def _samples(plan: Plan) -> int:
    return 10 if plan.quick else 1_000


def _in_turn(plan: Plan, i: int) -> list[int]:
    return _turned(list(lengths(plan)), i)


def _turned(lengths: Sequence[int], i: int) -> list[int]:
    """The same lengths, beginning with another one each time."""
    first = i % len(lengths)
    return [*lengths[first:], *lengths[:first]]


def _rows(name: str, taken: Samples, target: str) -> list[Row]:
    """p50 of each length beside that of the shortest, and p99."""
    found: list[Row] = []
    shortest = statistics.median(taken[min(taken)]) * 1000
    for length, seconds in taken.items():
        ms = sorted(second * 1000 for second in seconds)
        p50 = statistics.median(ms)
        where = f"{name}, {length:,} entries"
        if length == min(taken):
            found.append(row(f"{where}, p50", p50, "ms"))
        else:
            beside = f"{min(taken):,} entries: {shortest:.3g} ms"
            found.append(row(f"{where}, p50", p50, "ms", beside=beside, ratio=p50 / shortest, target=target))
        found.append(row(f"{where}, p99", ms[int(len(ms) * 0.99)], "ms"))
    return found
