"""Warm: a register with a log, the one authority for commits.

Four small protocols that one backend keeps together: heads and their tails, bodies, records, calls. Every backend keeps
every promise here; none is optional. They raise only NotFound, RevConflict, AlreadyExists, TierUnavailable (nothing was
written), OutcomeUnknown (a write may stand) and DataCorrupt: no driver's error gets out. Every read here is
linearizable unless it says otherwise. Cost is in round trips to the backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from sessionmanager.model.change import CallRow, Change, KeyRecord, Trail
from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.words import Instant, Key


class Loaded(NamedTuple):
    """A head and the newest lines of its tail, ascending; taken at one moment."""

    stored: Stored
    tail: tuple[StoredEntry, ...]


class Position(NamedTuple):
    """Where a page of a list ended: the value it is sorted by and the id that breaks ties."""

    at: Instant
    id: str


class ListQuery(NamedTuple):
    """A page of summaries of one tenant, newest first.

    terms: all must match (`model/listing.py`). sort: `created_at` (stable under inserts) or `last_activity`.
    The four bounds are instants: `after` inclusive, `before` exclusive. scan_max: rows looked at before the page ends.
    """

    tenant: str
    limit: int
    terms: tuple[str, ...] = ()
    sort: str = "created_at"
    after: Position | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    active_after: Instant | None = None
    active_before: Instant | None = None
    scan_max: int = 10_000


class ListPage(NamedTuple):
    """Summaries (`Stored` with `SUMMARY_PARTS`), and where to go on; None = there is no more."""

    items: tuple[Stored, ...]
    next: Position | None


class TrailQuery(NamedTuple):
    """A page of audit lines of one tenant, newest first; `before` is the number of the last line seen."""

    tenant: str
    limit: int
    before: int | None = None
    actor: str | None = None
    session: str | None = None
    action: str | None = None
    outcome: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    scan_max: int = 10_000


class TrailPage(NamedTuple):
    """Lines of the trail, newest first, each with its place; and where to go on, None = there is no more."""

    items: tuple[tuple[int, Trail], ...]
    next: int | None


class Record(NamedTuple):
    """A small document beside sessions (a tenant's key, settings, a revocation, an attachment's pointer)."""

    id: str
    rev: int
    data: bytes


CallSort = Literal["started_at", "settled_at"]


class FoundCall(NamedTuple):
    """Whose a call is. row: None as long as no commit of that session has written it."""

    session: str
    row: CallRow | None


class CallQuery(NamedTuple):
    """A page of calls of one tenant.

    equal: (column, value) of `CALL_COLUMNS`, which all must match. sort: `started_at`, newest first, or `settled_at`,
    of ended calls alone, oldest first. The four bounds are instants: `after` inclusive, `before` exclusive.
    scan_max: rows looked at before the page ends.
    """

    tenant: str
    limit: int
    equal: tuple[tuple[str, str], ...] = ()
    sort: CallSort = "started_at"
    after: Position | None = None
    started_after: Instant | None = None
    started_before: Instant | None = None
    settled_after: Instant | None = None
    settled_before: Instant | None = None
    scan_max: int = 10_000


class CallPage(NamedTuple):
    """Calls, and where to go on; None = there is no more. complete_until: what settled before then is all there, also
    of processes that were killed; later rows may still come between."""

    items: tuple[CallRow, ...]
    next: Position | None
    complete_until: Instant


CALL_COLUMNS: Final = ("session", "caller", "callee", "state", "gateway", "direction")
"""What lists of calls filter by, the rarest values first: the first of them that is given leads the walk."""


class WarmHeads(Protocol):
    """Heads, tails and what makes their commits safe to repeat."""

    async def load(self, key: Key, *, tail: int = 0) -> Loaded:
        """The newest committed head with all its parts, and at most `tail` of its newest unsealed lines.

        A tombstone is answered as a `Stored` whose `tombstone` is set. Raises NotFound. Cost: one read.
        """
        ...

    async def commit(self, change: Change) -> None:
        """Move the head from `change.rev` to `rev + 1` with all that the change names: everything or nothing.

        Durable on return; the cost does not grow with the log. Raises RevConflict (not at `rev`, or it exists though
        `rev` is 0; nothing written), OutcomeUnknown (no answer came: `find_commit` before repeating).
        """
        ...

    async def read(
        self, key: Key, *, after: int, before: int, limit: int, descending: bool = False
    ) -> list[StoredEntry]:
        """Unsealed lines with `after < seq < before`, at most `limit`. A session that is not there has none."""
        ...

    async def find_commit(self, key: Key, after_rev: int, commit_id: bytes) -> int | None:
        """The rev of the commit with this id, looked for among commits after `after_rev`; None = it never landed
        and, since `rev` has moved on, never will. Exact for at least 24 hours."""
        ...

    async def find_key(self, key: Key, scope: bytes) -> KeyRecord | None:
        """The record of an idempotency key, exact for at least 24 hours after its commit; none of an erased session."""
        ...

    async def find_entry_ids(self, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
        """Which of these entry ids the session already has, with their seqs; for ever, until it is erased."""
        ...

    async def list(self, query: ListQuery) -> ListPage:
        """A page of summaries; may be up to 10 s behind. Tombstones are never listed. Cost: at most `scan_max` rows."""
        ...

    async def due(self, now: Instant, limit: int) -> list[Key]:
        """Sessions whose `due_at` is not after `now`, the longest due first."""
        ...

    def now(self) -> Instant:
        """Warm's clock, by which leases and timers are judged; never goes back while the tier is open. No call."""
        ...

    def clock_error(self) -> float:
        """Seconds by which `now` may be off at this moment, either way, and with it an instant that was just taken from
        it: what is to be taken off every lease. Infinite while nobody knows; 0 where there is one clock. No call."""
        ...


class WarmBodies(Protocol):
    """Immutable bodies that have not moved to cold: segments and nodes of the index. Insert only."""

    async def put_body(self, key: Key, body_id: str, data: bytes) -> None:
        """Keep `data` under an id never used before. The same bytes again are fine; others raise AlreadyExists."""
        ...

    async def get_body(self, key: Key, body_id: str) -> bytes:
        """Raises NotFound, DataCorrupt."""
        ...

    async def list_bodies(self, key: Key) -> list[str]:
        """The ids of all bodies that are kept here for a session, pointed to or not. One read."""
        ...

    async def drop_bodies(self, key: Key, body_ids: Sequence[str]) -> None:
        """Forget these bodies; those that are not there are passed over."""
        ...

    async def purge(self, key: Key) -> None:
        """Remove all that an erased session left (lines, bodies, key records, entry ids) but its tombstone.

        Only for a session that is a tombstone; repeating it is harmless. Afterwards the bytes are gone from the files.
        """
        ...


class WarmRecords(Protocol):
    """Small documents beside sessions, the audit trail, and counts."""

    async def get_record(self, tenant: str, kind: str, record_id: str) -> Record | None:
        """The newest state of a record, None if there is none or it was removed. One read."""
        ...

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        """Move a record from `rev` (0 = it must not exist) to `rev + 1`; None removes it. Raises RevConflict."""
        ...

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        """Records in the order of their ids, from the first id after `after`."""
        ...

    async def note(self, lines: Sequence[Trail]) -> None:
        """Keep audit lines that no commit carries (refusals, tokens). Durable on return."""
        ...

    async def trail(self, query: TrailQuery) -> TrailPage:
        """A page of the audit trail. Lines of erased sessions name them by hash."""
        ...

    async def counts(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        """Sessions by (status, placement); of all tenants for None. May be up to 10 s behind."""
        ...

    async def sweep(self, now: Instant, limit: int) -> int:
        """Forget key records and records whose time is over; answers how many went, and `limit` where there may be
        more. Never touches what anybody sees of a session."""
        ...


class WarmCalls(Protocol):
    """What is known of calls beside their sessions. A call is claimed for a session, and then its session's commits
    write its row; the rows of an erased session are never shown, and gone with its purge."""

    async def claim_call(self, tenant: str, call_id: str, session: str, *, instead_of: str | None = None) -> str:
        """Say that a call belongs to a session, unless another was first; answers whose it is. Durable on return.

        What an erased session claimed is free again. instead_of: so is what this session claimed, as long as no row of
        it is there, which may be a moment behind: whoever gives it has looked at that session's head. Cost: a write,
        and a read where somebody was first.
        """
        ...

    async def find_call(self, tenant: str, call_id: str) -> FoundCall | None:
        """Whose a call is, exactly; its row may be a moment behind its session. None = nobody's. One read."""
        ...

    async def list_calls(self, query: CallQuery) -> CallPage:
        """A page of calls that were written; may be up to 10 s behind. Cost: at most `scan_max` rows."""
        ...

    async def live_calls(self) -> Mapping[str, int]:
        """Calls of all tenants by state, ended ones left out; may be up to 10 s behind."""
        ...


class Warm(WarmHeads, WarmBodies, WarmRecords, WarmCalls, Protocol):
    """All four, as one backend."""
