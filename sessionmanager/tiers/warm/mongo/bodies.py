"""Bodies, and what an erased session leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymongo.errors import DuplicateKeyError

from sessionmanager.errors import AlreadyExists, NotFound, RevConflict, TierUnavailable
from sessionmanager.model.codec import frame, unframe
from sessionmanager.tiers.warm.mongo.layout import Document, session_stem, stem, within
from sessionmanager.tiers.warm.mongo.link import Collection, Link
from sessionmanager.tiers.warm.mongo.trail import hash_of
from sessionmanager.words import Key

REMOVED_MAX: Final = 500
"""Documents that one command removes."""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024 - 16 * 1024
"""MongoDB's bound of a document, less what is in it beside the body. Bodies are far smaller by the bounds of a tail."""


async def put_body(link: Link, key: Key, body_id: str, data: bytes) -> None:
    """See `WarmBodies.put_body`. Raises RevConflict if the session is erased: nothing of it may come back."""
    if len(data) > BODY_BYTES_MAX:
        raise TierUnavailable("warm", f"a body of more than {BODY_BYTES_MAX} bytes has no place in MongoDB")
    name, framed = session_stem(key) + body_id, frame(data)
    kept: Document | None = None
    try:
        with link.writing():
            await link.bodies.insert_one({"_id": name, "b": framed})
    except DuplicateKeyError:
        kept = await link.exact(link.bodies, lambda bodies: bodies.find_one({"_id": name})) or {}
    # Looked at after the insert, not before: a tombstone that falls in between is seen here, one that falls later is
    # followed by a purge, which takes this body too.
    if await _is_erased(link, key):
        if kept is None:
            with link.writing():
                await link.bodies.delete_one({"_id": name})
        raise RevConflict
    if kept is not None and kept.get("b") != framed:
        raise AlreadyExists


async def _is_erased(link: Link, key: Key) -> bool:
    where = {"_id": key.text, "tombstone": {"$exists": True}}
    return await link.exact(link.sessions, lambda sessions: sessions.find_one(where, {"_id": 1})) is not None


async def get_body(link: Link, key: Key, body_id: str) -> bytes:
    name = session_stem(key) + body_id
    found = await link.exact(link.bodies, lambda bodies: bodies.find_one({"_id": name}))
    if found is None:
        raise NotFound
    return unframe(found["b"])


async def list_bodies(link: Link, key: Key) -> list[str]:
    start = session_stem(key)

    async def ask(bodies: Collection) -> list[str]:
        found = bodies.find({"_id": within(start)}, {"_id": 1}).sort("_id", 1)
        return [one["_id"].removeprefix(start) async for one in found]

    return await link.exact(link.bodies, ask)


async def drop_bodies(link: Link, key: Key, body_ids: Sequence[str]) -> None:
    start = session_stem(key)
    for first in range(0, len(body_ids), REMOVED_MAX):
        names = [start + body_id for body_id in body_ids[first : first + REMOVED_MAX]]
        with link.writing():
            await link.bodies.delete_many({"_id": {"$in": names}})


async def purge(link: Link, key: Key) -> None:
    """See `WarmBodies.purge`: removes documents; files, journal and oplog let go of their bytes in their own time.

    The tombstone's own commit has emptied the document. Raises ValueError if the session is not erased.
    """
    session = await link.exact(link.sessions, lambda sessions: sessions.find_one({"_id": key.text}, {"tombstone": 1}))
    if session is None:
        return
    if "tombstone" not in session:
        raise ValueError("only what a tombstone left is purged")
    mine: Document = {"_id": within(session_stem(key))}
    for collection in (link.bodies, link.keys, link.entry_ids):
        await _remove_all(link, collection, mine)
    await _remove_all(link, link.calls, {"tenant": key.tenant, "session": key.id})
    await _forget_name(link, key)


async def _remove_all(link: Link, collection: Collection, where: Document) -> None:
    while True:
        with link.reading():
            found = await collection.find(where, {"_id": 1}).limit(REMOVED_MAX).to_list()
        if not found:
            return
        with link.writing():
            await collection.delete_many({"_id": {"$in": [one["_id"] for one in found]}})


async def _forget_name(link: Link, key: Key) -> None:
    """Take the session's id out of the lines of the trail; its hash stays."""
    lines = {"h": hash_of(key.id), "_id": within(stem(key.tenant)), "session": {"$exists": True}}
    while True:
        with link.reading():
            found = await link.trail.find(lines, {"_id": 1}).limit(REMOVED_MAX).to_list()
        if not found:
            return
        with link.writing():
            await link.trail.update_many({"_id": {"$in": [one["_id"] for one in found]}}, {"$unset": {"session": ""}})
