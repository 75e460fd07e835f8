"""Warm in one SQLite file: durable by itself, for one process. The default where no WARM_URL is set.

Start reading here; each noun has its file: `sqlite_schema` the tables, `sqlite_writer` the group commit,
`sqlite_changes` one change as statements, `sqlite_operations` every other write, `sqlite_reads`, `sqlite_lists` and
`sqlite_trail` the reads, `sqlite_calls` the rows of calls.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, NamedTuple, ParamSpec, TypeVar

import structlog

from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.change import Change, KeyRecord, Trail
from sessionmanager.model.codec import frame
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm import sqlite_calls, sqlite_lists, sqlite_operations, sqlite_reads
from sessionmanager.tiers.warm.protocol import (
    CallPage,
    CallQuery,
    FoundCall,
    ListPage,
    ListQuery,
    Loaded,
    Record,
    TrailPage,
    TrailQuery,
    Warm,
)
from sessionmanager.tiers.warm.sqlite_errors import code_of, is_fatal, translated
from sessionmanager.tiers.warm.sqlite_files import path_of, prepare
from sessionmanager.tiers.warm.sqlite_schema import connect, migrate
from sessionmanager.tiers.warm.sqlite_writer import Writer
from sessionmanager.words import Instant, Key

CommitIn = Literal["measure", "loop", "thread"]

SLOW_COMMIT_SECONDS: Final = 0.002
"""Where a COMMIT takes longer, it leaves the event loop."""
MEASURED_COMMITS: Final = 5
SWITCH_SECONDS: Final = 0.0005
"""How soon a busy loop hands the interpreter to the commit thread; Python's own 5 ms would double each slow COMMIT."""
LISTS_WAITING_MAX: Final = 256
"""Lists, pages of the trail and the like that may wait for the reader's thread; the next is refused at once."""
PROBLEMS_MAX: Final = 10
LOG_RESET_FIXED: Final = (3, 51, 3)
"""From here on SQLite may checkpoint on any connection; before, the writer's alone may, as it does here."""

P = ParamSpec("P")
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _Opened(NamedTuple):
    """What opening leaves: one connection each for writing, for point reads and for lists."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lister: sqlite3.Connection
    commit_seconds: float
    clean: bool


@asynccontextmanager
async def open_sqlite(
    url: str,
    *,
    commit_in: CommitIn = "measure",
    clock: Callable[[], float] = time.time,
    on_poison: Callable[[], None] | None = None,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> AsyncGenerator[Warm]:
    """The warm tier in the file of `url` (`sqlite:///relative.db`, `sqlite:////absolute.db`), made if absent.

    Args: commit_in: where COMMIT runs: `loop` on the event loop, `thread` beside it; `measure` times a few and
    decides. clock: seconds since 1970. on_poison: called once when the files failed; the process should end then, and a
    fresh one look. factory: the class of connections.
    Raises: ValueError for a URL that names no file; TierUnavailable if another process has it open, if it is of a
    newer release or another program, or cannot be written. Cost: a few syncs; a check of the whole file runs beside the
    service after an end that was not clean.
    """
    path = path_of(url)
    lock = await asyncio.to_thread(prepare, path)
    try:
        opened = await asyncio.to_thread(_open, path, factory)
        threaded = commit_in == "thread" or (commit_in == "measure" and opened.commit_seconds > SLOW_COMMIT_SECONDS)
        warm = SqliteWarm(opened, threaded=threaded, clock=clock, on_poison=on_poison)
        _tell(opened, threaded)
        check = None if opened.clean else asyncio.create_task(warm.check_file(path, factory))
        switch = sys.getswitchinterval()
        try:
            if threaded:
                sys.setswitchinterval(min(switch, SWITCH_SECONDS))
            yield warm
        finally:
            sys.setswitchinterval(switch)
            await warm.close(check)
    finally:
        os.close(lock)


def _open(path: Path, factory: type[sqlite3.Connection]) -> _Opened:
    """Everything that blocks: connect, migrate, note that the file is in use, time a few commits."""
    connections: list[sqlite3.Connection] = []
    try:
        for writes in (True, False, False):
            connections.append(connect(str(path), factory, writer=writes))
            if writes:
                migrate(connections[0])
        writer, reader, lister = connections
        clean = writer.execute("SELECT 1 FROM state WHERE name = 'open'").fetchone() is None
        taken: list[float] = []
        for _ in range(MEASURED_COMMITS):
            began = time.perf_counter()
            writer.execute("INSERT OR REPLACE INTO state VALUES ('open', ?)", (began,))
            taken.append(time.perf_counter() - began)
        return _Opened(writer, reader, lister, statistics.median(taken), clean)
    except BaseException as error:
        for connection in connections:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error) from error
        raise


def _tell(opened: _Opened, threaded: bool) -> None:
    _log.info(
        "warm.opened",
        backend="sqlite",
        sqlite=sqlite3.sqlite_version,
        log_reset="fixed" if sqlite3.sqlite_version_info >= LOG_RESET_FIXED else "avoided: one connection checkpoints",
        commit_in="thread" if threaded else "loop",
        commit_ms=round(opened.commit_seconds * 1000, 3),
        clean=opened.clean,
    )


def _quick_check(connection: sqlite3.Connection) -> list[Any]:
    try:
        return connection.execute(f"PRAGMA quick_check({PROBLEMS_MAX})").fetchall()
    except sqlite3.OperationalError as error:
        if code_of(error) == sqlite3.SQLITE_INTERRUPT:
            return []
        raise


class SqliteWarm:
    """`Warm` on three connections: the writer's, one for point reads while a thread has the writer's, one for lists."""

    def __init__(
        self,
        opened: _Opened,
        *,
        threaded: bool,
        clock: Callable[[], float],
        on_poison: Callable[[], None] | None,
    ) -> None:
        self._writer = Writer(opened.writer, threaded=threaded, on_poison=on_poison)
        self._opened = opened
        self._lists = ThreadPoolExecutor(1, "warm-lists")
        self._lists_waiting = 0
        self._clock = clock
        self._now_ms = 0

    # -- heads

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        return self._near(sqlite_reads.load, key, tail)

    async def commit(self, change: Change) -> None:
        assert change.stored.rev == change.rev + 1, "a change that does not follow its rev"
        await self._writer.commit(change)

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        return self._near(sqlite_reads.read, key, after, before, limit, descending)

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        return self._near(sqlite_reads.find_commit, key, after_rev, commit_id)

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        return self._near(sqlite_reads.find_key, key, scope)

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        return self._near(sqlite_reads.find_entry_ids, key, hashes)

    async def list(self, query: ListQuery) -> ListPage:
        return await self._far(sqlite_lists.list_sessions, query)

    async def due(self, now: Instant, limit: int) -> list[Key]:
        return await self._far(sqlite_lists.due, now, limit)

    def now(self) -> Instant:
        self._now_ms = max(self._now_ms, int(self._clock() * 1000))
        return instants.from_ms(self._now_ms)

    def clock_error(self) -> float:
        return 0.0

    # -- bodies

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        framed = frame(data)
        await self._writer.run(lambda changes: sqlite_operations.put_body(changes, key, body_id, framed))

    async def get_body(self, key: Key, body_id: str) -> bytes:
        return self._near(sqlite_reads.get_body, key, body_id)

    async def list_bodies(self, key: Key) -> list[str]:
        return self._near(sqlite_reads.list_bodies, key)

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        size = sqlite_operations.BODIES_REMOVED_MAX
        for first in range(0, len(body_ids), size):
            share = body_ids[first : first + size]
            await self._writer.run(partial(sqlite_operations.drop_bodies, key=key, body_ids=share))

    async def purge(self, key: Key) -> None:
        while await self._writer.run(lambda changes: sqlite_operations.purge_some(changes, key)):
            pass
        await self._writer.alone(sqlite_operations.truncate_log)

    # -- records, trail, counts

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        return self._near(sqlite_reads.get_record, tenant, kind, record_id)

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        where = (tenant, kind, record_id)
        await self._writer.run(lambda changes: sqlite_operations.put_record(changes, where, data, rev, expires_at))

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        return await self._far(sqlite_reads.list_records, tenant, kind, after, prefix, limit)

    async def note(self, lines: Sequence[Trail]) -> None:
        if lines:
            await self._writer.run(lambda changes: sqlite_operations.note(changes, lines))

    async def trail(self, query: TrailQuery) -> TrailPage:
        return await self._far(sqlite_lists.trail, query)

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        return await self._far(sqlite_lists.counts, tenant)

    async def sweep(self, now: Instant, limit: int) -> int:
        gone = 0
        while gone < limit:
            share = min(limit - gone, sqlite_operations.REMOVED_MAX)
            went = await self._writer.run(partial(sqlite_operations.sweep_some, now=now, limit=share))
            gone += went
            if went < share:
                break
        return gone

    # -- calls

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        return await self._writer.run(
            lambda changes: sqlite_calls.claim_call(changes, tenant, call_id, session, instead_of)
        )

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        return self._near(sqlite_calls.find_call, tenant, call_id)

    async def list_calls(self, query: CallQuery) -> CallPage:
        return await self._far(sqlite_calls.list_calls, query, self.now())

    async def live_calls(self) -> Mapping[str, int]:
        return await self._far(sqlite_calls.live_calls)

    # -- connections

    def _near(self, read: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A point read, here and now. While a thread commits, its connection holds what is not committed yet."""
        writer = self._writer
        writer.check()
        try:
            return read(self._opened.reader if writer.busy else writer.connection, *args, **kwargs)
        except sqlite3.Error as error:
            raise self._told(error) from error

    async def _far(self, read: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A read of many rows, in the reader's thread."""
        self._writer.check()
        if self._lists_waiting >= LISTS_WAITING_MAX:
            raise TierUnavailable("warm", "too many lists are waiting")
        self._lists_waiting += 1
        try:
            work = partial(read, self._opened.lister, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(self._lists, work)
        except sqlite3.Error as error:
            raise self._told(error) from error
        finally:
            self._lists_waiting -= 1

    def _told(self, error: sqlite3.Error) -> Exception:
        if is_fatal(error):
            self._writer.poison(error)
        return translated(error)

    async def check_file(self, path: Path, factory: type[sqlite3.Connection]) -> None:
        """`quick_check` of the whole file after an end that was not clean; the outcome goes to the log.

        Damage it finds is met again, as DataCorrupt, by whoever reads the row: values carry checksums.
        """
        connection = connect(str(path), factory, writer=False)
        check = asyncio.create_task(asyncio.to_thread(_quick_check, connection))
        try:
            rows = await asyncio.shield(check)
        except asyncio.CancelledError:
            connection.interrupt()  # the thread must be out of the connection before it is closed
            await asyncio.wait([check])
            raise
        except sqlite3.Error as error:
            _log.error("warm.quick_check", ok=False, error=str(self._told(error)))
        else:
            ok = rows == [("ok",)]
            (_log.info if ok else _log.error)("warm.quick_check", ok=ok, problems=0 if ok else len(rows))
        finally:
            connection.close()

    async def close(self, check: asyncio.Task[None] | None) -> None:
        """Finish what waits, then close; the file is clean unless it was poisoned or a COMMIT hangs."""
        if check is not None:
            check.cancel()
            await asyncio.wait([check])
        if await self._writer.close():
            await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        self._lists.shutdown()
        opened = self._opened
        try:
            if not self._writer.poisoned:
                opened.writer.execute("DELETE FROM state WHERE name = 'open'")
        except sqlite3.Error as error:
            _log.warning("warm.not_closed_clean", error=str(translated(error)))
        finally:
            for connection in (opened.lister, opened.reader, opened.writer):
                connection.close()
