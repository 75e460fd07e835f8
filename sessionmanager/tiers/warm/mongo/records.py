"""Records, and what is swept when its time is over."""

from __future__ import annotations

from typing import Final

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from sessionmanager.errors import OutcomeUnknown, RevConflict
from sessionmanager.model.codec import frame, unframe
from sessionmanager.tiers.warm.mongo.layout import Document, stem, within
from sessionmanager.tiers.warm.mongo.link import Collection, Flight, Link
from sessionmanager.tiers.warm.protocol import Record
from sessionmanager.words import Instant

SWEPT_AT_ONCE_MAX: Final = 500
RINGS_AT_ONCE_MAX: Final = 50
"""Sessions whose rings are read at once: each may hold 128 answers."""
_TWICE: Final = "the write was sent twice, and which of them was refused cannot be seen"


async def get_record(link: Link, tenant: str, kind: str, record_id: str) -> Record | None:
    return await link.exact(link.records, lambda records: look_up(records, tenant, kind, record_id))


async def look_up(records: Collection, tenant: str, kind: str, record_id: str) -> Record | None:
    """The same, as exact as a read of this collection is."""
    start = stem(tenant, kind)
    found = await records.find_one({"_id": start + record_id})
    return _record(start, found) if found is not None else None


async def put_record(
    link: Link, tenant: str, kind: str, record_id: str, data: bytes | None, rev: int, expires_at: Instant | None
) -> None:
    """See `WarmRecords.put_record`. Cost: one write."""
    name = stem(tenant, kind) + record_id
    if rev == 0:
        await _insert(link, name, data, expires_at)
        return
    where = {"_id": name, "rev": rev}
    with link.writing() as flight:
        if data is None:
            count = (await link.records.delete_one(where)).deleted_count
        else:
            update: Document = {"$set": {"rev": rev + 1, "b": frame(data)}}
            if expires_at is None:
                update["$unset"] = {"expires_at": ""}
            else:
                update["$set"]["expires_at"] = expires_at
            count = (await link.records.update_one(where, update)).matched_count
    if count != 1:
        _lost(flight)


async def _insert(link: Link, name: str, data: bytes | None, expires_at: Instant | None) -> None:
    if data is None:  # to remove what must not exist: there is nothing to do, if it does not
        found = await link.exact(link.records, lambda records: records.find_one({"_id": name}, {"rev": 1}))
        if found is not None:
            raise RevConflict
        return
    document: Document = {"_id": name, "rev": 1, "b": frame(data)}
    if expires_at is not None:
        document["expires_at"] = expires_at
    with link.writing() as flight:
        try:
            await link.records.insert_one(document)
            return
        except DuplicateKeyError:
            pass
    _lost(flight)


def _lost(flight: Flight) -> None:
    """A record has no ring that would say whose write moved it: sent twice, nobody can tell."""
    raise RevConflict if flight.sent < 2 else OutcomeUnknown(_TWICE)


async def list_records(link: Link, tenant: str, kind: str, after: str, prefix: str, limit: int) -> list[Record]:
    """Ids sort by their code points, so those with one prefix lie side by side, and the first without it ends them."""
    if limit <= 0:
        return []
    start = stem(tenant, kind)
    wanted = within(start) | {"$gte": start + max(after, prefix)}
    if after >= prefix and after:
        wanted["$gt"] = start + after

    async def ask(records: Collection) -> list[Document]:
        return await records.find({"_id": wanted}).sort("_id", 1).limit(limit).to_list()

    found = [_record(start, one) for one in await link.exact(link.records, ask)]
    return [record for record in found if record.id.startswith(prefix)]


def _record(start: str, document: Document) -> Record:
    return Record(document["_id"].removeprefix(start), document["rev"], unframe(document["b"]))


async def sweep(link: Link, now: Instant, limit: int) -> int:
    """See `WarmRecords.sweep`: keys that have left the ring, keys in rings, records, in this order."""
    gone = await _remove_expired(link, link.keys, now, limit)
    gone += await _sweep_rings(link, now, limit - gone)
    return gone + await _remove_expired(link, link.records, now, limit - gone)


async def _remove_expired(link: Link, collection: Collection, now: Instant, limit: int) -> int:
    gone = 0
    while gone < limit:
        share = min(limit - gone, SWEPT_AT_ONCE_MAX)
        with link.reading():
            found = (
                await collection.find({"expires_at": {"$lte": now}}, {"_id": 1})
                .sort("expires_at", 1)
                .limit(share)
                .to_list()
            )
        if not found:
            break
        with link.writing():
            # Asked again here: what was written anew since the look has another time now.
            where = {"_id": {"$in": [one["_id"] for one in found]}, "expires_at": {"$lte": now}}
            gone += (await collection.delete_many(where)).deleted_count
        if len(found) < share:
            break
    return gone


async def _sweep_rings(link: Link, now: Instant, limit: int) -> int:
    """Take expired keys out of the rings of sessions that nobody writes to any more.

    Each under its session's `rev`, which does not move: whoever commits meanwhile makes it a miss, tried with the next
    sweep. Cost: two round trips for each `RINGS_AT_ONCE_MAX` sessions.
    """
    gone = 0
    while gone < limit:
        share = min(limit - gone, RINGS_AT_ONCE_MAX)
        with link.reading():
            wanted = {"rev": 1, "r0": 1, "r1": 1}
            found = link.sessions.find({"key_at": {"$lte": now}}, wanted).sort("key_at", 1).limit(share)
            sessions = await found.to_list()
        updates: list[UpdateOne] = []
        swept = 0
        for session in sessions:
            if gone + swept >= limit:
                break
            count, update = _swept_ring(session, now, limit - gone - swept)
            updates.append(UpdateOne({"_id": session["_id"], "rev": session["rev"]}, update))
            swept += count
        if not updates:
            break
        with link.writing():
            matched = (await link.sessions.bulk_write(updates, ordered=False)).matched_count
        gone += swept if matched == len(updates) else matched  # which were missed is not told; each had at least one
        if not matched or len(sessions) < share:
            break
    return gone


def _swept_ring(session: Document, now: Instant, limit: int) -> tuple[int, Document]:
    """How many keys go from one session's ring, and the update that does it."""
    swept = 0
    left: list[Instant] = []
    halves: Document = {}
    for half in ("r0", "r1"):
        halves[half] = items = [dict(item) for item in session.get(half, ())]
        for item in items:
            if "k" in item and item["k"]["x"] <= now and swept < limit:
                del item["k"]
                swept += 1
            elif "k" in item:
                left.append(item["k"]["x"])
    update: Document = {"$set": halves}
    if left:
        halves["key_at"] = min(left)
    else:
        update["$unset"] = {"key_at": ""}
    return swept, update
