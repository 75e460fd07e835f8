"""Rows of calls: claims, look-ups, lists; and how rows ride in the ring of their session's commits.

A row is a document that a claim inserts and that copies only ever update, and only forward: what a purge has removed no
late copy brings back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from sessionmanager.model.change import CallRow
from sessionmanager.model.codec import frame, unframe
from sessionmanager.tiers.warm.mongo.layout import Document, stem
from sessionmanager.tiers.warm.mongo.link import Link
from sessionmanager.tiers.warm.protocol import CALL_COLUMNS, CallPage, CallQuery, FoundCall, Position
from sessionmanager.words import LIVE_CALL_STATES, Instant, Key

CLAIMS_MAX: Final = 4
"""How often a claim is tried again because the one before it was just given up."""
FIELDS: Final = ("state", "gateway", "direction", "caller", "callee", "started_at", "settled_at")
_INDEXES: Final = {"session": "by_session", "caller": "by_caller", "callee": "by_callee", "state": "by_state"}
_BOUNDS: Final = {
    "started_at": ("started_after", "started_before"),
    "settled_at": ("settled_after", "settled_before"),
}


def line_of(row: CallRow) -> list[Any]:
    """A row as an item of the ring keeps it; tenant and session are the document's."""
    return [row.id, row.version, *(getattr(row, name) for name in FIELDS), frame(row.data)]


def updates_of(tenant: str, session: str, lines: Sequence[Sequence[Any]]) -> list[UpdateOne]:
    """What copies these rows: harmless to repeat, late, or by two at once."""
    updates: list[UpdateOne] = []
    for call_id, version, *values, data in lines:
        fields: Document = dict(zip(FIELDS, values, strict=True))
        sets = {name: value for name, value in fields.items() if value is not None} | {"v": version, "b": data}
        update: Document = {"$set": sets}
        unset = {name: "" for name, value in fields.items() if value is None}
        if unset:
            update["$unset"] = unset
        updates.append(UpdateOne({"_id": _name(tenant, call_id), "session": session, "v": {"$lt": version}}, update))
    return updates


def updates_in(session: Document) -> list[UpdateOne]:
    """The rows in the ring of a session."""
    items = sorted([*session.get("r0", ()), *session.get("r1", ())], key=lambda item: item.get("r", 0))
    lines = [line for item in items for line in item.get("l", ())]
    return updates_of(session["tenant"], session["id"], lines)


async def copy(link: Link, updates: Sequence[UpdateOne]) -> None:
    """To be called within `reading`: as it may be repeated, no outcome of it is ever unknown."""
    if updates:
        await link.calls.bulk_write(list(updates))


async def claim_call(link: Link, tenant: str, call_id: str, session: str, instead_of: str | None) -> str:
    """See `WarmCalls.claim_call`. Cost: one insert; two reads more where it is claimed."""
    name = _name(tenant, call_id)
    claim: Document = {"_id": name, "tenant": tenant, "id": call_id, "session": session, "v": 0}
    owner = session
    for _ in range(CLAIMS_MAX):
        try:
            with link.writing():
                await link.calls.insert_one(claim)
            return session
        except DuplicateKeyError:
            pass
        found = await link.exact(link.calls, lambda calls: calls.find_one({"_id": name}, {"session": 1, "v": 1}))
        if found is None:
            continue
        owner = found["session"]
        free: Document = {"_id": name, "session": owner}
        if not await _erased(link, tenant, [owner]):
            if owner != instead_of or found["v"]:
                return owner
            free["v"] = 0
        with link.writing():
            await link.calls.delete_one(free)
    return owner


async def find_call(link: Link, tenant: str, call_id: str) -> FoundCall | None:
    """See `WarmCalls.find_call`. Cost: two reads."""
    found = await link.exact(link.calls, lambda calls: calls.find_one({"_id": _name(tenant, call_id)}))
    if found is None or await _erased(link, tenant, [found["session"]]):
        return None
    return FoundCall(found["session"], _row(found) if found["v"] else None)


async def list_calls(link: Link, query: CallQuery, complete_until: Instant) -> CallPage:
    """See `WarmCalls.list_calls`: one index gives the order; what it cannot say is looked at in each document.

    Cost: one read, one more where there is something to look at, and one for sessions that may be erased.
    """
    equal = dict(query.equal)
    assert equal.keys() <= set(CALL_COLUMNS), "a filter that no list has"
    lead = next((name for name in CALL_COLUMNS if name in equal and name in _INDEXES), None)
    if query.sort == "settled_at":
        lead, index = None, "by_end"
    else:
        index = _INDEXES[lead] if lead is not None else "by_start"
    walk: list[Document] = [{"tenant": query.tenant}, {query.sort: {"$gt": ""} | _bounds(query, query.sort)}]
    if lead is not None:
        walk.append({lead: equal.pop(lead)})
    newest_first = query.sort == "started_at"
    if query.after is not None:
        at, call_id = query.after
        beyond = "$lt" if newest_first else "$gt"
        walk.append({"$or": [{query.sort: {beyond: at}}, {query.sort: at, "id": {beyond: call_id}}]})
    other = "settled_at" if newest_first else "started_at"
    wanted: list[Document] = [{name: value} for name, value in equal.items()]
    bounds = _bounds(query, other)
    if bounds:
        wanted.append({other: {"$gt": ""} | bounds})
    order = [(query.sort, -1 if newest_first else 1), ("id", -1 if newest_first else 1)]
    last_looked: Document | None = None
    if wanted:
        with link.reading():
            walked = link.calls.find({"$and": walk}, {"id": 1, query.sort: 1}).sort(order).hint(index)
            ends = await walked.skip(query.scan_max - 1).limit(2).to_list()
        if len(ends) == 2:
            last_looked = ends[0]
            until = {"$gte" if newest_first else "$lte": last_looked[query.sort]}
            inside = {"$gte" if newest_first else "$lte": last_looked["id"]}
            past = {"$gt" if newest_first else "$lt": last_looked[query.sort]}
            walk.append({query.sort: until})
            walk.append({"$or": [{query.sort: past}, {query.sort: last_looked[query.sort], "id": inside}]})
    with link.reading():
        found = link.calls.find({"$and": [*walk, *wanted]}).sort(order).hint(index)
        documents = await found.limit(query.limit + 1).to_list()
    page = documents[: query.limit]
    erased = await _erased(link, query.tenant, {one["session"] for one in page}) if page else frozenset[str]()
    end = page[-1] if len(documents) > query.limit else last_looked
    rows = tuple(_row(one) for one in page if one["session"] not in erased)
    return CallPage(rows, Position(end[query.sort], end["id"]) if end is not None else None, complete_until)


async def live_calls(link: Link) -> dict[str, int]:
    """See `WarmCalls.live_calls`: by the index alone, those of sessions that are being erased included."""
    match: Document = {"state": {"$in": list(LIVE_CALL_STATES)}}
    with link.reading():
        grouped = await link.calls.aggregate([{"$match": match}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}])
        return {one["_id"]: int(one["n"]) async for one in grouped}


async def _erased(link: Link, tenant: str, sessions: Sequence[str] | set[str]) -> frozenset[str]:
    """Those of these sessions that are tombstones."""
    where = {"_id": {"$in": [Key(tenant, one).text for one in sessions]}, "tombstone": {"$exists": True}}
    with link.reading():
        return frozenset([one["id"] async for one in link.sessions.find(where, {"id": 1})])


def _bounds(query: CallQuery, field: str) -> Document:
    after, before = (getattr(query, name) for name in _BOUNDS[field])
    return {operator: at for operator, at in (("$gte", after), ("$lt", before)) if at is not None}


def _name(tenant: str, call_id: str) -> str:
    return stem(tenant) + call_id


def _row(document: Document) -> CallRow:
    values = {name: document.get(name) for name in FIELDS}
    return CallRow(id=document["id"], version=document["v"], data=unframe(document["b"]), **values)  # pyright: ignore[reportArgumentType]
