"""What warm on MongoDB sends: how many commands, of what size, and through which index."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from itertools import product
from typing import Any, NamedTuple

import pytest

from sessionmanager.errors import TierUnavailable
from sessionmanager.model.codec import Stored
from sessionmanager.tiers.warm.mongo.layout import INDEXES, RING_HALF
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import ListQuery, Position, TrailQuery, Warm
from sessionmanager.waits.deadline import deadline
from sessionmanager.words import Key
from tests.support.builders import KEY, T0, T3, a_change, a_head, a_key_record, a_line, a_listing, a_trail, lines
from tests.support.mongo import EMBRACING, LEAKS, a_proxied
from tests.support.mongo_proxy import MongoProxy

pytestmark = [pytest.mark.server, LEAKS]


class Place(NamedTuple):
    warm: Warm
    proxy: MongoProxy

    def asked(self, *names: str) -> list[dict[str, Any]]:
        """Commands since `forget`, without the clock's and the trail's own."""
        return [
            command
            for name, command in self.proxy.commands
            if name in names and command[name] not in ("trail", "state")
        ]

    def forget(self) -> None:
        self.proxy.commands.clear()
        self.proxy.sent.clear()
        self.proxy.answered.clear()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with a_proxied() as (url, _, proxy), open_mongo(url, **EMBRACING) as warm:
        yield Place(warm, proxy)


async def an_append(place: Place, rev: int) -> int:
    """Bytes on the wire of one append's update: a line of 200 bytes, an audit line, a head that is as it is."""
    place.forget()
    parts = dict.fromkeys(("pulse", "work"), b"x" * 400)
    change = a_change(rev=rev, entries=[a_line(rev, "x" * 100)], trail=a_trail(version=rev + 1))
    await place.warm.commit(change._replace(stored=Stored(KEY, rev + 1, rev + 1, parts)))
    assert len(place.asked("update", "insert", "find", "aggregate")) == 1
    return place.proxy.sent["update"][0]


async def test_an_append_sends_its_change_alone_however_long_the_tail_and_the_history_are(place: Place) -> None:
    context = b'"' + b"c" * 200_000 + b'"'
    await place.warm.commit(a_change(head=a_head(context=context)))
    sizes: dict[int, int] = {}
    for rev in range(1, 1_000):
        if rev in (5, 50, 500, 900):
            sizes[rev] = await an_append(place, rev)
        else:
            await place.warm.commit(a_change(rev=rev, entries=[a_line(rev, "x" * 100)]))
    assert len(await place.warm.read(KEY, after=0, before=2_000, limit=2_000)) == 999
    assert max(sizes.values()) - min(sizes.values()) <= 32, sizes
    assert statistics.mean(sizes.values()) < 2_000, sizes


async def test_a_commit_is_one_command_but_for_one_in_sixty_four(place: Place) -> None:
    await place.warm.commit(a_change())
    place.forget()
    for rev in range(1, 4 * RING_HALF):
        await place.warm.commit(a_change(rev=rev, entries=[a_line(rev)], trail=a_trail(), idempotency=a_key_record()))
    asked = place.asked("insert", "update", "find", "aggregate", "findAndModify")
    assert len([one for one in asked if one.get("update") == "sessions"]) == 4 * RING_HALF - 1
    making_room = len(asked) - (4 * RING_HALF - 1)
    assert making_room <= 3 * 5, "one read, and an insert into each collection, for each half that is full"


async def test_a_read_brings_the_lines_that_were_asked_for_and_no_others(place: Place) -> None:
    await place.warm.commit(a_change(entries=[a_line(seq, "x" * 200) for seq in range(1, 901)]))
    place.forget()
    assert len(await place.warm.read(KEY, after=899, before=10_000, limit=100)) == 1
    assert len((await place.warm.load(KEY, tail=2)).tail) == 2
    await place.warm.load(KEY)
    assert place.proxy.answered["aggregate"][0] < 1_000
    assert max(place.proxy.answered["find"]) < 3_000
    assert len(place.asked("find", "aggregate")) == 3


async def test_looking_for_a_key_or_an_id_brings_no_ring(place: Place) -> None:
    for rev in range(60):
        await place.warm.commit(
            a_change(rev=rev, idempotency=a_key_record(f"{rev}"), entry_ids=((b"%16d" % rev, rev),))
        )
    place.forget()
    assert await place.warm.find_key(KEY, b"none") is None
    assert await place.warm.find_entry_ids(KEY, [b"n%15d" % i for i in range(200)]) == {}
    assert await place.warm.find_commit(KEY, 0, b"none") is None
    assert len(place.asked("find")) == 3
    assert max(place.proxy.answered["find"]) < 500


async def test_without_linearizable_reads_each_exact_read_is_followed_by_a_write_of_a_majority() -> None:
    async with a_proxied() as (url, _, proxy), open_mongo(url, **EMBRACING, exact_reads="witnessed") as warm:
        await warm.commit(a_change())
        for read in (
            lambda: warm.load(KEY),
            lambda: warm.read(KEY, after=0, before=9, limit=9),
            lambda: warm.find_key(KEY, b"none"),
            lambda: warm.get_record("acme", "kind", "id"),
        ):
            proxy.commands.clear()
            await read()
            names = [name for name, _ in proxy.commands if name in ("find", "aggregate", "update")]
            assert names[-2:] in (["find", "update"], ["aggregate", "update"])
            assert proxy.commands[-1][1]["writeConcern"] == {"w": "majority", "j": True}
        proxy.cut_before("update")
        with pytest.raises(TierUnavailable):
            await warm.load(KEY)


async def test_every_list_goes_through_an_index_and_looks_at_no_more_than_it_may(place: Place) -> None:
    """A stand-in cannot explain: so each query is shown to name an index that fits it, and to be bounded."""
    for minute in range(30):
        listing = a_listing("label:x", "label:y", created_at=f"2026-11-21T12:{minute:02d}:00.000Z")
        await place.warm.commit(a_change(Key("acme", f"{minute}"), listing=listing))
    bounds = {"created_after": T0, "created_before": T3, "active_after": T0, "active_before": T3}
    fields = {plan.name: plan.fields for plan in INDEXES["sessions"]}
    for sort, terms, filters, after in product(
        ("created_at", "last_activity"),
        ((), ("label:x",), ("label:x", "label:y")),
        ({}, bounds),
        (None, Position(T3, "z")),
    ):
        place.forget()
        await place.warm.list(ListQuery("acme", 5, terms, sort, after, scan_max=12, **filters))
        finds = place.asked("find")
        assert finds
        for command in finds:
            index = fields[command["hint"]]
            assert index[0] == "tenant"
            assert list(command["sort"]) == list(index[-2:]) == [sort, "_id"]
            assert set(command["sort"].values()) == {-1}
            assert command["limit"] <= 6
            named = {name for condition in command["filter"]["$and"] for name in condition}
            assert index[1] in named
        walks = [command for command in finds if command.get("skip")]
        if (terms and sort == "last_activity") or len(terms) > 1 or filters:
            assert [command["skip"] for command in walks] == [11]
            assert {"$gte", "$gt"} & set(str(finds[-1]["filter"]).replace("'", " ").split())
        for command in place.asked("aggregate"):
            assert command["pipeline"][1] == {"$limit": 200}, "a count of a term is short"


async def test_other_reads_of_many_name_a_field_that_an_index_begins_with(place: Place) -> None:
    await place.warm.commit(a_change(due_at=T0, idempotency=a_key_record(expires_at=T0)))
    place.proxy.commands.clear()
    await place.warm.due(T3, 7)
    await place.warm.sweep(T3, 7)
    await place.warm.list_records("acme", "kind", limit=7)
    await place.warm.list_bodies(KEY)
    await place.warm.counts(None)
    await place.warm.counts("acme")
    for session in (None, KEY.id):
        await place.warm.trail(TrailQuery("acme", 7, session=session))
        await place.warm.trail(TrailQuery("acme", 7, session=session, actor="alice"))
    for name, command in place.proxy.commands:
        if name == "find":
            collection, where = command["find"], command["filter"]
        elif name == "aggregate":
            collection, where = command["aggregate"], command["pipeline"][0]["$match"]
        else:
            continue
        leading = {"_id"} | {plan.fields[0] for plan in INDEXES[collection]}
        assert leading & set(where), (collection, where)
        point = isinstance(where.get("_id"), str)
        assert point or name == "aggregate" or command.get("limit", 0) <= 8 or collection in ("state", "bodies")


async def test_more_calls_than_connections_wait_no_longer_than_they_may() -> None:
    async with a_proxied() as (url, _, proxy), open_mongo(url, **EMBRACING, pool_max=2) as warm:
        for key in ("a", "b"):
            await warm.commit(a_change(Key("acme", key)))
        held = [proxy.hold("update", where=lambda command: command["update"] == "sessions") for _ in range(2)]
        taken = [asyncio.create_task(warm.commit(a_change(Key("acme", key), rev=1))) for key in ("a", "b")]
        await asyncio.gather(*[rule.reached.wait() for rule in held])
        with deadline(0.2), pytest.raises(TierUnavailable, match="all connections are in use"):
            await warm.commit(a_change())
        for rule in held:
            rule.released.set()
        await asyncio.gather(*taken)
        await warm.commit(a_change(entries=lines(1, 1)))
