"""What can be wrong with warm on MongoDB, as it looks from here, and who is in it: for commands that look from
outside. Of what is written to find out nothing is left but the witness that the tier itself writes."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from sessionmanager.errors import SessionManagerError
from sessionmanager.model.finding import ROUND_TRIPS, Finding, bad, clock, note, ok, round_trip
from sessionmanager.tiers.warm.mongo import records
from sessionmanager.tiers.warm.mongo.layout import FORMAT, INDEXES
from sessionmanager.tiers.warm.mongo.link import Collection, Link, open_link
from sessionmanager.tiers.warm.mongo.server import Standalone, examine
from sessionmanager.tiers.warm.protocol import Record
from sessionmanager.words import Key

PAGE_KEYS: Final = 1000
POOL: Final = 2
CALL_SECONDS: Final = 5.0
SLOW_MS: Final = 20.0
CLOCK_SECONDS_MAX: Final = 60.0


async def walk(url: str, *, after: Key | None = None, tenant: str | None = None, **_: Any) -> AsyncIterator[Key]:
    """Every session, tombstones too, in the order of their keys' text; of one tenant if named.

    Raises TierUnavailable. Cost: an index read for each `PAGE_KEYS`.
    """
    begin = Key(tenant, "").text if tenant is not None else ""
    last = after.text if after is not None else begin
    async with open_link(url, pool_max=POOL, timeout_seconds=CALL_SECONDS) as link:
        while True:
            place: dict[str, Any] = {"$gt": last}
            if tenant is not None:
                place["$lt"] = f"{begin[:-1]};"  # what follows `:` in the order of characters
            with link.reading():
                found = await link.sessions.find({"_id": place}, {"_id": 1}).sort("_id", 1).limit(PAGE_KEYS).to_list()
            for document in found:
                yield _key(document["_id"])
            if len(found) < PAGE_KEYS:
                return
            last = found[-1]["_id"]


async def find_record(url: str, tenant: str, kind: str, record_id: str, **_: Any) -> Record | None:
    """As `WarmRecords.get_record`, but not more exact than the server is by itself. Raises TierUnavailable."""
    async with open_link(url, pool_max=POOL, timeout_seconds=CALL_SECONDS) as link:
        with link.reading():
            return await records.look_up(link.records, tenant, kind, record_id)


async def walk_tenants(url: str, kind: str, **_: Any) -> AsyncIterator[str]:
    """Every tenant that has a record of this kind, whose record was acknowledged before the walk began.

    Raises TierUnavailable. Cost: names alone, an index read and a small write for each `PAGE_KEYS` records whose kinds
    are as long, and for each length that a tenant's name has.
    """
    async with open_link(url, pool_max=POOL, timeout_seconds=CALL_SECONDS) as link:
        link.linearizable = False  # no server has that of more than one document: each page is witnessed
        length = ""
        # Ids begin with both lengths: `4:10:acmetenant-key/ring`; what follows `:` in the order of characters is `;`.
        while found := await _names(link, f"{length};" if length else "", None, 1):
            length = found[0].partition(":")[0]
            start, size = f"{length}:{len(kind)}:", int(length)
            last, tenant = start, ""
            while page := await _names(link, last, f"{start[:-1]};", PAGE_KEYS):
                for name in page:
                    owner, what = name[len(start) :][:size], name[len(start) + size :]
                    if what.startswith(f"{kind}/") and owner != tenant:
                        tenant = owner
                        yield tenant
                last = page[-1]


async def _names(link: Link, after: str, before: str | None, limit: int) -> list[str]:
    place = {"$gt": after} if before is None else {"$gt": after, "$lt": before}

    async def ask(collection: Collection) -> list[str]:
        found = await collection.find({"_id": place}, {"_id": 1}).sort("_id", 1).limit(limit).to_list()
        return [one["_id"] for one in found]

    return await link.exact(link.records, ask)


def _key(text: str) -> Key:
    """The key with this `Key.text`."""
    length, _, rest = text.partition(":")
    return Key(rest[: int(length)], rest[int(length) + 1 :])


async def diagnose(url: str, *, standalone: Standalone = "refused", **_: Any) -> AsyncIterator[Finding]:
    """Look at the server of `url`; options as for `open_mongo`."""
    try:
        async with open_link(url, pool_max=POOL, timeout_seconds=CALL_SECONDS) as link:
            async for finding in _look(link, standalone):
                yield finding
    except ValueError as error:
        yield bad("settings", f"what is allowed: {error}", "correct WARM_URL or MONGO_URI")
    except SessionManagerError as error:
        yield bad("reach", error.detail, "look at the address, the user and the network between")


async def _look(link: Link, standalone: Standalone) -> AsyncIterator[Finding]:
    seconds: list[float] = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await link.hello()
        seconds.append(time.perf_counter() - began)
    asked_at = datetime.now(UTC)
    told = await link.server_time()
    ahead = (told.replace(tzinfo=told.tzinfo or UTC) - asked_at).total_seconds() - seconds[-1] / 2
    yield ok("reach", f"database {link.database.name}")
    yield round_trip(seconds, slow_ms=SLOW_MS, mend="every commit waits for it: use servers nearer by")
    yield clock(ahead, most=CLOCK_SECONDS_MAX, mend="timers go by the server's clock: set both right")
    try:
        facts = await examine(link, standalone, "measure")
    except SessionManagerError as error:
        yield bad("server", error.detail, "see the message: the service does not start on it")
    else:
        yield ok("server", f"{facts.kind}, version {facts.version}; a write with majority and journal was kept")
        for warning in facts.warnings:
            yield note("server", warning)
    async for finding in _rights(link):
        yield finding
    async for finding in _layout(link):
        yield finding


async def _rights(link: Link) -> AsyncIterator[Finding]:
    name = f"doctor:{secrets.token_hex(8)}"
    try:
        with link.writing():
            await link.state.insert_one({"_id": name})
            await link.state.update_one({"_id": name}, {"$set": {"n": 1}})
            found = await link.state.find_one({"_id": name})
            gone = await link.state.delete_one({"_id": name})
    except SessionManagerError as error:
        yield bad("rights", error.detail, "give the user the role readWrite on the database")
        return
    if found == {"_id": name, "n": 1} and gone.deleted_count == 1:
        yield ok("rights", "insert, update, find and delete")
    else:
        yield bad("rights", "what was written is not what is read", "use another server")


async def _layout(link: Link) -> AsyncIterator[Finding]:
    with link.reading():
        layout = await link.state.find_one({"_id": "layout"})
    if layout is None:
        yield note("layout", "the database is new", "the first `sessionmanager serve` makes what it needs")
        return
    if layout["format"] > FORMAT:
        told = f"it has layout {layout['format']}, this release knows {FORMAT}"
        yield bad("layout", told, "use a newer release")
        return
    missing: list[str] = []
    for collection, plans in INDEXES.items():
        if not plans:
            continue
        with link.reading():
            there = await link.database[collection].index_information()
        missing += [f"{collection}.{plan.name}" for plan in plans if plan.name not in there]
    if missing:
        yield bad("indexes", f"missing: {', '.join(missing)}", "start `serve` as a user who may make them")
    else:
        yield ok("indexes", "all are there")
