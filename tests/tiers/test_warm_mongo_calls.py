"""Rows of calls on MongoDB: copied beside the audit line, by whoever is alive, and never after a purge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from sessionmanager.errors import OutcomeUnknown
from sessionmanager.model import instants
from sessionmanager.tiers.warm.mongo.layout import RING_HALF
from sessionmanager.tiers.warm.mongo.tier import MongoWarm, open_mongo
from sessionmanager.tiers.warm.mongo.trail import DEAD_SECONDS
from sessionmanager.tiers.warm.protocol import CallQuery, FoundCall, Warm
from tests.support.builders import KEY, T1, a_call_row, a_change, a_tombstone, a_trail
from tests.support.mongo import EMBRACING, LEAKS, a_proxied
from tests.support.mongo_proxy import MongoProxy

pytestmark = [pytest.mark.server, LEAKS]

OPTIONS: Any = EMBRACING


class Place(NamedTuple):
    """Two processes; the first goes through the proxy."""

    first: Warm
    second: Warm
    proxy: MongoProxy


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        url, direct, proxy = await stack.enter_async_context(a_proxied())
        first = await stack.enter_async_context(open_mongo(url, **OPTIONS))
        second = await stack.enter_async_context(open_mongo(direct, **OPTIONS))
        yield Place(first, second, proxy)


def into_calls(command: Any) -> bool:
    return "calls" in command.values()


async def called(warm: Warm) -> list[tuple[str, int]]:
    page = await warm.list_calls(CallQuery("acme", 200, sort="settled_at"))
    return [(row.id, row.version) for row in page.items]


async def test_rows_that_a_killed_process_has_not_copied_are_found_in_the_rings() -> None:
    """Until they are, whoever exports knows that something may be missing."""
    async with a_proxied() as (url, direct, proxy), open_mongo(direct, **OPTIONS) as second:
        async with open_mongo(f"{url}&retryWrites=false", **OPTIONS) as first:
            await first.claim_call("acme", "c1", KEY.id)
            rule = proxy.answer("update", {"ok": 0.0, "code": 14031, "errmsg": "no"}, times=10_000)
            rule.where = into_calls
            began = first.now()
            await first.commit(a_change(trail=a_trail(), calls=(a_call_row("c1", 1, settled_at=T1),)))
            await first.commit(a_change(rev=1, trail=a_trail(), calls=(a_call_row("c1", 2, settled_at=T1),)))
        assert await called(second) == []
        assert await second.find_call("acme", "c1") == FoundCall(KEY.id, None)
        await second.sweep(second.now(), 10)
        assert await called(second) == []
        assert (await second.list_calls(CallQuery("acme", 1))).complete_until < began
        await second.sweep(instants.plus(second.now(), DEAD_SECONDS + 1), 10)
        assert await called(second) == [("c1", 2)]


async def test_a_commit_without_an_answer_has_its_rows_after_a_sweep(place: Place) -> None:
    await place.first.claim_call("acme", "c1", KEY.id)
    await place.first.commit(a_change())
    place.proxy.lose_answer("update", where=lambda command: "sessions" in command.values())
    with pytest.raises(OutcomeUnknown):
        await place.first.commit(a_change(rev=1, calls=(a_call_row("c1", 2, settled_at=T1),)))
    assert await called(place.second) == []
    await place.first.sweep(place.first.now(), 10)
    assert await called(place.second) == [("c1", 2)]


async def test_rows_that_leave_the_ring_were_copied_before(place: Place) -> None:
    """The commit that begins a half of the ring copies what it replaces, whoever made it and has not copied it."""
    held = place.proxy.hold("update", where=into_calls)
    for rev in range(2 * RING_HALF - 1):
        await place.second.claim_call("acme", f"c{rev}", KEY.id)
        await place.first.commit(a_change(rev=rev, calls=(a_call_row(f"c{rev}", rev + 1, settled_at=T1),)))
    assert len(await called(place.second)) < RING_HALF
    await place.second.commit(a_change(rev=2 * RING_HALF - 1))
    copied = dict(await called(place.second))
    assert {f"c{rev}" for rev in range(RING_HALF - 1)} <= copied.keys()
    held.released.set()
    await place.first.list_calls(CallQuery("acme", 1))
    assert len(await called(place.second)) == 2 * RING_HALF - 1


async def test_no_late_copy_brings_back_what_a_purge_has_removed(place: Place) -> None:
    await place.first.claim_call("acme", "c1", KEY.id)
    held = place.proxy.hold("update", where=into_calls)
    await place.first.commit(a_change(calls=(a_call_row("c1", 1, settled_at=T1),)))
    await place.second.commit(a_tombstone(rev=1))
    await place.second.purge(KEY)
    held.released.set()
    await place.first.list_calls(CallQuery("acme", 1))
    assert await place.second.find_call("acme", "c1") is None
    assert await place.second.claim_call("acme", "c1", "anew") == "anew"
    await place.first.list_calls(CallQuery("acme", 1))
    assert await place.second.find_call("acme", "c1") == FoundCall("anew", None)


async def test_an_older_copy_never_replaces_a_newer_one(place: Place) -> None:
    await place.first.claim_call("acme", "c1", KEY.id)
    held = place.proxy.hold("update", where=into_calls)
    await place.first.commit(a_change(calls=(a_call_row("c1", 1),)))
    await place.second.commit(a_change(rev=1, calls=(a_call_row("c1", 2, settled_at=T1),)))
    assert await called(place.second) == [("c1", 2)]
    held.released.set()
    await place.first.list_calls(CallQuery("acme", 1))
    assert await called(place.second) == [("c1", 2)]


async def test_a_purge_leaves_no_document_of_an_erased_sessions_calls(place: Place) -> None:
    """They are hidden by the tombstone already, so only a look into the collection can tell."""
    assert isinstance(place.second, MongoWarm)
    calls = place.second._link.calls  # pyright: ignore[reportPrivateUsage]
    for number in range(3):
        await place.second.claim_call("acme", f"c{number}", KEY.id)
    await place.second.claim_call("acme", "mine", "other")
    await place.second.commit(a_change(calls=(a_call_row("c0"), a_call_row("c1", settled_at=T1))))
    await place.second.commit(a_tombstone(rev=1))
    await place.second.purge(KEY)
    assert [one["session"] async for one in calls.find({})] == ["other"]
