"""Is this server one that keeps what it acknowledges? Asked once at start; and the indexes and layout it is given.

What a server does not know or will not tell is a warning; an answer that is too weak stops (reliability notes,
correction 4).
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern

from sessionmanager.errors import SessionManagerError, TierUnavailable
from sessionmanager.tiers.warm.mongo import errors
from sessionmanager.tiers.warm.mongo.layout import FORMAT, INDEXES, IndexPlan
from sessionmanager.tiers.warm.mongo.link import Link

Standalone = Literal["refused", "allowed"]
ExactReads = Literal["measure", "linearizable", "witnessed"]

INDEXES_SECONDS: Final = 600.0
"""How long making the indexes of a collection may take, where it is large already."""
_NO_SUCH_CONCERN: Final = frozenset({2, 9, 72, 123, 148, 303})
"""Codes by which a server says that it has no such read concern, or is no member of a set and cannot have it."""


class Facts(NamedTuple):
    """What was found. kind: `replica set`, `sharded cluster` or `standalone`."""

    kind: str
    version: str
    linearizable: bool
    warnings: tuple[str, ...]


async def examine(link: Link, standalone: Standalone, exact_reads: ExactReads) -> Facts:
    """Look at the server. Raises TierUnavailable, saying what to mend, if it cannot keep the promises of warm."""
    warnings: list[str] = []
    hello = await link.hello()
    kind = _kind(hello)
    if kind == "standalone":
        if standalone == "refused":
            raise TierUnavailable(
                "warm",
                "MongoDB runs as a standalone server, which loses acknowledged commits with its disk: start it as a "
                "replica set, or set MONGO_STANDALONE=allowed and accept that",
            )
        warnings.append("standalone: acknowledged commits are lost with its disk")
    if not (hello.get("isWritablePrimary") or hello.get("ismaster")):
        raise TierUnavailable("warm", "the MongoDB server that was reached is not the primary of its set")
    if kind == "replica set":
        warnings += await _check_set(link)
    warnings += await _check_engine(link)
    build = await link.ask("buildInfo")
    await _prove_majority(link)
    linearizable = exact_reads == "linearizable" or (exact_reads == "measure" and await _has_linearizable(link))
    if not linearizable:
        warnings.append("no linearizable reads: each exact read is followed by a write")
    return Facts(kind, str((build or {}).get("version", "unknown")), linearizable, tuple(warnings))


def _kind(hello: dict[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "sharded cluster"
    return "replica set" if hello.get("setName") else "standalone"


async def _check_set(link: Link) -> list[str]:
    answer = await link.ask("replSetGetConfig")
    if answer is None:
        return ["the set's configuration is not told: writeConcernMajorityJournalDefault is not checked"]
    config = answer.get("config", {})
    if config.get("writeConcernMajorityJournalDefault") is False:
        raise TierUnavailable(
            "warm",
            "the MongoDB set has writeConcernMajorityJournalDefault: false, with which a majority may forget what it "
            "acknowledged: set it to true",
        )
    members = [one for one in config.get("members", ()) if not one.get("arbiterOnly")]
    if len(members) < 3:
        return [f"the set has {len(members)} members with data: the loss of one disk may stop or lose commits"]
    return []


async def _check_engine(link: Link) -> list[str]:
    status = await link.ask("serverStatus", repl=0, metrics=0, locks=0)
    engine = (status or {}).get("storageEngine")
    if not isinstance(engine, dict) or "persistent" not in engine:
        return ["the storage engine is not told"]
    if engine["persistent"] is False:
        raise TierUnavailable("warm", "the MongoDB server keeps its data in memory alone: use one with a disk")
    return []


async def _prove_majority(link: Link) -> None:
    """One write with the pinned level: a server without a journal, or a set without a majority, fails here."""
    with link.writing():
        try:
            await link.state.insert_one({"_id": "witness", "n": 0})
        except DuplicateKeyError:
            await link.state.update_one({"_id": "witness"}, {"$inc": {"n": 1}})


async def _has_linearizable(link: Link) -> bool:
    with link.reading():
        try:
            await link.state.with_options(read_concern=ReadConcern("linearizable")).find_one({"_id": "witness"})
        except OperationFailure as error:
            if error.code in _NO_SUCH_CONCERN:
                return False
            raise
    return True


async def prepare(link: Link) -> None:
    """Make what is missing of collections and indexes, and check the layout's number; harmless to repeat.

    Raises TierUnavailable for a layout of a newer release, and where indexes are missing that this user may not make.
    """
    with link.reading():
        layout = await link.state.find_one({"_id": "layout"})
        if layout is None:
            await link.insert_new(link.state, [{"_id": "layout", "format": FORMAT}])
            layout = {"format": FORMAT}
    if layout["format"] > FORMAT:
        raise TierUnavailable(
            "warm", f"the database has layout {layout['format']}, this release knows {FORMAT}; use a newer release"
        )
    for name, plans in INDEXES.items():
        if plans:
            await _make_indexes(link, name, plans)


async def _make_indexes(link: Link, name: str, plans: tuple[IndexPlan, ...]) -> None:
    collection = link.database[name]
    try:
        with link.reading(INDEXES_SECONDS):
            try:
                await collection.create_indexes([_model(plan) for plan in plans])
                return
            except OperationFailure as error:
                if error.code not in errors.UNAUTHORIZED:
                    raise
            there = await collection.index_information()
    except SessionManagerError as error:
        raise TierUnavailable("warm", f"the indexes of {name} cannot be made ({error})") from None
    missing = sorted({plan.name for plan in plans} - set(there))
    if missing:
        raise TierUnavailable(
            "warm",
            f"{name} lacks the indexes {', '.join(missing)}, and this user may not make them: run `sessionmanager "
            "migrate` as one who may",
        )


def _model(plan: IndexPlan) -> IndexModel:
    options: dict[str, Any] = {"name": plan.name}
    if plan.sparse:
        options["sparse"] = True
    if plan.expire_after_seconds is not None:
        options["expireAfterSeconds"] = plan.expire_after_seconds
    return IndexModel([(field, 1) for field in plan.fields], **options)
