"""Reads of one session: its head and lines, and what its commits left to be found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from sessionmanager.errors import NotFound
from sessionmanager.model.change import KeyRecord
from sessionmanager.model.codec import Stored, decode_tombstone, unframe
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.warm.mongo.layout import Document, session_stem, within
from sessionmanager.tiers.warm.mongo.link import Collection, Link
from sessionmanager.tiers.warm.protocol import Loaded
from sessionmanager.words import Key, Placement

IDS_ASKED_MAX: Final = 1_000
"""Entry ids that one query asks for."""
SUMMARY: Final = dict.fromkeys(("tenant", "id", "rev", "version", "placement", "parts.pulse", "parts.profile"), 1)
_HEAD: Final = dict.fromkeys(("rev", "version", "placement", "tombstone", "parts"), 1)
_HALVES: Final = ("r0", "r1")


def stored_of(key: Key, document: Document) -> Stored:
    """The head in a document. Raises DataCorrupt."""
    placement = cast("Placement", document["placement"])
    rev, version = int(document["rev"]), int(document["version"])
    if "tombstone" in document:
        buried = decode_tombstone(unframe(document["tombstone"]))
        return Stored(key, rev, version, {}, placement=placement, tombstone=buried)
    parts = {name: unframe(data) for name, data in document.get("parts", {}).items()}
    return Stored(key, rev, version, parts, placement=placement)


async def load(link: Link, key: Key, tail: int) -> Loaded:
    """See `WarmHeads.load`."""
    wanted: Document = _HEAD | ({"tail": {"$slice": -tail}} if tail > 0 else {})
    document = await link.exact(link.sessions, lambda sessions: sessions.find_one({"_id": key.text}, wanted))
    if document is None:
        raise NotFound
    return Loaded(stored_of(key, document), _lines(document))


async def read(link: Link, key: Key, after: int, before: int, limit: int, descending: bool) -> list[StoredEntry]:
    """See `WarmHeads.read`. The server sends the lines that are wanted, and no others."""
    if limit <= 0:
        return []
    between = {"$and": [{"$gt": ["$$line.s", after]}, {"$lt": ["$$line.s", before]}]}
    found = {"$filter": {"input": "$tail", "as": "line", "cond": between}}
    share = {"$slice": [found, -limit if descending else limit]}
    pipeline: list[Document] = [{"$match": {"_id": key.text}}, {"$project": {"tail": share}}]

    async def ask(sessions: Collection) -> list[Document]:
        return await (await sessions.aggregate(pipeline)).to_list()

    documents = await link.exact(link.sessions, ask)
    lines = list(_lines(documents[0])) if documents else []
    return lines[::-1] if descending else lines


def _lines(document: Document) -> tuple[StoredEntry, ...]:
    return tuple([StoredEntry(line["s"], unframe(line["b"])) for line in document.get("tail") or ()])


async def find_commit(link: Link, key: Key, after_rev: int, commit_id: bytes) -> tuple[int, list[Document]] | None:
    """See `WarmHeads.find_commit`; with the ring items that have the id. One read, one more past the ring."""
    document = await _ring(link, key, {"c": commit_id})
    if document is None:
        return None
    items = _items(document)
    for item in items:
        if item["r"] > after_rev:
            return item["r"], items
    if after_rev >= document["spilled"]:
        return None
    stem = session_stem(key)
    found = await link.exact(
        link.commits,
        lambda commits: commits.find_one(
            {"_id": within(stem) | {"$gte": f"{stem}{max(after_rev + 1, 0):016d}"}, "i.c": commit_id},
            {"i": {"$elemMatch": {"c": commit_id}}},
        ),
    )
    revs = [one["r"] for one in (found or {}).get("i", ()) if one["r"] > after_rev]
    return (revs[0], []) if revs else None


async def find_key(link: Link, key: Key, scope: bytes) -> KeyRecord | None:
    """See `WarmHeads.find_key`. One read where the key is new, one more past the ring; two where it was used."""
    newest: Document | None = None
    while True:
        since = newest["r"] if newest is not None else 0
        document = await _ring(link, key, {"k.s": scope, "r": {"$gt": since}})
        if document is None or "tombstone" in document:
            return None
        items = _items(document)
        if not items:
            break
        newest = max(items, key=lambda item: item["r"])  # the first of its half: the key may have been used anew since
    if newest is not None:
        return _record(newest["k"])
    if not document["spilled"]:
        return None
    name = f"{session_stem(key)}{scope.hex()}"
    found = await link.exact(link.keys, lambda keys: keys.find_one({"_id": name}))
    return _record(found["k"]) if found is not None else None


def _record(record: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(record["s"], record["q"], record["v"], unframe(record["a"]), record["x"])


async def find_entry_ids(link: Link, key: Key, hashes: Sequence[bytes]) -> Mapping[bytes, int]:
    """See `WarmHeads.find_entry_ids`. One read where none is known, one more past the ring."""
    found: dict[bytes, int] = {}
    for first in range(0, len(hashes), IDS_ASKED_MAX):
        found |= await _find_ids(link, key, hashes[first : first + IDS_ASKED_MAX])
    return found


async def _find_ids(link: Link, key: Key, hashes: Sequence[bytes]) -> dict[bytes, int]:
    """Ask the ring until it knows no more of them: each look shows one commit of each half, most often the only one.

    Then ask the collection, for all: the first seq of an id stands, and what has left the ring is older. Within a half
    the first commit that has an id comes first, so that each half is asked for what it has not shown yet.
    """
    found: dict[bytes, int] = {}
    asked = {half: set(hashes) for half in _HALVES}
    spilled = 0
    while any(asked.values()):
        wanted: Document = {"spilled": 1, "tombstone": 1}
        wanted |= {half: {"$elemMatch": {"h": {"$in": list(left)}}} for half, left in asked.items()}
        document = await _part(link, key, wanted)
        if document is None or "tombstone" in document:
            return {}
        spilled = document["spilled"]
        shown = {half: _pairs(document.get(half, ()), left) for half, left in asked.items()}
        for half, pairs in shown.items():
            for digest, seq in pairs:
                found[digest] = min(found.get(digest, seq), seq)
            asked[half] = asked[half] - {digest for digest, _ in pairs} if pairs else set()
    return found | (await _find_spilled(link, key, hashes) if spilled else {})


def _pairs(items: Sequence[Document], left: set[bytes]) -> list[tuple[bytes, int]]:
    pairs = [(digest, seq) for item in items for digest, seq in zip(item["h"], item["q"], strict=True)]
    return [(digest, seq) for digest, seq in pairs if digest in left]


async def _find_spilled(link: Link, key: Key, hashes: Sequence[bytes]) -> dict[bytes, int]:
    stem = session_stem(key)
    names = {f"{stem}{digest.hex()}": digest for digest in hashes}

    async def ask(entry_ids: Collection) -> list[Document]:
        # Documents here are only ever inserted, so that several of them can be read as exactly as one.
        return await entry_ids.find({"_id": {"$in": list(names)}}).to_list()

    return {names[one["_id"]]: one["n"] for one in await link.exact(link.entry_ids, ask)}


async def _ring(link: Link, key: Key, match: Document) -> Document | None:
    """The first item of each half that matches, `spilled`, and `tombstone`. A head that is not there has none."""
    return await _part(link, key, {"spilled": 1, "tombstone": 1} | {half: {"$elemMatch": match} for half in _HALVES})


async def _part(link: Link, key: Key, wanted: Document) -> Document | None:
    return await link.exact(link.sessions, lambda sessions: sessions.find_one({"_id": key.text}, wanted))


def _items(document: Document) -> list[Document]:
    return [item for half in _HALVES for item in document.get(half, ())]
