"""Warm on MongoDB: a replica set or a sharded cluster, for any number of processes.

Start reading here; each noun has its file: `layout` what lies where, `link` the one way to the server, `server` what is
asked of it at start, `commits` one change as one update, `heads` `bodies` `records` `lists` the rest, `trail` the audit
trail, `calls` the rows of calls, `clock` warm's clock. Decision 0022 says why it is so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from math import inf
from typing import Final

import structlog

from sessionmanager.model.change import Change, KeyRecord, Trail
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.mongo import bodies, calls, heads, lists, records, trail_pages
from sessionmanager.tiers.warm.mongo.clock import Clock
from sessionmanager.tiers.warm.mongo.commits import Commits
from sessionmanager.tiers.warm.mongo.link import Link, open_link
from sessionmanager.tiers.warm.mongo.server import ExactReads, Facts, Standalone, examine, prepare
from sessionmanager.tiers.warm.mongo.trail import TrailBook, document_of
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
from sessionmanager.words import Instant, Key

POOL_MAX: Final = 100
TIMEOUT_SECONDS: Final = 5.0
COUNTS_AGE_SECONDS: Final = 8.0
"""How old counts of all tenants may be; the promise is 10 seconds."""
CLOSE_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_mongo(
    url: str,
    *,
    standalone: Standalone = "refused",
    pool_max: int = POOL_MAX,
    timeout_seconds: float = TIMEOUT_SECONDS,
    exact_reads: ExactReads = "measure",
    counts_age_seconds: float = COUNTS_AGE_SECONDS,
) -> AsyncGenerator[Warm]:
    """The warm tier in the database of `url`; `sessionmanager` where it names none. Collections and indexes are made.

    Args: standalone: whether a server that is in no replica set will do. pool_max: connections of this process.
    timeout_seconds: what one call of the driver may take, where its caller's deadline leaves it so long. exact_reads:
    `measure` asks the server for linearizable reads and, where it has none, has each followed by a write (`witnessed`).
    counts_age_seconds: how old the counts of all tenants may be, 0 = each call counts.
    Raises: ValueError for a URL that cannot be read or would weaken a promise, without any value of it; TierUnavailable
    for a server that cannot be reached or cannot keep the promises. Cost: about ten round trips.
    """
    async with open_link(url, pool_max=pool_max, timeout_seconds=timeout_seconds) as link:
        clock = Clock(link.server_time)
        await clock.look()
        facts = await examine(link, standalone, exact_reads)
        link.linearizable = facts.linearizable
        await prepare(link)
        warm = MongoWarm(link, clock, lists.Counts(link, clock.now, counts_age_seconds))
        link.primary.on_change = clock.primary_changed
        _tell(facts, link)
        await warm.book.begin()
        # In contexts of their own: no deadline of whoever opens, or closes, is theirs.
        tasks = [asyncio.create_task(work, context=Context()) for work in (clock.run(), warm.book.run())]
        try:
            yield warm
        finally:
            clock.stop()
            warm.book.stop()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            await asyncio.create_task(warm.book.close(), context=Context())


def _tell(facts: Facts, link: Link) -> None:
    (_log.warning if facts.warnings else _log.info)(
        "warm.opened",
        backend="mongodb",
        server=facts.kind,
        version=facts.version,
        database=link.database.name,
        exact_reads="linearizable" if facts.linearizable else "witnessed",
        retry_writes=link.client.options.retry_writes,
        warnings=list(facts.warnings),
    )


class MongoWarm:
    """`Warm` on MongoDB. Holds no session: any number of these may share a database."""

    def __init__(self, link: Link, clock: Clock, counts: lists.Counts) -> None:
        self._link = link
        self._clock = clock
        self._counts = counts
        self.book = TrailBook(link, clock)
        self._commits = Commits(link, clock, self.book)

    # -- heads

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        return await heads.load(self._link, key, tail)

    async def commit(self, change: Change) -> None:
        await self._commits.commit(change)

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        return await heads.read(self._link, key, after, before, limit, descending)

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        found = await heads.find_commit(self._link, key, after_rev, commit_id)
        if found is None:
            return None
        rev, items = found
        for item in items:  # whoever asks got no answer, and so nobody has copied the line, or the rows
            if "t" in item:
                self.book.take(self.now(), document_of(key.tenant, key.id, item["c"], item["t"]))
            for update in calls.updates_of(key.tenant, key.id, item.get("l", ())):
                self.book.take(self.now(), update)
        return rev

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        return await heads.find_key(self._link, key, scope)

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        return await heads.find_entry_ids(self._link, key, hashes)

    async def list(self, query: ListQuery) -> ListPage:
        return await lists.list_sessions(self._link, query)

    async def due(self, now: Instant, limit: int) -> list[Key]:
        return await lists.due(self._link, now, limit)

    def now(self) -> Instant:
        return self._clock.now()

    def clock_error(self) -> float:
        return self._clock.error_seconds if self._clock.is_fresh else inf

    # -- bodies

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        await bodies.put_body(self._link, key, body_id, data)

    async def get_body(self, key: Key, body_id: str) -> bytes:
        return await bodies.get_body(self._link, key, body_id)

    async def list_bodies(self, key: Key) -> list[str]:
        return await bodies.list_bodies(self._link, key)

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        await bodies.drop_bodies(self._link, key, body_ids)

    async def purge(self, key: Key) -> None:
        await self.book.flush()
        await bodies.purge(self._link, key)

    # -- records, trail, counts

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        return await records.get_record(self._link, tenant, kind, record_id)

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        await records.put_record(self._link, tenant, kind, record_id, data, rev, expires_at)

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        return await records.list_records(self._link, tenant, kind, after, prefix, limit)

    async def note(self, lines: Sequence[Trail]) -> None:
        await self.book.note(lines)

    async def trail(self, query: TrailQuery) -> TrailPage:
        await self.book.flush()
        return await trail_pages.page(self._link, query)

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        return await self._counts.of(tenant)

    async def sweep(self, now: Instant, limit: int) -> int:
        await self.book.recover(now)
        return await records.sweep(self._link, now, limit)

    # -- calls

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        if instead_of is not None:
            await self.book.flush()
        return await calls.claim_call(self._link, tenant, call_id, session, instead_of)

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        await self.book.flush()
        return await calls.find_call(self._link, tenant, call_id)

    async def list_calls(self, query: CallQuery) -> CallPage:
        await self.book.flush()
        return await calls.list_calls(self._link, query, await self.book.copied_until())

    async def live_calls(self) -> Mapping[str, int]:
        await self.book.flush()
        return await calls.live_calls(self._link)
