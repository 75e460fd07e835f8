"""One `Change` as one insert or one update: all of it, or nothing.

Steps of a commit: 1. where the commit begins a half of the ring or buries the session, what will leave the ring is
written to its collections   2. one compare-and-set on `rev`   3. the audit line is copied, beside it, and so
are rows of calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pymongo.errors import BulkWriteError, DuplicateKeyError

from sessionmanager.errors import OutcomeUnknown, RevConflict, SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.change import Change, Listing
from sessionmanager.model.codec import encode_tombstone, frame
from sessionmanager.tiers.warm.mongo import calls, errors
from sessionmanager.tiers.warm.mongo.clock import Clock
from sessionmanager.tiers.warm.mongo.layout import (
    COMMITS_KEPT_SECONDS,
    RING_HALF,
    Document,
    Item,
    begins_half,
    half_of,
    session_stem,
)
from sessionmanager.tiers.warm.mongo.link import Collection, Flight, Link
from sessionmanager.tiers.warm.mongo.trail import TrailBook, document_of, line_of, lines_in
from sessionmanager.words import Instant, Key

_LISTED: Final = ("facets", "created_at", "last_activity", "tally")


class Commits:
    """Writes changes. Holds nothing of a session between two calls."""

    def __init__(self, link: Link, clock: Clock, book: TrailBook) -> None:
        self._link = link
        self._clock = clock
        self._book = book

    async def commit(self, change: Change) -> None:
        """See `WarmHeads.commit`. Cost: one round trip; once in 64 commits a read and a round of inserts before."""
        assert change.stored.rev == change.rev + 1, "a change that does not follow its rev"
        now = self._clock.now()
        item = self._item(change)
        try:
            if change.rev == 0:
                await self._create(change, _first_document(change, item, now))
            else:
                await self._update(change, item, now)
        except (OutcomeUnknown, asyncio.CancelledError):
            self._book.owe(now)  # it may stand, with a line in the ring that nobody copies
            raise
        if "t" in item:
            self._book.take(now, document_of(change.key.tenant, change.key.id, item["c"], item["t"]))
        for update in calls.updates_of(change.key.tenant, change.key.id, item.get("l", ())):
            self._book.take(now, update)

    async def _create(self, change: Change, document: Document) -> None:
        with self._link.writing() as flight:
            try:
                await self._link.sessions.insert_one(document)
                return
            except DuplicateKeyError:
                pass
        await self._lost(change, flight)

    async def _update(self, change: Change, item: Item, now: Instant) -> None:
        spilled: int | None = None
        rev = change.rev + 1
        if change.stored.tombstone is not None or (begins_half(rev) and rev >= 2 * RING_HALF):
            # Crash here: some of what was written is in the ring as well, which says the same.
            spilled = await self._spill(change, now)
        where: Document = {"_id": change.key.text, "rev": change.rev}
        if change.stored.tombstone is None:
            where["tombstone"] = None  # not there: an erased session stays erased, whatever its rev
        update = _update_of(change, item, now, spilled)
        with self._link.writing() as flight:
            result = await self._link.sessions.update_one(where, update)
        if result.matched_count != 1:
            await self._lost(change, flight)

    async def _lost(self, change: Change, flight: Flight) -> None:
        """The head is not at `rev`. Where the driver sent the write twice, it may be our own first sending that moved
        it: then the ring says so, and the commit stands. Raises RevConflict, OutcomeUnknown."""
        if flight.sent < 2:
            raise RevConflict
        try:
            found = await self._link.exact(
                self._link.sessions,
                lambda sessions: sessions.find_one(
                    {"_id": change.key.text}, {f"r{half}": {"$elemMatch": {"c": change.commit_id}} for half in (0, 1)}
                ),
            )
        except SessionManagerError as error:
            raise OutcomeUnknown("the write was sent twice, and what became of it cannot be seen") from error
        items = [*(found or {}).get("r0", ()), *(found or {}).get("r1", ())]
        if not any(item["r"] == change.rev + 1 for item in items):
            raise RevConflict

    def _item(self, change: Change) -> Item:
        item: Item = {"r": change.rev + 1, "c": change.commit_id}
        record = change.idempotency
        if record is not None:
            item["k"] = {
                "s": record.scope,
                "q": record.request,
                "v": record.version,
                "a": frame(record.answer),
                "x": record.expires_at,
            }
        if change.entry_ids:
            item["h"] = [digest for digest, _ in change.entry_ids]
            item["q"] = [seq for _, seq in change.entry_ids]
        if change.trail is not None:
            item["t"] = line_of(self._book.numbers.next(), change.trail)
        if change.calls:
            item["l"] = [calls.line_of(row) for row in change.calls]
        return item

    # -- the ring

    async def _spill(self, change: Change, now: Instant) -> int:
        """Write to their collections what the commit will take out of the ring; answers the last rev of it.

        Raises RevConflict (not at `rev`) and TierUnavailable: nothing of the commit itself was written yet.
        """
        rev, whole = change.rev + 1, change.stored.tombstone is not None
        halves = ("r0", "r1") if whole else (half_of(rev),)
        wanted = dict.fromkeys(("rev", "tenant", "id", *halves), 1)
        session = await self._link.exact(
            self._link.sessions, lambda sessions: sessions.find_one({"_id": change.key.text}, wanted)
        )
        if session is None or session["rev"] != change.rev:
            raise RevConflict
        items: list[Item] = sorted(
            [item for half in halves for item in session.get(half, ())], key=lambda item: item["r"]
        )
        await self._keep(change.key, items, now)
        await self._book.copy(lines_in(session), calls.updates_in(session))
        return change.rev if whole else rev - RING_HALF - 1

    async def _keep(self, key: Key, items: Sequence[Item], now: Instant) -> None:
        """Write commit ids, key records and entry ids of ring items; harmless to repeat, late or by two at once."""
        if not items:
            return
        stem = session_stem(key)
        commits: Document = {
            "_id": f"{stem}{items[-1]['r']:016d}",
            "i": [{"r": item["r"], "c": item["c"]} for item in items],
            "x": datetime.fromtimestamp(instants.to_ms(now) / 1000 + COMMITS_KEPT_SECONDS, UTC),
        }
        ids: list[Document] = [
            {"_id": f"{stem}{digest.hex()}", "n": seq}
            for item in items
            for digest, seq in zip(item.get("h", ()), item.get("q", ()), strict=True)
        ]
        records: dict[str, Document] = {}
        for item in items:
            if "k" in item:
                record = item["k"]
                name = f"{stem}{record['s'].hex()}"
                records[name] = {"_id": name, "r": item["r"], "k": record, "expires_at": record["x"]}
        await asyncio.gather(
            self._insert(self._link.commits, [commits]),
            self._insert(self._link.entry_ids, list({one["_id"]: one for one in reversed(ids)}.values())),
            self._keep_records(list(records.values())),
        )

    async def _insert(self, collection: Collection, documents: Sequence[Document]) -> None:
        with self._link.reading():
            await self._link.insert_new(collection, documents)

    async def _keep_records(self, records: Sequence[Document]) -> None:
        """Insert key records. Where a key has an older one it is replaced; a newer one stands, however late we are."""
        if not records:
            return
        keys = self._link.keys
        with self._link.reading():
            try:
                await keys.insert_many(records, ordered=False)
            except BulkWriteError as error:
                if not errors.only_duplicates(error):
                    raise
                for record in records:
                    older = {"_id": record["_id"], "r": {"$lt": record["r"]}}
                    await keys.update_one(older, {"$set": {name: record[name] for name in ("r", "k", "expires_at")}})


# -- documents


def _first_document(change: Change, item: Item, now: Instant) -> Document:
    key, stored = change.key, change.stored
    document: Document = {
        "_id": key.text,
        "tenant": key.tenant,
        "id": key.id,
        "rev": 1,
        "version": stored.version,
        "placement": stored.placement,
        "committed_at": now,
        "parts": {name: frame(stored.parts[name]) for name in change.changed},
        "tail": _lines(change),
        "r0": [],
        "r1": [],
        "spilled": 0,
    }
    document[half_of(1)] = [item]
    if change.due_at is not None:
        document["due_at"] = change.due_at
    if change.idempotency is not None:
        document["key_at"] = change.idempotency.expires_at
    if change.listing is not None:
        document |= _listed(change.listing)
    return document


def _update_of(change: Change, item: Item, now: Instant, spilled: int | None) -> Document:
    """The update of any commit but the first. `spilled`: what has left the ring, where that moves."""
    stored, rev = change.stored, change.rev + 1
    sets: Document = {
        "rev": rev,
        "version": stored.version,
        "placement": stored.placement,
        "committed_at": now,
    }
    unsets: Document = {}
    update: Document = {"$set": sets}
    half = half_of(rev)
    if spilled is None:
        update["$push"] = {half: item}
    else:
        sets[half] = [item]
        update["$max"] = {"spilled": spilled}
    if change.due_at is None:
        unsets["due_at"] = ""
    else:
        sets["due_at"] = change.due_at
    if stored.tombstone is not None:
        sets["tombstone"] = frame(encode_tombstone(stored.tombstone))
        sets |= {"r1" if half == "r0" else "r0": [], "tail": []}
        unsets |= dict.fromkeys(("parts", "key_at", *_LISTED), "")
    else:
        sets |= {f"parts.{name}": frame(stored.parts[name]) for name in change.changed}
        unsets |= {f"parts.{name}": "" for name in change.dropped}
        if change.listing is not None:
            sets |= _listed(change.listing)
        if change.idempotency is not None:
            update["$min"] = {"key_at": change.idempotency.expires_at}
        _move_tail(change, update)
    if unsets:
        update["$unset"] = unsets
    return update


def _move_tail(change: Change, update: Document) -> None:
    """Add lines and take away those below `tail_from`. `$push` and `$pull` of one array do not go together, but the
    tail has no gap: what stays is its last so many lines, which `$slice` can say."""
    if change.entries:
        pushed: Document = {"$each": _lines(change)}
        if change.tail_from:
            pushed["$slice"] = -max(change.entries[-1].seq - change.tail_from + 1, 0)
        update.setdefault("$push", {})["tail"] = pushed
    elif change.tail_from:
        update["$pull"] = {"tail": {"s": {"$lt": change.tail_from}}}


def _lines(change: Change) -> list[Document]:
    return [{"s": seq, "b": frame(data)} for seq, data in change.entries]


def _listed(listing: Listing) -> Document:
    return {
        "facets": list(listing.terms),
        "created_at": listing.created_at,
        "last_activity": listing.last_activity,
        "tally": f"{listing.status}/{listing.placement}",
    }
