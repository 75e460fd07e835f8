"""The feed of a tenant: each line of each of its sessions at least once, those of one session in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from sessionmanager.core.feed.events import Event, Gap, event_of
from sessionmanager.core.feed.tenant import OVERLAP_SECONDS
from sessionmanager.core.feed.tenant_subscription import TenantSubscription
from sessionmanager.errors import DataCorrupt, TierUnavailable
from sessionmanager.model.entry import Draft, StoredEntry
from sessionmanager.tiers.warm.protocol import ListPage, ListQuery
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.feeds import PATIENCE_SECONDS, QUICK, Fed, ended, fed, newest, until
from tests.support.scenes import ALICE, talk

pytestmark = pytest.mark.contract

ONE, TWO, THEIRS = Key("acme", "one"), Key("acme", "two"), Key("umbrella", "one")
LOOKS = 3
"""So many lists have been read: whatever was there before the first of them has been seen."""


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Fed]:
    async with fed(folder) as running:
        yield running


async def follow(world: Fed, *, since: str | None = None, tenant: str = "acme") -> TenantSubscription:
    """A feed that has begun: what is committed from now on is news to it."""
    source = await world.feeds.follow_tenant(tenant, subject="bob", since=since)
    await looks(world)
    return source


async def looks(world: Fed) -> None:
    done = world.warm.applied.count("list")
    await until(lambda: world.warm.applied.count("list") >= done + LOOKS)


async def events(source: TenantSubscription, last: tuple[str, int]) -> list[Event]:
    """What comes, up to this line of this session."""
    got: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not got or last not in places(got):
            got += [item for item in await source.take(1.0) if isinstance(item, Event)]
    return got


def places(got: list[Event]) -> list[tuple[str, int]]:
    return [(event.session, event.seq) for event in got]


def of(got: list[Event], key: Key) -> list[int]:
    return [event.seq for event in got if event.session == key.id]


async def test_it_begins_with_what_happens_next_in_any_session(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    source = await follow(world)
    await scenes.begin(world.core, TWO)
    await talk(world.core, ONE, 2)
    await scenes.begin(world.core, THEIRS)
    got = await events(source, ("one", await newest(world, ONE)))
    assert of(got, TWO) == [1, 2, 3]
    assert of(got, ONE) == [4, 5]
    assert len(got) == 5, "nothing of another tenant, and nothing twice"


async def test_those_of_one_session_come_in_order_while_many_write(world: Fed) -> None:
    keys = [Key("acme", f"s{i}") for i in range(8)]
    source = await follow(world)
    rng = random.Random(3)

    async def write(key: Key) -> None:
        await scenes.begin(world.core, key)
        for i in range(20):
            await talk(world.core, key, 1, first=i)
            await asyncio.sleep(rng.random() * 0.004)

    await asyncio.gather(*(write(key) for key in keys))
    want = {key.id: list(range(1, await newest(world, key) + 1)) for key in keys}
    got = dict[str, list[int]]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while got != want:
            for item in await source.take(1.0):
                assert isinstance(item, Event)
                got.setdefault(item.session, []).append(item.seq)


async def test_whoever_comes_back_with_a_cursor_misses_nothing(world: Fed) -> None:
    """Cursors are instants, so some comes twice; what is asserted is that all comes, and each session in order."""
    rng = random.Random(5)
    await scenes.begin(world.core, ONE)
    await scenes.begin(world.core, TWO)
    source = await follow(world)
    stop = asyncio.Event()
    begin = {key.id: await newest(world, key) for key in (ONE, TWO)}

    async def write(key: Key, name: int) -> None:
        i = 0
        while not stop.is_set():
            await talk(world.core, key, 1, first=name * 1_000_000 + i)
            i += 1
            world.clock.seconds += 0.25
            await asyncio.sleep(rng.random() * 0.01)

    writers = [asyncio.create_task(write(key, name)) for name, key in enumerate((ONE, TWO))]
    seen = {"one": set[int](), "two": set[int]()}
    for _ in range(15):
        last = dict[str, int]()
        for _ in range(3):
            for item in await source.take(0.05):
                assert isinstance(item, Event)
                assert item.seq > last.get(item.session, 0), "in one feed each comes once, in order"
                last[item.session] = item.seq
                seen[item.session].add(item.seq)
        source.close()
        source = await world.feeds.follow_tenant("acme", subject="bob", since=source.cursor)
    stop.set()
    await asyncio.gather(*writers)
    rest = await events(source, ("one", await newest(world, ONE)))
    if ("two", await newest(world, TWO)) not in places(rest):
        rest += await events(source, ("two", await newest(world, TWO)))
    for event in rest:
        seen[event.session].add(event.seq)
    for key in (ONE, TWO):
        assert set(range(begin[key.id] + 1, await newest(world, key) + 1)) <= seen[key.id]


async def test_a_cursor_from_long_ago_brings_what_happened_since_and_not_what_was_before(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    world.clock.seconds += 10 * OVERLAP_SECONDS
    source = await follow(world)
    cursor = source.cursor
    source.close()
    world.clock.seconds += 1_000
    await scenes.archived(world.core, TWO)
    await talk(world.core, ONE, 30)
    world.clock.seconds += 1_000
    source = await world.feeds.follow_tenant("acme", subject="bob", since=cursor)
    ends = {(key.id, await newest(world, key)) for key in (ONE, TWO)}
    got = list[Event]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not ends <= set(places(got)):
            got += [item for item in await source.take(1.0) if isinstance(item, Event)]
    assert of(got, ONE) == list(range(4, await newest(world, ONE) + 1))
    assert of(got, TWO) == list(range(1, await newest(world, TWO) + 1)), "archived ones, too"


async def test_what_was_told_long_ago_is_not_told_again_to_who_comes_back(world: Fed) -> None:
    source = await follow(world)
    await scenes.begin(world.core, ONE)
    await events(source, ("one", 3))
    world.clock.seconds += 10 * OVERLAP_SECONDS
    await looks(world)
    await scenes.begin(world.core, TWO)
    await events(source, ("two", 3))
    source.close()
    again = await world.feeds.follow_tenant("acme", subject="bob", since=source.cursor)
    assert of(await events(again, ("two", 3)), ONE) == []


def hide(world: Fed, session: str) -> set[str]:
    """Lists are behind: they do not have this session, until it is taken out of what is answered."""
    hidden, real = {session}, world.warm.list

    async def behind(query: ListQuery) -> ListPage:
        page: ListPage = await real(query)
        return page._replace(items=tuple(item for item in page.items if item.key.id not in hidden))

    world.warm.list = behind  # type: ignore[attr-defined]
    return hidden


async def test_a_cursor_is_of_when_the_event_was_handed_out_not_of_when_it_was_taken(world: Fed) -> None:
    source = await follow(world)
    hidden = hide(world, "two")
    await scenes.begin(world.core, ONE)
    await scenes.begin(world.core, TWO)
    await looks(world)
    world.clock.seconds += 10 * OVERLAP_SECONDS
    assert of(await events(source, ("one", 3)), TWO) == []
    hidden.clear()
    source.close()
    again = await world.feeds.follow_tenant("acme", subject="bob", since=source.cursor)
    assert of(await events(again, ("two", 3)), TWO) == [1, 2, 3]


async def test_a_session_that_was_quiet_for_long_is_not_told_from_its_beginning(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    await talk(world.core, ONE, 10)
    world.clock.seconds += 10 * OVERLAP_SECONDS
    source = await follow(world)
    await talk(world.core, ONE, 1, first=50)
    last = await newest(world, ONE)
    assert places(await events(source, ("one", last))) == [("one", last)]


async def test_a_commit_that_a_list_shows_late_is_told_as_long_as_it_is_within_the_overlap(world: Fed) -> None:
    source = await follow(world)
    hidden = hide(world, "two")
    await scenes.begin(world.core, TWO)
    world.clock.seconds += OVERLAP_SECONDS - 5
    await looks(world)
    await scenes.begin(world.core, ONE)
    assert of(await events(source, ("one", 3)), TWO) == []
    hidden.clear()
    assert of(await events(source, ("two", 3)), TWO) == [1, 2, 3]


async def test_what_its_own_reading_brought_the_reader_does_not_bring_again(folder: Path) -> None:
    async with fed(folder, QUICK._replace(tenant_poll_seconds=0.2)) as world:
        cursor = (await follow(world)).cursor
        await scenes.begin(world.core, ONE)
        source = await world.feeds.follow_tenant("acme", subject="bob", since=cursor)
        assert of(await events(source, ("one", 3)), ONE) == [1, 2, 3]
        await looks(world)
        assert await source.take(0.02) == []
        await talk(world.core, ONE, 1)
        assert of(await events(source, ("one", 4)), ONE) == [4]


@pytest.mark.parametrize("pending_items_max", [100, 1])
async def test_what_happens_while_it_reads_for_itself_is_not_lost(folder: Path, pending_items_max: int) -> None:
    async with fed(folder, QUICK._replace(pending_items_max=pending_items_max)) as world:
        cursor = (await follow(world)).cursor
        await scenes.begin(world.core, ONE)
        await scenes.begin(world.core, TWO)
        await looks(world)
        source = await world.feeds.follow_tenant("acme", subject="bob", since=cursor)
        got = [item for item in await source.take(1.0) if isinstance(item, Event)]
        assert of(got, ONE) == [1, 2, 3], "it has read one and not yet the other"
        for i in range(3):
            await talk(world.core, ONE, 1, first=i)
            await looks(world)
        got += await events(source, ("one", 6))
        assert set(of(got, ONE)) == {1, 2, 3, 4, 5, 6}
        assert set(of(got, TWO)) == {1, 2, 3}


async def test_sessions_that_are_quiet_again_are_not_remembered(world: Fed) -> None:
    source = await follow(world)
    reader = world.feeds._tenants["acme"]
    await scenes.begin(world.core, ONE)
    await events(source, ("one", 3))
    assert reader._seen == {"one": 3}
    world.clock.seconds += 10 * OVERLAP_SECONDS
    await looks(world)
    assert reader._seen == {}


async def test_while_warm_is_away_nothing_is_lost(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    source = await follow(world)
    for operation in ("list", "read"):
        world.warm.fail_before(operation, TierUnavailable("warm"), times=4)
    await talk(world.core, ONE, 3)
    assert of(await events(source, ("one", 6)), ONE) == [4, 5, 6]


async def test_one_reader_reads_for_all_and_ends_with_the_last(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    sources = [await follow(world) for _ in range(5)]
    world.warm.begun.clear()
    await talk(world.core, ONE, 1)
    for source in sources:
        assert places(await events(source, ("one", 4))) == [("one", 4)]
    assert world.warm.begun.count("read") == 1
    for source in sources:
        source.close()
    await asyncio.sleep(0.01)
    world.warm.begun.clear()
    await asyncio.sleep(0.1)
    assert world.warm.begun == [], "nobody looks any more"


async def test_what_waits_for_a_slow_reader_is_bounded_and_nothing_is_lost(folder: Path) -> None:
    async with fed(folder, QUICK._replace(pending_items_max=3, slow_seconds=60.0)) as world:
        await scenes.begin(world.core, ONE)
        source, quick = await follow(world), await follow(world)
        for i in range(20):
            await talk(world.core, ONE, 1, first=i)
            await events(quick, ("one", 4 + i))
            assert len(source._pending) <= 3
        got = await events(source, ("one", 23))
        assert set(range(4, 24)) <= set(of(got, ONE))
        await talk(world.core, ONE, 1, first=90)
        assert of(await events(source, ("one", 24)), ONE)[-1] == 24


async def test_a_reader_that_stays_behind_is_cut(folder: Path) -> None:
    async with fed(folder, QUICK._replace(pending_items_max=1, slow_seconds=0.01)) as world:
        await scenes.begin(world.core, ONE)
        source, quick = await follow(world), await follow(world)
        for i in range(6):
            await talk(world.core, ONE, 1, first=i)
            await events(quick, ("one", 4 + i))
        await asyncio.sleep(0.05)
        assert await ended(source) == "slow"


async def test_when_more_has_happened_than_can_be_told_the_feed_says_so_and_goes_on(folder: Path) -> None:
    async with fed(folder, QUICK._replace(tenant_sessions_max=0)) as world:
        source = await follow(world)
        cursor = source.cursor
        for i in range(201):
            await world.core.sessions.create("acme", f"m{i}", {}, (), ALICE)
        got: list[Any] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(isinstance(item, Gap) for item in got):
                got += await source.take(1.0)
        await looks(world)
        assert await source.take(0.02) == [], "said once"
        for since in (cursor, None):
            again = await world.feeds.follow_tenant("acme", subject="bob", since=since)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [type(item) for item in await again.take(1.0)] == [Gap]
        world.clock.seconds += 2 * OVERLAP_SECONDS
        await looks(world)
        await talk_of_a_new_one(world)
        assert ("m500", 1) in places(await events(source, ("m500", 1))), "it goes on"


async def talk_of_a_new_one(world: Fed) -> None:
    await world.core.sessions.create("acme", "m500", {}, (), ALICE)


async def test_a_replica_that_stops_sends_everybody_away(world: Fed) -> None:
    live = await follow(world)
    behind = await world.feeds.follow_tenant("acme", subject="bob", since=live.cursor)
    world.feeds.drain()
    assert [await ended(source) for source in (live, behind)] == ["draining", "draining"]


async def test_a_fault_of_ours_ends_the_feed(world: Fed, capsys: pytest.CaptureFixture[str]) -> None:
    source = await follow(world)
    world.warm.fail_before("list", ZeroDivisionError())
    assert await ended(source) == "failed"
    assert "feed.failed" in capsys.readouterr().out
    await follow(world)


async def test_a_log_that_does_not_check_keeps_no_other_session_back(
    world: Fed, capsys: pytest.CaptureFixture[str]
) -> None:
    await scenes.begin(world.core, ONE)
    source = await follow(world)
    world.warm.fail_before("read", DataCorrupt("x"))
    await talk(world.core, ONE, 1)
    await looks(world)
    assert "feed.failed" in capsys.readouterr().out
    await scenes.begin(world.core, TWO)
    await talk(world.core, ONE, 1, first=2)
    assert ("one", 5) in places(await events(source, ("one", 5)))


# -- names


async def test_each_kind_of_entry_has_a_name(world: Fed) -> None:
    source = await follow(world)
    core = world.core
    await core.sessions.create("acme", "one", {"caller": Raw(b'"ann"')}, (), ALICE)
    await core.sessions.append(
        ONE,
        (
            Draft(type="message", role="user", content=Raw(b'"hi"')),
            Draft(type="custom.order", data=Raw(b'{"event":"joined"}')),
            Draft(type="error", content=Raw(b'"broken"')),
        ),
        ALICE,
    )
    await core.sessions.transition(ONE, "end", ALICE)
    got = await events(source, ("one", await newest(world, ONE)))
    assert [event.type for event in got] == [
        "session.created",
        "session.status_changed",
        "entry.message",
        "entry.custom.order",
        "error",
        "session.status_changed",
    ]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (b'"type":"participant","data":{"event":"joined","participant":{}}', "participant.joined"),
        (b'"type":"participant","data":{"event":"joined","participant":{"kind":"service"}}', "microservice.joined"),
        (b'"type":"participant","data":{"event":"joined","participant":{"kind":"client"}}', "client.joined"),
        (b'"type":"participant","data":{"event":"floor"}', "floor.changed"),
        (b'"type":"status","status":"ready","data":{}', "session.ready"),
        (b'"type":"state","data":{"merge":{"labels":["x"]}}', "session.updated"),
        (b'"type":"call","status":"ringing"', "call.ringing"),
        (b'"type":"room","data":{}', "room.changed"),
        (b'"type":"service","data":{"event":"ready"}', "service.ready"),
        (b'"type":"function_call","name":"f"', "entry.function_call"),
    ],
)
def test_the_name_comes_from_what_the_entry_says(entry: bytes, name: str) -> None:
    data = b'{"seq":7,%b,"recorded_at":"2026-11-21T12:00:00.000Z","actor":"x"}' % entry
    event = event_of("one", StoredEntry(7, data), "2026-11-21T12:00:00.000Z")
    assert (event.type, event.data, event.at) == (name, data, "2026-11-21T12:00:00.000Z")
