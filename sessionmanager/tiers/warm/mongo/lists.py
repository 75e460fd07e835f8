"""Lists, due sessions and counts: reads of many documents, each through the index that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sessionmanager.model import instants
from sessionmanager.model.codec import Stored
from sessionmanager.tiers.warm.mongo.heads import SUMMARY, stored_of
from sessionmanager.tiers.warm.mongo.layout import Document
from sessionmanager.tiers.warm.mongo.link import Link
from sessionmanager.tiers.warm.protocol import ListPage, ListQuery, Position
from sessionmanager.words import PLACEMENTS, STATUSES, Instant, Key

PROBE_ROWS: Final = 200
"""How far each term is counted to find the rarest, which then leads."""
_TALLIES: Final = tuple(f"{status}/{placement}" for status in STATUSES for placement in PLACEMENTS)
_BOUNDS: Final = {
    "created_at": ("created_after", "created_before"),
    "last_activity": ("active_after", "active_before"),
}


async def list_sessions(link: Link, query: ListQuery) -> ListPage:
    """See `WarmHeads.list`. One index gives the order; what it cannot say is looked at in each document, of which no
    more than `scan_max` are.

    Cost: one read; one more where there is something to look at, and one short count for each of several terms.
    """
    terms = await _rarest_first(link, query)
    by_term = bool(terms) and query.sort == "created_at"
    index = "by_facet" if by_term else "by_created" if query.sort == "created_at" else "by_activity"
    walk = _walk(query, terms[:1] if by_term else ())
    wanted = _wanted(query, terms[1:] if by_term else terms)
    order = [(query.sort, -1), ("_id", -1)]
    last_looked: Document | None = None
    if wanted:
        with link.reading():
            walked = link.sessions.find(_all_of(walk), {"id": 1, query.sort: 1}).sort(order).hint(index)
            ends = await walked.skip(query.scan_max - 1).limit(2).to_list()
        if len(ends) == 2:
            last_looked = ends[0]
            walk = [*walk, _from(query.sort, last_looked)]
    with link.reading():
        found = link.sessions.find(_all_of([*walk, *wanted]), SUMMARY | {query.sort: 1}).sort(order).hint(index)
        documents = await found.limit(query.limit + 1).to_list()
    items = tuple(_summary(document) for document in documents[: query.limit])
    end = documents[query.limit - 1] if len(documents) > query.limit else last_looked
    return ListPage(items, Position(end[query.sort], end["id"]) if end is not None else None)


async def _rarest_first(link: Link, query: ListQuery) -> tuple[str, ...]:
    """The terms, each once, with the rarest in front where that decides how far the walk is."""
    terms = tuple(dict.fromkeys(query.terms))
    if len(terms) < 2 or query.sort != "created_at":
        return terms
    counts: dict[str, int] = {}
    for term in terms:
        with link.reading():
            where = {"tenant": query.tenant, "facets": term}
            counts[term] = await link.sessions.count_documents(where, limit=PROBE_ROWS, hint="by_facet")
    return tuple(sorted(terms, key=lambda term: counts[term]))


def _walk(query: ListQuery, lead: tuple[str, ...]) -> list[Document]:
    """What the index says by itself: tenant, leading term, bounds of the order, where the last page ended."""
    # A session without a listing has no such field, and a text is never more than nothing.
    order = {"$gt": ""} | _bounds(query, query.sort)
    conditions: list[Document] = [{"tenant": query.tenant}, *({"facets": term} for term in lead)]
    if query.after is not None:
        at, session_id = query.after
        conditions += [
            {query.sort: {"$lte": at}},
            {"$or": [{query.sort: {"$lt": at}}, {"_id": {"$lt": Key(query.tenant, session_id).text}}]},
        ]
    return [*conditions, {query.sort: order}]


def _wanted(query: ListQuery, terms: tuple[str, ...]) -> list[Document]:
    """What has to be looked at in each document."""
    other = "last_activity" if query.sort == "created_at" else "created_at"
    bounds = _bounds(query, other)
    return [*({"facets": term} for term in terms), *([{other: bounds}] if bounds else [])]


def _bounds(query: ListQuery, field: str) -> Document:
    after, before = (getattr(query, name) for name in _BOUNDS[field])
    return {operator: at for operator, at in (("$gte", after), ("$lt", before)) if at is not None}


def _from(sort: str, last: Document) -> Document:
    """Down to this document, itself included."""
    return {"$or": [{sort: {"$gt": last[sort]}}, {sort: last[sort], "_id": {"$gte": last["_id"]}}]}


def _all_of(conditions: list[Document]) -> Document:
    return {"$and": conditions}


def _summary(document: Document) -> Stored:
    return stored_of(Key(document["tenant"], document["id"]), document)


async def due(link: Link, now: Instant, limit: int) -> list[Key]:
    """See `WarmHeads.due`. A hint, not a claim: whoever acts on it decides on the head."""
    if limit <= 0:
        return []
    with link.reading():
        found = link.sessions.find({"due_at": {"$lte": now}}, {"tenant": 1, "id": 1}).sort("due_at", 1).limit(limit)
        return [Key(one["tenant"], one["id"]) async for one in found]


async def count(link: Link, tenant: str | None) -> Mapping[tuple[str, str], int]:
    """Sessions by (status, placement), from the index alone. Cost: grows with the sessions that are counted."""
    where: Document = {"tally": {"$in": list(_TALLIES)}} | ({"tenant": tenant} if tenant is not None else {})
    with link.reading():
        grouped = await link.sessions.aggregate([{"$match": where}, {"$group": {"_id": "$tally", "n": {"$sum": 1}}}])
        found = {one["_id"]: int(one["n"]) async for one in grouped}
    return {_split(tally): number for tally, number in found.items()}


def _split(tally: str) -> tuple[str, str]:
    status, _, placement = tally.partition("/")
    return status, placement


class Counts:
    """Counts of all tenants, made by one process and read by the others: counting grows with the sessions there are.

    age_seconds: how old a count may be when it is shown; 0 = each is made anew.
    """

    def __init__(self, link: Link, now: Callable[[], Instant], age_seconds: float) -> None:
        self._link = link
        self._now = now
        self._age_seconds = age_seconds

    async def of(self, tenant: str | None) -> Mapping[tuple[str, str], int]:
        """See `WarmRecords.counts`."""
        if tenant is not None or self._age_seconds <= 0:
            return await count(self._link, tenant)
        state = self._link.state
        oldest = instants.plus(self._now(), -self._age_seconds)
        with self._link.reading():
            kept = await state.find_one({"_id": "counts"})
        if kept is not None and kept["at"] >= oldest:
            return {_split(tally): number for tally, number in kept["n"].items()}
        now = self._now()
        found = await count(self._link, None)
        fields: Document = {"at": now, "n": {f"{status}/{placement}": n for (status, placement), n in found.items()}}
        with self._link.reading():
            if kept is None:
                await self._link.insert_new(state, [{"_id": "counts", **fields}])
            else:
                await state.update_one({"_id": "counts", "at": kept["at"]}, {"$set": fields})
        return found
