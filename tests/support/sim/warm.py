"""Warm as dicts: the plainest register with a log, and its way over the network."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sessionmanager.errors import AlreadyExists, NotFound, RevConflict
from sessionmanager.model.change import CallRow, Change, KeyRecord, Listing, Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.model.head import SUMMARY_PARTS
from sessionmanager.tiers.warm.protocol import (
    CallPage,
    CallQuery,
    FoundCall,
    ListPage,
    ListQuery,
    Loaded,
    Position,
    Record,
    TrailPage,
    TrailQuery,
    Warm,
)
from sessionmanager.words import Instant, Key
from tests.support.sim.network import Link


@dataclass
class Row:
    """One session. `lines`: the unsealed tail by seq, ascending."""

    stored: Stored
    lines: dict[int, StoredEntry] = field(default_factory=dict[int, StoredEntry])
    commits: dict[bytes, int] = field(default_factory=dict[bytes, int])
    keys: dict[bytes, KeyRecord] = field(default_factory=dict[bytes, KeyRecord])
    entry_ids: dict[bytes, int] = field(default_factory=dict[bytes, int])
    listing: Listing | None = None
    due_at: Instant | None = None


class ModelWarm:
    """The plainest warm tier: what the others are measured by. `now`: the clock that all replicas go by."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self.rows: dict[Key, Row] = {}
        self.bodies: dict[Key, dict[str, bytes]] = {}
        self.records: dict[tuple[str, str], dict[str, tuple[Record, Instant | None]]] = {}
        self.trails: list[Trail] = []
        self.calls: dict[tuple[str, str], FoundCall] = {}
        self.watch: Callable[[Stored | None, Change], None] = lambda before, change: None
        """Told of each change that was applied, with the head before it."""

    def now(self) -> Instant:
        return self._now()

    def clock_error(self) -> float:
        return 0.0

    # -- heads

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        row = self.rows.get(key)
        if row is None:
            raise NotFound
        lines = tuple(row.lines.values())
        return Loaded(row.stored, lines[-tail:] if tail else ())

    async def commit(self, change: Change) -> None:
        row = self.rows.get(change.key)
        if (row.stored.rev if row else 0) != change.rev:
            raise RevConflict
        self.apply(change)

    def apply(self, change: Change) -> None:
        """What a commit does once its rev was found to be right."""
        key, after = change.key, change.stored
        row = self.rows.get(key)
        before = row.stored if row is not None else None
        parts: dict[str, bytes] = {}
        if row is None:
            row = self.rows[key] = Row(after)
        else:
            parts = {name: data for name, data in row.stored.parts.items() if name not in change.dropped}
        parts |= {name: after.parts[name] for name in change.changed}
        if after.tombstone is not None:
            parts, row.lines = {}, {}
        row.stored = Stored(
            key, change.rev + 1, after.version, parts, placement=after.placement, tombstone=after.tombstone
        )
        row.lines |= {line.seq: line for line in change.entries}
        row.lines = {seq: line for seq, line in sorted(row.lines.items()) if seq >= change.tail_from}
        row.commits[change.commit_id] = change.rev + 1
        row.entry_ids = dict(change.entry_ids) | row.entry_ids  # the first seq of an id stands
        row.due_at = change.due_at
        if change.idempotency is not None:
            row.keys[change.idempotency.scope] = change.idempotency
        if change.trail is not None:
            self.trails.append(change.trail)
        if after.tombstone is not None:
            row.listing = None
        elif change.listing is not None:
            row.listing = change.listing
        for told in change.calls:
            found = self.calls.get((key.tenant, told.id))
            if found is not None and found.session == key.id:
                self.calls[key.tenant, told.id] = FoundCall(key.id, told)
        self.watch(before, change)

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        row = self.rows.get(key)
        lines = [line for seq, line in row.lines.items() if after < seq < before] if row else []
        return (lines[::-1] if descending else lines)[:limit]

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        row = self.rows.get(key)
        rev = row.commits.get(commit_id) if row else None
        return rev if rev is not None and rev > after_rev else None

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        row = self.rows.get(key)
        return row.keys.get(scope) if row and row.stored.tombstone is None else None

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        row = self.rows.get(key)
        return {h: row.entry_ids[h] for h in hashes if h in row.entry_ids} if row else {}

    async def list(self, query: ListQuery) -> ListPage:
        found = sorted(self._listed(query), key=lambda item: item[0], reverse=True)
        if query.after is not None:
            found = [item for item in found if item[0] < query.after]
        page = found[: query.limit]
        items = tuple(
            Stored(
                stored.key,
                stored.rev,
                stored.version,
                {name: stored.parts[name] for name in SUMMARY_PARTS},
                placement=stored.placement,
            )
            for _, stored in page
        )
        return ListPage(items, page[-1][0] if len(found) > len(page) else None)

    def _listed(self, query: ListQuery) -> list[tuple[Position, Stored]]:
        found: list[tuple[Position, Stored]] = []
        for key, row in self.rows.items():
            listing = row.listing
            if listing is None or key.tenant != query.tenant or not set(query.terms) <= set(listing.terms):
                continue
            created = (query.created_after or "") <= listing.created_at < (query.created_before or "~")
            active = (query.active_after or "") <= listing.last_activity < (query.active_before or "~")
            if created and active:
                at = listing.created_at if query.sort == "created_at" else listing.last_activity
                found.append((Position(at, key.id), row.stored))
        return found

    async def due(self, now: Instant, limit: int) -> list[Key]:
        owed = sorted((row.due_at, key) for key, row in self.rows.items() if row.due_at and row.due_at <= now)
        return [key for _, key in owed[:limit]]

    # -- bodies

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        if self.bodies.setdefault(key, {}).setdefault(body_id, data) != data:
            raise AlreadyExists(f"{body_id} holds other bytes")

    async def get_body(self, key: Key, body_id: str) -> bytes:
        body = self.bodies.get(key, {}).get(body_id)
        if body is None:
            raise NotFound(f"there is no body {body_id}")
        return body

    async def list_bodies(self, key: Key) -> list[str]:
        return sorted(self.bodies.get(key, {}))

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        for body_id in body_ids:
            self.bodies.get(key, {}).pop(body_id, None)

    async def purge(self, key: Key) -> None:
        row = self.rows.get(key)
        if row is None or row.stored.tombstone is None:
            return
        row.lines, row.keys, row.entry_ids = {}, {}, {}
        self.bodies.pop(key, None)
        for place in [place for place, call in self.calls.items() if (place[0], call.session) == key]:
            del self.calls[place]
        self.trails = [
            line._replace(session=_hashed(key.id)) if (line.tenant, line.session) == key else line
            for line in self.trails
        ]

    # -- records

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        found = self.records.get((tenant, kind), {}).get(record_id)
        return found[0] if found else None

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        shelf = self.records.setdefault((tenant, kind), {})
        if (shelf[record_id][0].rev if record_id in shelf else 0) != rev:
            raise RevConflict
        if data is None:
            shelf.pop(record_id, None)
        else:
            shelf[record_id] = (Record(record_id, rev + 1, data), expires_at)

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        shelf = self.records.get((tenant, kind), {})
        return [shelf[name][0] for name in sorted(shelf) if name > after and name.startswith(prefix)][:limit]

    async def note(self, lines: Sequence[Trail]) -> None:
        self.trails.extend(lines)

    async def trail(self, query: TrailQuery) -> TrailPage:
        found = [
            (number, line)
            for number, line in reversed(list(enumerate(self.trails, 1)))
            if line.tenant == query.tenant
            and (query.before is None or number < query.before)
            and query.actor in (None, line.actor)
            and (query.session is None or line.session in (query.session, _hashed(query.session)))
            and query.action in (None, line.action)
            and query.outcome in (None, line.outcome)
            and (query.since or "") <= line.at < (query.until or "~")
        ]
        page = found[: query.limit]
        return TrailPage(tuple(page), page[-1][0] if len(found) > len(page) else None)

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        return Counter(
            (row.listing.status, row.listing.placement)
            for key, row in self.rows.items()
            if row.listing is not None and tenant in (None, key.tenant)
        )

    async def sweep(self, now: Instant, limit: int) -> int:
        gone = 0
        for row in self.rows.values():
            for scope in [s for s, record in row.keys.items() if record.expires_at <= now][: limit - gone]:
                del row.keys[scope]
                gone += 1
        for shelf in self.records.values():
            for name in [n for n, (_, end) in shelf.items() if end is not None and end <= now][: limit - gone]:
                del shelf[name]
                gone += 1
        return gone

    # -- calls

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        found = self.calls.get((tenant, call_id))
        freed = found is not None and found.row is None and found.session == instead_of
        if found is None or freed or self._is_erased(Key(tenant, found.session)):
            found = self.calls[tenant, call_id] = FoundCall(session, None)
        return found.session

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        found = self.calls.get((tenant, call_id))
        return None if found is None or self._is_erased(Key(tenant, found.session)) else found

    async def list_calls(self, query: CallQuery) -> CallPage:
        newest_first = query.sort == "started_at"
        found = sorted(self._called(query), key=lambda item: item[0], reverse=newest_first)
        if query.after is not None:
            after = query.after
            found = [item for item in found if (item[0] < after if newest_first else item[0] > after)]
        page = found[: query.limit]
        last = page[-1][0] if len(found) > len(page) else None
        return CallPage(tuple(row for _, row in page), last, self._now())

    def _called(self, query: CallQuery) -> list[tuple[Position, CallRow]]:
        found: list[tuple[Position, CallRow]] = []
        for (tenant, call_id), (session, row) in self.calls.items():
            if tenant != query.tenant or row is None or self._is_erased(Key(tenant, session)):
                continue
            values = row._asdict() | {"session": session}
            started = (query.started_after or "") <= row.started_at < (query.started_before or "~")
            bounded = query.settled_after is not None or query.settled_before is not None
            settled = (query.settled_after or "") <= (row.settled_at or "") < (query.settled_before or "~")
            if not started or (bounded and (row.settled_at is None or not settled)):
                continue
            at = row.started_at if query.sort == "started_at" else row.settled_at
            if at is not None and all(values[name] == value for name, value in query.equal):
                found.append((Position(at, call_id), row))
        return found

    async def live_calls(self) -> Mapping[str, int]:
        return Counter(
            call.row.state
            for (tenant, _), call in self.calls.items()
            if call.row is not None and call.row.state != "ended" and not self._is_erased(Key(tenant, call.session))
        )

    def _is_erased(self, key: Key) -> bool:
        row = self.rows.get(key)
        return row is not None and row.stored.tombstone is not None


def _hashed(session: str) -> str:
    """How the trail names an erased session."""
    return "sha256:" + hashlib.sha256(session.encode()).hexdigest()


class FarWarm:
    """The same at the far end of a link."""

    def __init__(self, warm: Warm, link: Link) -> None:
        self._warm = warm
        self._link = link

    def now(self) -> Instant:
        return self._warm.now()

    def clock_error(self) -> float:
        return self._warm.clock_error()

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        return await self._link.read("load", lambda: self._warm.load(key, tail=tail))

    async def commit(self, change: Change) -> None:
        await self._link.write(f"commit {change.rev + 1}", lambda: self._warm.commit(change))

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        return await self._link.read(
            "read", lambda: self._warm.read(key, after=after, before=before, limit=limit, descending=descending)
        )

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        return await self._link.read("find_commit", lambda: self._warm.find_commit(key, after_rev, commit_id))

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        return await self._link.read("find_key", lambda: self._warm.find_key(key, scope))

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        return await self._link.read("find_entry_ids", lambda: self._warm.find_entry_ids(key, hashes))

    async def list(self, query: ListQuery) -> ListPage:
        return await self._link.read("list", lambda: self._warm.list(query))

    async def due(self, now: Instant, limit: int) -> list[Key]:
        return await self._link.read("due", lambda: self._warm.due(now, limit))

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        await self._link.write(f"put_body {body_id}", lambda: self._warm.put_body(key, body_id, data))

    async def get_body(self, key: Key, body_id: str) -> bytes:
        return await self._link.read(f"get_body {body_id}", lambda: self._warm.get_body(key, body_id))

    async def list_bodies(self, key: Key) -> list[str]:
        return await self._link.read("list_bodies", lambda: self._warm.list_bodies(key))

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        await self._link.write(f"drop_bodies {' '.join(body_ids)}", lambda: self._warm.drop_bodies(key, body_ids))

    async def purge(self, key: Key) -> None:
        await self._link.write("purge", lambda: self._warm.purge(key))

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        return await self._link.read("get_record", lambda: self._warm.get_record(tenant, kind, record_id))

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        await self._link.write(
            f"put_record {kind}",
            lambda: self._warm.put_record(tenant, kind, record_id, data, rev=rev, expires_at=expires_at),
        )

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        return await self._link.read(
            "list_records", lambda: self._warm.list_records(tenant, kind, after=after, prefix=prefix, limit=limit)
        )

    async def note(self, lines: Sequence[Trail]) -> None:
        await self._link.write("note", lambda: self._warm.note(lines))

    async def trail(self, query: TrailQuery) -> TrailPage:
        return await self._link.read("trail", lambda: self._warm.trail(query))

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        return await self._link.read("counts", lambda: self._warm.counts(tenant))

    async def sweep(self, now: Instant, limit: int) -> int:
        return await self._link.write("sweep", lambda: self._warm.sweep(now, limit))

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        return await self._link.write(
            f"claim_call {call_id}",
            lambda: self._warm.claim_call(tenant, call_id, session, instead_of=instead_of),
        )

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        return await self._link.read("find_call", lambda: self._warm.find_call(tenant, call_id))

    async def list_calls(self, query: CallQuery) -> CallPage:
        return await self._link.read("list_calls", lambda: self._warm.list_calls(query))

    async def live_calls(self) -> Mapping[str, int]:
        return await self._link.read("live_calls", self._warm.live_calls)
