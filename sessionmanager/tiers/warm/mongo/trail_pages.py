"""Pages of the audit trail: newest first, each looking at no more lines than it may."""

from __future__ import annotations

from typing import Final

from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.mongo.layout import Document, stem, within
from sessionmanager.tiers.warm.mongo.link import Link
from sessionmanager.tiers.warm.mongo.trail import hash_of
from sessionmanager.tiers.warm.protocol import TrailPage, TrailQuery
from sessionmanager.words import Instant, Key

DISORDER_SECONDS: Final = 3600.0
"""How far the times of lines may be out of order with their numbers (the clock of a new primary)."""
_HASHED: Final = "sha256:"
_NEWEST_FIRST: Final = [("_id", -1)]


async def page(link: Link, query: TrailQuery) -> TrailPage:
    """See `WarmRecords.trail`. Cost: one read, one more where lines are filtered, one for names of erased sessions."""
    start = stem(query.tenant)
    walk: Document = {"_id": within(start)}
    if query.before is not None:
        walk["_id"]["$lt"] = f"{start}{max(query.before, 0):016x}"
    hashes: list[bytes] = []
    if query.session is not None:
        hashes = [hash_of(query.session), *_given_hash(query.session)]
        walk["h"] = {"$in": hashes}
    wanted = _wanted(query)
    last_looked: Document | None = None
    if wanted:
        last_looked = await _budget(link, walk, query.scan_max)
        if last_looked is not None:
            walk["_id"]["$gte"] = last_looked["_id"]
    with link.reading():
        found = await link.trail.find(walk | wanted).sort(_NEWEST_FIRST).limit(query.limit + 1).to_list()
    erased = await _erased(link, query.tenant, found)
    lines = [line for line in found[: query.limit] if _is_meant(line, query.session, erased)]
    items = tuple((_number(start, line), _told(query.tenant, line, erased)) for line in lines)
    if len(found) > query.limit:
        return TrailPage(items, _number(start, found[query.limit - 1]))
    if last_looked is None or _is_before(last_looked["at"], query.since):
        return TrailPage(items, None)
    return TrailPage(items, _number(start, last_looked))


async def _budget(link: Link, walk: Document, scan_max: int) -> Document | None:
    """The last line that may be looked at; None where there are not so many."""
    with link.reading():
        walked = link.trail.find(walk, {"at": 1}).sort(_NEWEST_FIRST).skip(scan_max - 1).limit(2)
        lines = await walked.to_list()
    return lines[0] if len(lines) == 2 else None


def _wanted(query: TrailQuery) -> Document:
    """What the order of lines does not say."""
    exact = {"actor": query.actor, "action": query.action, "outcome": query.outcome}
    wanted: Document = {name: value for name, value in exact.items() if value is not None}
    at = {"$gte": query.since, "$lt": query.until}
    at = {operator: instant for operator, instant in at.items() if instant is not None}
    return wanted | ({"at": at} if at else {})


def _is_before(at: Instant, since: Instant | None) -> bool:
    """Whether no line further on can be wanted."""
    return since is not None and at < instants.plus(since, -DISORDER_SECONDS)


def _given_hash(session: str) -> list[bytes]:
    """The hash that stands for an erased session, if it is one."""
    text = session.removeprefix(_HASHED)
    if text == session or len(text) != 64 or text != text.lower():
        return []
    try:
        return [bytes.fromhex(text)]
    except ValueError:
        return []


async def _erased(link: Link, tenant: str, lines: list[Document]) -> set[str]:
    """Which of the sessions that lines name by their id are erased."""
    named = {line["session"] for line in lines if "session" in line}
    if not named:
        return set()
    ids = [Key(tenant, session).text for session in named]
    with link.reading():
        found = link.sessions.find({"_id": {"$in": ids}, "tombstone": {"$exists": True}}, {"id": 1})
        return {one["id"] async for one in found}


def _is_meant(line: Document, session: str | None, erased: set[str]) -> bool:
    """Whether a line is of the session that was asked for: by its hash only one that is erased can be named."""
    named = line.get("session")
    return session is None or named is None or named == session or named in erased


def _told(tenant: str, line: Document, erased: set[str]) -> Trail:
    session = line.get("session")
    if "h" in line and (session is None or session in erased):
        session = _HASHED + line["h"].hex()
    return Trail(
        line["at"],
        tenant,
        line["actor"],
        line["action"],
        line["outcome"],
        session,
        line.get("version"),
        line.get("request_id"),
    )


def _number(start: str, line: Document) -> int:
    return int(line["_id"].removeprefix(start)[:16], 16)
