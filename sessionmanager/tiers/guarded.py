"""The three kinds of tier, each with a guard around it, and still that tier: the same promises, the same suite.

Which calls are writes is said here: those a caller must find out about when no answer comes. Nothing of hot is one,
since all of it may be lost; and nothing of it is repeated, for warm is asked in its place. Reads of warm and cold are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from sessionmanager.model.change import Change, KeyRecord, Trail
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.guard import Guard
from sessionmanager.tiers.hot.protocol import Copy, Hot, Ring, Signal
from sessionmanager.tiers.retries import Retries
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


class GuardedHot:
    """A `Hot`. `guard` is for health, metrics and shutdown."""

    def __init__(self, hot: Hot, guard: Guard) -> None:
        self.guard = guard
        self._hot = hot

    async def recall(self, key: Key) -> Copy | None:
        return await self.guard.read("recall", self._hot.recall(key))

    async def begin_fill(self, key: Key) -> str | None:
        return await self.guard.read("begin_fill", self._hot.begin_fill(key))

    async def end_fill(self, key: Key, token: str, copy: Copy) -> None:
        await self.guard.read("end_fill", self._hot.end_fill(key, token, copy))

    async def after_commit(self, change: Change, as_of: Instant, trace: str | None = None) -> None:
        await self.guard.read("after_commit", self._hot.after_commit(change, as_of, trace))

    async def drop(self, key: Key) -> None:
        await self.guard.read("drop", self._hot.drop(key))

    async def drop_for_ever(self, key: Key) -> None:
        await self.guard.read("drop_for_ever", self._hot.drop_for_ever(key))

    async def publish(self, key: Key, data: bytes) -> None:
        await self.guard.read("publish", self._hot.publish(key, data))

    @asynccontextmanager
    async def listen(self, key: Key) -> AsyncGenerator[AsyncIterator[Ring | Signal]]:
        """Only the beginning is a call; listening itself may last for ever and is nothing that `drain` waits for."""
        async with AsyncExitStack() as stack:
            rings = await self.guard.read("listen", stack.enter_async_context(self._hot.listen(key)))
            yield rings


class GuardedWarm:
    """A `Warm`. `guard` is for health, metrics and shutdown."""

    def __init__(self, warm: Warm, guard: Guard) -> None:
        self.guard = guard
        self._warm = warm
        self._retries = Retries(guard)

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        return await self._retries.read("load", lambda: self._warm.load(key, tail=tail))

    async def commit(self, change: Change) -> None:
        await self.guard.write("commit", self._warm.commit(change))

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        return await self._retries.read(
            "read", lambda: self._warm.read(key, after=after, before=before, limit=limit, descending=descending)
        )

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        return await self._retries.read("find_commit", lambda: self._warm.find_commit(key, after_rev, commit_id))

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        return await self._retries.read("find_key", lambda: self._warm.find_key(key, scope))

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        return await self._retries.read("find_entry_ids", lambda: self._warm.find_entry_ids(key, hashes))

    async def due(self, now: Instant, limit: int) -> list[Key]:
        return await self._retries.read("due", lambda: self._warm.due(now, limit))

    def now(self) -> Instant:
        return self._warm.now()

    def clock_error(self) -> float:
        return self._warm.clock_error()

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        await self.guard.write("put_body", self._warm.put_body(key, body_id, data))

    async def get_body(self, key: Key, body_id: str) -> bytes:
        return await self._retries.read("get_body", lambda: self._warm.get_body(key, body_id))

    async def list_bodies(self, key: Key) -> list[str]:
        return await self._retries.read("list_bodies", lambda: self._warm.list_bodies(key))

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        await self.guard.write("drop_bodies", self._warm.drop_bodies(key, body_ids))

    async def purge(self, key: Key) -> None:
        await self.guard.write("purge", self._warm.purge(key))

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        return await self._retries.read("get_record", lambda: self._warm.get_record(tenant, kind, record_id))

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        call = self._warm.put_record(tenant, kind, record_id, data, rev=rev, expires_at=expires_at)
        await self.guard.write("put_record", call)

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        return await self._retries.read(
            "list_records", lambda: self._warm.list_records(tenant, kind, after=after, prefix=prefix, limit=limit)
        )

    async def note(self, lines: Sequence[Trail]) -> None:
        await self.guard.write("note", self._warm.note(lines))

    async def trail(self, query: TrailQuery) -> TrailPage:
        return await self._retries.read("trail", lambda: self._warm.trail(query))

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        return await self._retries.read("counts", lambda: self._warm.counts(tenant))

    async def sweep(self, now: Instant, limit: int) -> int:
        return await self.guard.write("sweep", self._warm.sweep(now, limit))

    async def list(self, query: ListQuery) -> ListPage:
        return await self._retries.read("list", lambda: self._warm.list(query))

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        call = self._warm.claim_call(tenant, call_id, session, instead_of=instead_of)
        return await self.guard.write("claim_call", call)

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        return await self._retries.read("find_call", lambda: self._warm.find_call(tenant, call_id))

    async def list_calls(self, query: CallQuery) -> CallPage:
        return await self._retries.read("list_calls", lambda: self._warm.list_calls(query))

    async def live_calls(self) -> Mapping[str, int]:
        return await self._retries.read("live_calls", self._warm.live_calls)


class GuardedCold:
    """A `Cold`. `guard` is for health, metrics and shutdown."""

    def __init__(self, cold: Cold, guard: Guard) -> None:
        self.guard = guard
        self._cold = cold
        self._retries = Retries(guard)

    async def put_once(self, name: str, data: bytes) -> None:
        await self.guard.write("put_once", self._cold.put_once(name, data))

    async def get(self, name: str) -> bytes:
        return await self._retries.read("get", lambda: self._cold.get(name))

    async def remove(self, name: str) -> None:
        await self.guard.write("remove", self._cold.remove(name))

    async def list(self, prefix: str) -> list[str]:
        return await self._retries.read("list", lambda: self._cold.list(prefix))
