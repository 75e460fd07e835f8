"""What can be wrong with warm in a SQLite file, and who is in it: for commands that look from outside."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Final, TypeVar

from sessionmanager.errors import NotFound, TierUnavailable
from sessionmanager.model.finding import ROUND_TRIPS, Finding, bad, note, ok, round_trip
from sessionmanager.tiers.warm.protocol import Record
from sessionmanager.tiers.warm.sqlite_errors import translated
from sessionmanager.tiers.warm.sqlite_files import path_of
from sessionmanager.tiers.warm.sqlite_reads import get_record
from sessionmanager.tiers.warm.sqlite_schema import APPLICATION_ID, FORMAT, connect
from sessionmanager.words import Key

FREE_BYTES_MIN: Final = 1 << 30
PAGE_KEYS: Final = 1000
SYNC_SLOW_MS: Final = 20.0
SQLITE_FIXED: Final = (3, 51, 3)

T = TypeVar("T")


async def walk(url: str, *, after: Key | None = None, tenant: str | None = None, **_: Any) -> AsyncIterator[Key]:
    """Every session, tombstones too, by tenant and then by id, from the first after `after`; of one tenant if named.

    Raises NotFound: there is no such file. TierUnavailable. Cost: an index read for each `PAGE_KEYS`.
    """
    path = path_of(url)
    if not path.exists():
        raise NotFound(f"there is no {path}")
    first = after or Key(tenant or "", "")
    assert tenant in (None, first.tenant), "a walk through one tenant begins within it"
    async with aclosing(_paged(path, lambda connection, last: _page(connection, last, tenant), first)) as keys:
        async for key in keys:
            yield key


async def find_record(url: str, tenant: str, kind: str, record_id: str, **_: Any) -> Record | None:
    """As `WarmRecords.get_record`; None also where there is no file. A service that has it open is not disturbed.

    Raises TierUnavailable.
    """
    path = path_of(url)
    if not path.exists():
        return None

    def look() -> Record | None:
        with closing(connect(str(path), sqlite3.Connection, writer=False)) as connection:
            return get_record(connection, tenant, kind, record_id)

    try:
        return await asyncio.to_thread(look)
    except sqlite3.Error as error:
        raise translated(error) from error


async def walk_tenants(url: str, kind: str, **_: Any) -> AsyncIterator[str]:
    """Every tenant that has a record of this kind, by name. Nothing where there is no file.

    Raises TierUnavailable. Cost: an index read for each `PAGE_KEYS`, and one for each tenant.
    """
    path = path_of(url)
    if not path.exists():
        return
    async with aclosing(_paged(path, lambda connection, last: _tenants(connection, kind, last), "")) as tenants:
        async for tenant in tenants:
            yield tenant


async def _paged(path: Path, page: Callable[[sqlite3.Connection, T], list[T]], first: T) -> AsyncGenerator[T]:
    """What `page` answers after `first`, page by page until there is no more, by a connection of its own."""
    connection = await asyncio.to_thread(connect, str(path), sqlite3.Connection, writer=False)
    try:
        last = first
        while found := await asyncio.to_thread(page, connection, last):
            for one in found:
                yield one
            last = found[-1]
    except sqlite3.Error as error:
        raise translated(error) from error
    finally:
        connection.close()


def _tenants(connection: sqlite3.Connection, kind: str, after: str) -> list[str]:
    found = connection.execute(
        "SELECT name FROM tenants WHERE name > ? AND EXISTS (SELECT 1 FROM records WHERE tenant = tenants.no"
        " AND kind = ?) ORDER BY name LIMIT ?",
        (after, kind, PAGE_KEYS),
    )
    return [name for (name,) in found]


def _page(connection: sqlite3.Connection, after: Key, tenant: str | None) -> list[Key]:
    """The rest of the tenant that was come to, then those after it."""
    same = connection.execute(
        "SELECT id FROM sessions WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND id > ? ORDER BY id LIMIT ?",
        (after.tenant, after.id, PAGE_KEYS),
    )
    found = [Key(after.tenant, id) for (id,) in same]
    if tenant is None and len(found) < PAGE_KEYS:
        others = connection.execute(
            "SELECT t.name, s.id FROM tenants t CROSS JOIN sessions s ON s.tenant = t.no WHERE t.name > ?"
            " ORDER BY t.name, s.id LIMIT ?",
            (after.tenant, PAGE_KEYS - len(found)),
        )
        found += [Key(*row) for row in others]
    return found


async def diagnose(url: str, **_: Any) -> AsyncIterator[Finding]:
    """Look at the file. Nothing is written; a service that has it open is not disturbed."""
    path = path_of(url)
    for finding in await asyncio.to_thread(lambda: list(_look(path))):
        yield finding


def _look(path: Path) -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SQLITE_FIXED:
        yield ok("version", f"SQLite {version}")
    else:
        yield note("version", f"SQLite {version} may corrupt a file that two connections checkpoint; one does here")
    if not path.exists():
        yield note("reach", f"{path} is not there yet", "the first `sessionmanager serve` makes it")
        return
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        yield bad("reach", f"this user may not write {path}", "give it and its directory to the service's user")
        return
    yield ok("reach", f"{path} is there")
    if path.stat().st_mode & 0o077:
        yield note("rights", "others may read the database", f"chmod 600 {path}")
    free = shutil.disk_usage(path).free
    told = f"{free / (1 << 30):.1f} GiB are free"
    yield ok("space", told) if free >= FREE_BYTES_MIN else bad("space", told, "make room: commits will be refused")
    try:
        with closing(connect(str(path), sqlite3.Connection, writer=False)) as connection:
            yield from _inside(connection)
    except (sqlite3.Error, TierUnavailable) as error:
        yield bad("read", f"the file cannot be read ({error})", "give another file, or restore it from a backup")


def _inside(connection: sqlite3.Connection) -> Iterator[Finding]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (format_,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        yield bad("format", "the file is another program's", "give another path in WARM_URL")
        return
    if format_ > FORMAT:
        yield bad("format", f"it has format {format_}, this release knows {FORMAT}", "use a newer release")
        return
    yield (
        ok("format", f"format {format_}") if format_ == FORMAT else note("format", f"the next start migrates {format_}")
    )
    seconds: list[float] = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM sessions LIMIT 100)").fetchone()
        seconds.append(time.perf_counter() - began)
    yield round_trip(seconds, slow_ms=SYNC_SLOW_MS, mend="the disk is slow to read")
    rows = connection.execute("PRAGMA quick_check(1)").fetchall()
    if rows == [("ok",)]:
        yield ok("pages", "quick_check finds nothing")
    else:
        yield bad("pages", "the file is damaged", "restore it from a backup, then `sessionmanager verify`")
