"""Durable commits a second on SQLite through `Warm.commit`, beside bare `sqlite3` that writes the same row and head.

Both are in one run, turn by turn, each on a fresh file in the same directory with the same durability and checkpoints,
so that their ratio depends on the machine as little as it can. The bare one writes no audit line, no commit id and no
checksum, and decides nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from sessionmanager.model.change import Change
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.tiers.warm.sqlite_schema import CHECKPOINT_PAGES, SEQ_BITS, connect
from sessionmanager.words import Key
from tests.bench.embedded import scratch
from tests.support.builders import T0, a_change, a_head, a_line, a_stored, a_trail

ROUNDS: Final = 5
SECONDS: Final = 1.0
SESSIONS: Final = 64
LINE: Final = a_line(1, "a sentence of some length, as people say it on the telephone " * 3).data
PARTS: Final = {name: data for name, data in a_stored(a_head()).parts.items() if name in ("pulse", "work")}


def bare(path: Path, group: int, seconds: float = SECONDS) -> float:
    """Writes a second: an INSERT of the entry and an UPDATE of the head each, `group` of them a COMMIT."""
    connection = connect(str(path), sqlite3.Connection, writer=True)
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(
        "CREATE TABLE sessions"
        " (no INTEGER PRIMARY KEY, id TEXT UNIQUE, rev INTEGER, version INTEGER, pulse BLOB, work BLOB)"
    )
    connection.execute("CREATE TABLE entries (pos INTEGER PRIMARY KEY, data BLOB)")
    for no in range(SESSIONS):
        row = (no, f"call-{no}", 1, 1, PARTS["pulse"], PARTS["work"])
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
    execute = connection.cursor().execute
    rev, written = 1, 0
    pulse, work, line = PARTS["pulse"], PARTS["work"], LINE
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        rev += 1
        for first in range(0, SESSIONS, group):
            execute("BEGIN IMMEDIATE")
            for no in range(first, first + group):
                execute("INSERT INTO entries VALUES (?, ?)", (no << SEQ_BITS | rev, line))
                execute(
                    "UPDATE sessions SET rev = ?, version = ?, pulse = ?, work = ? WHERE no = ? AND rev = ?",
                    (rev, rev, pulse, work, no, rev - 1),
                )
            execute("COMMIT")
            written += group
    taken = time.perf_counter() - began
    connection.close()
    return written / taken


async def _writer(warm: Warm, key: Key, until: float, rev: int) -> int:
    """Append one line after another until the time is over; answers the rev then."""
    trail = a_trail(key, at=T0, version=rev, request_id="0123456789abcdef0123456789abcdef")
    while time.perf_counter() < until:
        stored = Stored(key, rev + 1, rev + 1, PARTS)
        line = (StoredEntry(rev, LINE),)
        change = Change(key, rev, stored, ("pulse", "work"), rev.to_bytes(16, "big"), None, entries=line, trail=trail)
        await warm.commit(change)
        rev += 1
    return rev


async def _ours(path: Path, writers: int, seconds: float) -> float:
    async with open_sqlite(f"sqlite:///{path}", commit_in="loop") as warm:
        keys = [Key("acme", f"call-{no}") for no in range(SESSIONS)]
        for key in keys:
            await warm.commit(a_change(key))
        began = time.perf_counter()
        if writers == 1:
            written = await _in_turn(warm, keys, began + seconds)
        else:
            revs = await asyncio.gather(*[_writer(warm, key, began + seconds, 1) for key in keys[:writers]])
            written = sum(revs) - len(revs)
        return written / (time.perf_counter() - began)


async def _in_turn(warm: Warm, keys: list[Key], until: float) -> int:
    """One writer that visits every session, as the bare one does."""
    rev = 1
    while time.perf_counter() < until:
        for key in keys:
            await _writer_once(warm, key, rev)
        rev += 1
    return (rev - 1) * len(keys)


async def _writer_once(warm: Warm, key: Key, rev: int) -> int:
    trail = a_trail(key, at=T0, version=rev, request_id="0123456789abcdef0123456789abcdef")
    stored = Stored(key, rev + 1, rev + 1, PARTS)
    change = Change(
        key,
        rev,
        stored,
        ("pulse", "work"),
        rev.to_bytes(16, "big"),
        None,
        entries=(StoredEntry(rev, LINE),),
        trail=trail,
    )
    await warm.commit(change)
    return rev + 1


def rows(*, rounds: int = ROUNDS, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """One row a number of writers: the medians of turns taken one after the other."""
    found: list[dict[str, Any]] = []
    with (
        scratch() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
    ):
        for writers, target in ((1, 0.5), (64, 0.7)):
            pairs = [
                (
                    loop.run(_ours(folder / f"ours-{writers}-{turn}.db", writers, seconds)),
                    bare(folder / f"bare-{writers}-{turn}.db", writers, seconds),
                )
                for turn in range(rounds)
            ]
            found.append(
                {
                    "name": f"durable commits, {writers} writer{'s' if writers > 1 else ''}",
                    "value": round(statistics.median(ours for ours, _ in pairs)),
                    "unit": "commits/s",
                    "beside": f"bare sqlite3, {writers} a COMMIT: {round(statistics.median(b for _, b in pairs))}/s",
                    "ratio": round(statistics.median(ours / beside for ours, beside in pairs), 2),
                    "target": f">= {target}",
                }
            )
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
