"""The feed of a session: every line after the one asked for, once and in order, whatever happens on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.feed.items import Line
from sessionmanager.core.feed.subscription import FeedEnded
from sessionmanager.core.history import Range
from sessionmanager.errors import DataCorrupt, Draining, Erased, NotFound, TierUnavailable
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support import scenes
from tests.support.feeds import KEY, QUICK, Fed, ended, fed, lines, newest, seqs, until
from tests.support.scenes import ALICE, talk

pytestmark = pytest.mark.contract

OTHER = Key("acme", "call-2")


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Fed]:
    async with fed(folder) as running:
        yield running


# -- where it begins


async def test_without_a_seq_it_begins_with_what_is_committed_next(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    source = await world.follow()
    assert source.after == await newest(world)
    first = source.after + 1
    await talk(world.core, KEY, 2)
    assert seqs(await lines(source, first + 1)) == [first, first + 1]


@pytest.mark.parametrize("state", ["sealed", "offloaded", "archived", "archived and woken"])
async def test_it_begins_at_any_seq_wherever_the_lines_lie(world: Fed, state: str) -> None:
    if state == "sealed":
        await scenes.sealed(world.core, KEY, 5)
    elif state == "offloaded":
        await scenes.offloaded(world.core, KEY)
    else:
        await scenes.archived(world.core, KEY)
    if state == "archived and woken":
        await talk(world.core, KEY, 1, first=500)
    last = await newest(world)
    _, found = await world.core.reads.lines(KEY, Range(0, last + 1, last))
    stored = {line.seq: line.data for line in found.lines}
    for after in range(last):
        source = await world.follow(after=after)
        got = await lines(source, last)
        assert seqs(got) == list(range(after + 1, last + 1))
        assert all(line.data == stored[line.seq] for line in got), "the bytes as they lie"
        source.close()


async def test_a_follower_of_an_archived_session_gets_what_wakes_it(world: Fed) -> None:
    await scenes.archived(world.core, KEY)
    source = await world.follow()
    await talk(world.core, KEY, 1, first=700)
    got = await lines(source, source.after + 2)
    assert [line.type for line in got] == ["status", "message"]


async def test_whoever_has_caught_up_waits_and_asks_for_nothing(world: Fed) -> None:
    await scenes.sealed(world.core, KEY, 2)
    source = await world.follow(after=0)
    await until(lambda: world.hot.listening == 1)
    await lines(source, await newest(world))
    await source.take(0.02)
    world.warm.begun.clear()
    assert await source.take(0.05) == []
    assert world.warm.begun == []


async def test_a_seq_beyond_the_log_is_told_and_the_feed_goes_on_from_the_newest(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    last = await newest(world)
    source = await world.follow(after=last + 7)
    assert (source.ahead, source.after, source.newest) == (True, last, last)
    await talk(world.core, KEY, 1)
    assert seqs(await lines(source, last + 1)) == [last + 1]


async def test_a_seq_that_only_this_process_has_not_heard_of_yet_is_not_beyond_the_log(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    first = await world.follow()
    world.hot.silent = True
    await until(lambda: world.hot.listening == 1)
    await talk(world.core, KEY, 3)
    last = await newest(world)
    second = await world.follow(after=last)
    assert not second.ahead
    await talk(world.core, KEY, 1, first=10)
    world.hot.silent = False
    await talk(world.core, KEY, 1, first=11)
    assert seqs(await lines(second, last + 2)) == [last + 1, last + 2]
    assert seqs(await lines(first, last + 2)) == list(range(last - 2, last + 3))


async def test_a_session_that_is_not_there_or_is_erased_has_no_feed(world: Fed) -> None:
    with pytest.raises(NotFound):
        await world.follow()
    await scenes.begin(world.core, KEY)
    await world.core.sessions.erase(KEY, ALICE)
    with pytest.raises(Erased):
        await world.follow(after=0)
    assert (len(world.feeds), world.feeds.readers) == (0, 0)


# -- no gap, no repeat


async def test_whoever_comes_and_goes_while_others_write_misses_and_repeats_nothing(
    world: Fed, profile: Profile
) -> None:
    """Seals run by themselves all the time, since the tail's bound is tiny."""
    rounds, rng = {"quick": 40, "full": 1_000}[profile], random.Random(7)
    await scenes.begin(world.core, KEY)
    stop = asyncio.Event()

    async def write(name: int) -> None:
        i = 0
        while not stop.is_set():
            await talk(world.core, KEY, 1, first=name * 1_000_000 + i)
            i += 1
            await asyncio.sleep(rng.random() * 0.004)

    async def read() -> int:
        """Reconnect again and again, after what was got last."""
        got = list[int]()
        for _ in range(rounds // 4):
            source = await world.follow(after=got[-1] if got else 0)
            for _ in range(rng.randrange(4)):
                got += [item.seq for item in await source.take(0.05) if isinstance(item, Line)]
                await asyncio.sleep(rng.random() * 0.01)
            source.close()
        assert got == list(range(1, len(got) + 1))
        return len(got)

    writers = [asyncio.create_task(write(name)) for name in range(3)]
    counts = await asyncio.gather(*(read() for _ in range(4)))
    stop.set()
    await asyncio.gather(*writers)
    assert min(counts) > 10, "there was something to miss"
    assert world.feeds.readers == 0


async def test_what_is_committed_before_the_bell_is_heard_comes_as_soon_as_it_is(folder: Path) -> None:
    async with fed(folder, QUICK._replace(bell_poll_seconds=60.0, poll_seconds=60.0)) as world:
        await scenes.begin(world.core, KEY)
        world.hot.opens.clear()
        source = await world.follow()
        await talk(world.core, KEY, 2)
        assert await source.take(0.02) == []
        world.hot.opens.set()
        assert len(await lines(source, source.after + 2)) == 2


async def test_lines_that_are_sealed_before_anybody_looked_come_from_their_segment(folder: Path) -> None:
    async with fed(folder, QUICK._replace(bell_poll_seconds=60.0)) as world:
        await scenes.begin(world.core, KEY)
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        await source.take(0.02)
        world.hot.silent = True
        await talk(world.core, KEY, 3)
        assert await world.core.works["seal"](KEY)
        world.hot.silent = False
        await talk(world.core, KEY, 1, first=9)
        begin = source.after
        assert seqs(await lines(source, begin + 4)) == list(range(begin + 1, begin + 5))


async def test_a_lost_ring_only_delays(folder: Path) -> None:
    async with fed(folder, QUICK._replace(bell_poll_seconds=0.05)) as world:
        await scenes.begin(world.core, KEY)
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        world.hot.silent = True
        await talk(world.core, KEY, 5)
        assert seqs(await lines(source, source.after + 5))[-1] == await newest(world)


async def test_without_a_bell_the_feed_goes_on_by_looking(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    world.hot.down = True
    source = await world.follow()
    await talk(world.core, KEY, 3)
    assert len(await lines(source, source.after + 3)) == 3
    world.hot.down = False
    await until(lambda: world.hot.listening == 1, "it listens again")


async def test_while_warm_is_away_nothing_is_lost(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    source = await world.follow()
    await until(lambda: world.hot.listening == 1)
    for operation in ("read", "load"):
        world.warm.fail_before(operation, TierUnavailable("warm"), times=3)
    with pytest.raises(TierUnavailable):
        await world.follow()
    await talk(world.core, KEY, 2)
    assert len(await lines(source, source.after + 2)) == 2


async def test_one_reader_reads_for_all(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    sources = [await world.follow(subject=f"s{i}") for i in range(50)]
    await until(lambda: world.hot.listening == 1)
    await asyncio.gather(*(source.take(0.02) for source in sources))
    world.warm.begun.clear()
    await talk(world.core, KEY, 1)
    last = await newest(world)
    world.warm.begun.remove("load")  # ours, of the line above
    for source in sources:
        assert seqs(await lines(source, last)) == [last]
    assert world.warm.begun.count("read") == 1
    assert world.feeds.readers == 1
    for source in sources:
        source.close()
        source.close()
    assert (len(world.feeds), world.feeds.readers) == (0, 0)
    await until(lambda: world.hot.listening == 0)


# -- how it ends


async def test_an_erased_session_ends_its_feed_and_says_so(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    live, behind = await world.follow(), await world.follow(after=0)
    await talk(world.core, KEY, 1)
    got = await lines(live, live.after + 1)
    await world.core.sessions.erase(KEY, ALICE)
    assert got[-1].type == "message"
    assert [await ended(source) for source in (live, behind)] == ["erased", "erased"]
    assert world.feeds.readers == 0


async def test_a_replica_that_stops_sends_everybody_away_after_what_was_handed_out(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    source, idle = await world.follow(), await world.follow()
    await talk(world.core, KEY, 1)
    await until(lambda: bool(source._pending))
    world.feeds.drain()
    assert [item.seq for item in await source.take(1.0) if isinstance(item, Line)] == [source.after]
    assert [await ended(one) for one in (source, idle)] == ["draining", "draining"]
    with pytest.raises(Draining):
        await world.follow()
    world.feeds.drain()


async def test_a_fault_of_ours_ends_the_feed_and_the_next_one_begins_anew(
    world: Fed, capsys: pytest.CaptureFixture[str]
) -> None:
    await scenes.begin(world.core, KEY)
    source = await world.follow()
    await until(lambda: world.hot.listening == 1)
    await asyncio.sleep(0.01)
    world.warm.fail_before("read", ZeroDivisionError())
    await talk(world.core, KEY, 1)
    assert await ended(source) == "failed"
    assert "feed.failed" in capsys.readouterr().out
    again = await world.follow(after=source.after)
    assert len(await lines(again, source.after + 1)) == 1


async def test_a_log_that_does_not_check_ends_the_feed_of_who_reads_it(
    world: Fed, capsys: pytest.CaptureFixture[str]
) -> None:
    await scenes.sealed(world.core, KEY, 2)
    world.warm.fail_before("get_body", DataCorrupt("x"), times=9)
    world.core.bodies.forget(KEY)
    source = await world.follow(after=0)
    assert await ended(source) == "failed"
    assert "feed.failed" in capsys.readouterr().out


async def test_a_bell_that_breaks_in_an_unknown_way_is_listened_to_again(
    world: Fed, capsys: pytest.CaptureFixture[str]
) -> None:
    await scenes.begin(world.core, KEY)
    world.hot.broken = ZeroDivisionError()
    source = await world.follow()
    await talk(world.core, KEY, 1)
    assert len(await lines(source, source.after + 1)) == 1
    world.hot.broken = None
    await until(lambda: world.hot.listening == 1)
    assert "feed.failed" in capsys.readouterr().out


# -- those who do not keep up


async def test_what_waits_for_a_slow_reader_is_bounded_and_nothing_is_lost(folder: Path) -> None:
    async with fed(folder, QUICK._replace(pending_items_max=4, slow_seconds=60.0)) as world:
        await scenes.begin(world.core, KEY)
        source, quick = await world.follow(), await world.follow()
        begin = source.after
        for i in range(30):
            await talk(world.core, KEY, 1, first=i)
            await lines(quick, begin + 1 + i)
            assert len(source._pending) <= 4
        assert seqs(await lines(source, begin + 30)) == list(range(begin + 1, begin + 31))
        await talk(world.core, KEY, 1, first=99)
        assert seqs(await lines(source, begin + 31)) == [begin + 31], "it keeps up again"


async def test_a_reader_that_stays_behind_is_cut_and_comes_back_without_a_gap(folder: Path) -> None:
    async with fed(folder, QUICK._replace(pending_bytes_max=300, slow_seconds=0.02)) as world:
        await scenes.begin(world.core, KEY)
        source, quick = await world.follow(), await world.follow()
        got, begin = list[int](), source.after
        for i in range(12):
            await talk(world.core, KEY, 1, first=i)
            await lines(quick, begin + 1 + i)
        await asyncio.sleep(0.04)
        with pytest.raises(FeedEnded, match="slow"):
            while True:
                got += seqs([item for item in await source.take(0.1) if isinstance(item, Line)])
        source.close()
        again = await world.follow(after=source.after)
        got += seqs(await lines(again, begin + 12))
        assert got == list(range(begin + 1, begin + 13))


async def test_a_first_catching_up_may_take_as_long_as_it_takes(folder: Path) -> None:
    async with fed(folder, QUICK._replace(page_lines=1, slow_seconds=0.01)) as world:
        await scenes.begin(world.core, KEY)
        await talk(world.core, KEY, 10)
        source, got = await world.follow(after=0), list[int]()
        while len(got) < await newest(world):
            got += seqs([item for item in await source.take(0.1) if isinstance(item, Line)])
            await asyncio.sleep(0.005)
        assert got == list(range(1, len(got) + 1))
