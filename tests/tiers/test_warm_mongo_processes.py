"""Several processes on one MongoDB: what leaves the ring, what a killed one leaves, and what others see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sessionmanager.errors import OutcomeUnknown, RevConflict, SessionManagerError, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.tiers.warm.mongo import tier
from sessionmanager.tiers.warm.mongo.layout import RING_HALF
from sessionmanager.tiers.warm.mongo.trail import DEAD_SECONDS, TrailBook
from sessionmanager.tiers.warm.protocol import TrailQuery, Warm
from sessionmanager.words import Key
from tests.support.builders import KEY, a_change, a_commit_id, a_key_record, a_line, a_listing, a_tombstone, a_trail
from tests.support.mongo import EMBRACING, LEAKS, a_proxied
from tests.support.mongo_proxy import MongoProxy
from tests.support.services import owned

pytestmark = [pytest.mark.server, LEAKS]

open_mongo = tier.open_mongo


class Place(NamedTuple):
    """Two processes; the first goes through the proxy."""

    first: Warm
    second: Warm
    proxy: MongoProxy


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        url, direct, proxy = await stack.enter_async_context(a_proxied())
        first = await stack.enter_async_context(open_mongo(url, **EMBRACING))
        second = await stack.enter_async_context(open_mongo(direct, **EMBRACING))
        yield Place(first, second, proxy)


def into(collection: str) -> Any:
    return lambda command: collection in command.values()


async def grow(warm: Warm, first: int, last: int) -> None:
    """Commits that make the revs from `first` to `last`, each with something to remember."""
    for rev in range(first - 1, last):
        await warm.commit(
            a_change(
                rev=rev,
                commit_id=a_commit_id(f"commit {rev}"),
                idempotency=a_key_record(f"scope {rev}", version=rev + 1),
                entry_ids=((a_commit_id(f"id {rev}"), rev + 1),),
                trail=a_trail(version=rev + 1),
            )
        )


async def remembered(warm: Warm, revs: int) -> None:
    """All that `grow` left is there, each exactly once."""
    for rev in range(revs):
        assert await warm.find_commit(KEY, rev, a_commit_id(f"commit {rev}")) == rev + 1
        assert await warm.find_key(KEY, f"scope {rev}".encode()) == a_key_record(f"scope {rev}", version=rev + 1)
    ids = [a_commit_id(f"id {rev}") for rev in range(revs)]
    assert await warm.find_entry_ids(KEY, ids) == {ids[rev]: rev + 1 for rev in range(revs)}
    page = await warm.trail(TrailQuery("acme", 1_000))
    assert [line.version for _, line in page.items] == list(range(revs, 0, -1))


@pytest.mark.parametrize("collection", ["commits", "keys", "entry_ids", "sessions"])
async def test_a_process_that_dies_while_it_makes_room_loses_and_doubles_nothing(place: Place, collection: str) -> None:
    """The commit that begins a half of the ring is cut at each of its steps; another process makes it."""
    await grow(place.first, 1, 2 * RING_HALF - 1)
    place.proxy.cut_before("update" if collection == "sessions" else "insert", where=into(collection))
    with pytest.raises((TierUnavailable, OutcomeUnknown)):
        await grow(place.first, 2 * RING_HALF, 2 * RING_HALF)
    await remembered(place.second, 2 * RING_HALF - 1)
    await grow(place.second, 2 * RING_HALF, 3 * RING_HALF + 5)
    await remembered(place.second, 3 * RING_HALF + 5)


async def test_two_processes_that_make_room_at_once_lose_and_double_nothing(place: Place) -> None:
    await grow(place.first, 1, 2 * RING_HALF - 1)
    held = place.proxy.hold("insert", where=into("keys"))
    slow = asyncio.create_task(grow(place.first, 2 * RING_HALF, 2 * RING_HALF))
    await held.reached.wait()
    await grow(place.second, 2 * RING_HALF, 2 * RING_HALF + 3)
    held.released.set()
    with pytest.raises(RevConflict):
        await slow
    await remembered(place.second, 2 * RING_HALF + 3)


async def test_a_process_that_slept_while_it_made_room_puts_no_old_record_over_a_newer_one(place: Place) -> None:
    old, new = a_key_record("again", request="old"), a_key_record("again", request="new")
    await place.first.commit(a_change(idempotency=old))
    for rev in range(1, 2 * RING_HALF - 1):
        await place.first.commit(a_change(rev=rev))
    held = place.proxy.hold("insert", where=into("keys"))
    slow = asyncio.create_task(place.first.commit(a_change(rev=2 * RING_HALF - 1)))
    await held.reached.wait()
    for rev in range(2 * RING_HALF - 1, 5 * RING_HALF):
        await place.second.commit(a_change(rev=rev, idempotency=new if rev == 2 * RING_HALF + 1 else None))
    assert await place.second.find_key(KEY, b"again") == new
    held.released.set()
    with pytest.raises(RevConflict):
        await slow
    assert await place.second.find_key(KEY, b"again") == new


async def test_lines_of_one_process_are_seen_by_the_other(place: Place) -> None:
    await place.first.commit(a_change(trail=a_trail(actor="first")))
    await place.first.trail(TrailQuery("acme", 1))  # whatever waited is copied now
    await place.second.commit(a_change(rev=1, trail=a_trail(actor="second")))
    page = await place.second.trail(TrailQuery("acme", 10))
    assert {line.actor for _, line in page.items} == {"second", "first"}, "in the order of two processes' clocks"


async def test_lines_that_a_killed_process_has_not_copied_are_found_in_the_rings() -> None:
    """Every copy of the first process fails, to its end; the second finds the lines, once it is taken for dead."""
    async with a_proxied() as (url, direct, proxy), open_mongo(direct, **EMBRACING) as second:
        async with open_mongo(f"{url}&retryWrites=false", **EMBRACING) as first:
            proxy.answer("insert", {"ok": 0.0, "code": 14031, "errmsg": "no"}, times=0)
            await first.commit(a_change(trail=a_trail(actor="copied")))
            await first.trail(TrailQuery("acme", 1))
            rule = proxy.answer("insert", {"ok": 0.0, "code": 14031, "errmsg": "no"}, times=1_000)
            rule.where = into("trail")
            for rev in range(1, 4):
                await first.commit(a_change(rev=rev, trail=a_trail(actor=f"left {rev}")))
            other = Key("acme", "other")
            rule.left = 0
            await first.commit(a_change(other))
            rule.left = 1_000
            await first.commit(a_change(other, rev=1, trail=a_trail(other, actor="left too")))
        assert [line.actor for _, line in (await second.trail(TrailQuery("acme", 10))).items] == ["copied"]
        await second.sweep(second.now(), 10)
        assert [line.actor for _, line in (await second.trail(TrailQuery("acme", 10))).items] == ["copied"]
        later = instants.plus(second.now(), DEAD_SECONDS + 1)
        await second.sweep(later, 10)
        found = [line.actor for _, line in (await second.trail(TrailQuery("acme", 10))).items]
        assert found == ["left too", "left 3", "left 2", "left 1", "copied"]
        await second.sweep(later, 10)
        assert len((await second.trail(TrailQuery("acme", 10))).items) == 5


async def test_a_commit_whose_outcome_was_never_looked_up_has_its_line_after_a_sweep(place: Place) -> None:
    await place.first.commit(a_change())
    place.proxy.lose_answer("update", where=into("sessions"))
    with pytest.raises(OutcomeUnknown):
        await place.first.commit(a_change(rev=1, trail=a_trail(actor="unknown")))
    assert (await place.second.trail(TrailQuery("acme", 10))).items == ()
    await place.first.sweep(place.first.now(), 10)
    assert [line.actor for _, line in (await place.second.trail(TrailQuery("acme", 10))).items] == ["unknown"]


async def test_more_lines_than_may_wait_are_found_in_the_rings(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionmanager.tiers.warm.mongo.trail.WAITING_MAX", 3)
    held = place.proxy.hold("insert", where=into("trail"))
    for rev in range(20):
        await place.first.commit(a_change(rev=rev, trail=a_trail(version=rev + 1)))
    assert isinstance(place.first, tier.MongoWarm)
    book: TrailBook = place.first.book
    assert book.waiting <= 4
    held.released.set()
    await place.first.sweep(place.first.now(), 10)
    page = await place.first.trail(TrailQuery("acme", 100))
    assert [line.version for _, line in page.items] == list(range(20, 0, -1))


async def test_an_erased_session_has_no_name_in_the_trail(place: Place) -> None:
    await place.first.commit(a_change(trail=a_trail()))
    await place.first.commit(a_tombstone(rev=1, trail=a_trail(action="erase")))
    await place.first.purge(KEY)
    assert isinstance(place.first, tier.MongoWarm)
    trail = place.first._link.trail  # pyright: ignore[reportPrivateUsage]
    assert await trail.count_documents({}) == 2
    assert await trail.count_documents({"session": KEY.id}) == 0


async def test_an_erased_session_stays_erased_whoever_knows_its_rev(place: Place) -> None:
    await place.first.commit(a_change())
    await place.first.commit(a_tombstone(rev=1))
    with pytest.raises(RevConflict):
        await place.second.commit(a_change(rev=2))
    assert (await place.first.load(KEY)).stored.tombstone is not None


async def test_of_sixty_four_rivals_in_two_processes_one_wins(place: Place) -> None:
    await place.first.commit(a_change())
    for rev in range(1, 6):
        rivals = [a_change(rev=rev, entries=[a_line(rev, f"rival {i}")]) for i in range(64)]
        calls = [(place.first, place.second)[i % 2].commit(rival) for i, rival in enumerate(rivals)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(e) for e in results if e is not None] == [RevConflict] * 63
        assert (await place.second.load(KEY, tail=1)).tail == rivals[results.index(None)].entries


async def test_counts_of_all_tenants_are_made_by_one_process_and_read_by_the_others() -> None:
    async with (
        a_proxied() as (url, direct, proxy),
        open_mongo(url, standalone="allowed") as first,
        open_mongo(direct, standalone="allowed") as second,
    ):
        await first.commit(a_change(listing=a_listing()))
        assert await first.counts(None) == {("active", "warm"): 1}
        await first.commit(a_change(Key("acme", "b"), listing=a_listing()))
        proxy.commands.clear()
        assert await first.counts(None) == {("active", "warm"): 1}, "not older than ten seconds"
        assert [name for name, _ in proxy.commands if name == "aggregate"] == []
        assert await second.counts(None) == {("active", "warm"): 1}
        assert await first.counts("acme") == {("active", "warm"): 2}


async def test_what_was_acknowledged_is_there_after_a_server_was_killed(tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    async with owned("mongo", tmp_path) as server:
        url = f"{server.url}/?heartbeatFrequencyMS=500"
        async with open_mongo(url, **(EMBRACING | {"timeout_seconds": 1.0})) as warm:
            killed = asyncio.Event()

            async def write(number: int) -> None:
                key = Key("acme", f"call-{number}")
                await warm.commit(a_change(key))
                while not killed.is_set():
                    rev = acknowledged.get(number, 1)
                    try:
                        await warm.commit(a_change(key, rev=rev, entries=[a_line(rev)]))
                    except (SessionManagerError, RevConflict):
                        return
                    acknowledged[number] = rev + 1
                    if sum(acknowledged.values()) > 400:
                        killed.set()

            writers = [asyncio.create_task(write(number)) for number in range(4)]
            await killed.wait()
            await server.kill()
            await asyncio.gather(*writers)
            await server.restart()
        async with open_mongo(url, **EMBRACING) as warm:
            for number, rev in acknowledged.items():
                loaded = await warm.load(Key("acme", f"call-{number}"), tail=1_000)
                assert loaded.stored.rev >= rev
                assert [line.seq for line in loaded.tail] == list(range(1, loaded.stored.rev))
