"""How many feeds there may be, what one leaves behind, and signals, which nobody keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.feed.items import Line, Signal
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.signals import SIGNALS_BURST, Signals
from sessionmanager.errors import NotFound, RateLimited
from sessionmanager.settings_parts import feed_limits
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.feeds import KEY, QUICK, Fed, fed, lines, newest, until
from tests.support.scenes import talk
from tests.support.server import settings_for

pytestmark = pytest.mark.contract

OTHER = Key("acme", "call-2")


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Fed]:
    async with fed(folder) as running:
        yield running


@pytest.mark.parametrize(
    ("bound", "third"),
    [
        ("streams_max", (OTHER, "c")),
        ("streams_per_session_max", (KEY, "c")),
        ("streams_per_tenant_max", (OTHER, "c")),
        ("streams_per_subject_max", (OTHER, "a")),
    ],
)
async def test_feeds_are_bounded_and_a_refusal_says_when_to_come_back(
    folder: Path, bound: str, third: tuple[Key, str]
) -> None:
    async with fed(folder, QUICK._replace(**{bound: 2})) as world:
        for key in (KEY, OTHER):
            await scenes.begin(world.core, key)
        key, subject = third
        first = await world.follow(KEY, subject=subject)
        await world.follow(key, subject=subject)
        waits = set[float | None]()
        for _ in range(3):
            with pytest.raises(RateLimited) as refused:
                await world.follow(key, subject=subject)
            waits.add(refused.value.retry_after_seconds)
        assert len(waits) == 3, "each comes back at a time of its own"
        first.close()
        await world.follow(key, subject=subject)
        if bound != "streams_max":
            another = Key("umbrella", "x")
            await scenes.begin(world.core, another)
            await world.follow(another, subject="z")


async def test_a_feed_that_is_refused_or_fails_takes_no_place(folder: Path) -> None:
    async with fed(folder, QUICK._replace(streams_max=1)) as world:
        await scenes.begin(world.core, KEY)
        for _ in range(3):
            with pytest.raises(NotFound):
                await world.follow(OTHER)
        source = await world.follow()
        source.close()
        await world.follow()


async def test_a_feed_that_ended_leaves_nothing_behind(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    for _ in range(20):
        source = await world.follow(after=0)
        await lines(source, 1)
        source.close()

    def tasks() -> list[str]:
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
        return [name for name in names if name.startswith("Reader")]

    await until(lambda: not tasks(), "its tasks have ended")
    assert world.hot.listening == 0


# -- signals


async def test_a_signal_reaches_who_follows_now_and_is_kept_nowhere(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    source = await world.follow()
    await until(lambda: world.hot.listening == 1)
    before = await newest(world)
    await world.feeds.signals.send(KEY, b'{"type":"typing"}')
    assert await source.take(1.0) == [Signal(b'{"type":"typing"}')]
    assert await newest(world) == before
    late = await world.follow(after=0)
    assert not any(isinstance(item, Signal) for item in await lines(late, before))


async def test_signals_that_nobody_takes_are_dropped_and_lines_are_not(world: Fed) -> None:
    await scenes.begin(world.core, KEY)
    source, quick = await world.follow(), await world.follow()
    await until(lambda: world.hot.listening == 1)
    for _ in range(90):
        await world.feeds.signals.send(KEY, b"{}")
        await quick.take(1.0)
    await talk(world.core, KEY, 1)
    await lines(quick, quick.after + 1)
    got = await source.take(1.0)
    assert sum(isinstance(item, Signal) for item in got) == 64
    assert [item.seq for item in got if isinstance(item, Line)] == [source.after]


async def test_the_rate_of_signals_is_bounded_by_session() -> None:
    class Nobody:
        async def publish(self, key: Key, data: bytes) -> None: ...

    now = 0.0
    signals = Signals(Nobody(), lambda: now)  # type: ignore[arg-type]
    for _ in range(int(SIGNALS_BURST)):
        await signals.send(KEY, b"")
    with pytest.raises(RateLimited):
        await signals.send(KEY, b"")
    await signals.send(OTHER, b"")
    now = 1.0
    for _ in range(50):
        await signals.send(KEY, b"")
    with pytest.raises(RateLimited):
        await signals.send(KEY, b"")


def test_operators_set_how_many_feeds_there_are_and_how_slow_a_reader_may_be(folder: Path) -> None:
    settings = settings_for(
        folder,
        streams_max="7",
        streams_per_session_max="6",
        streams_per_tenant_max="5",
        streams_per_subject_max="4",
        stream_pending_bytes_max="65536",
        stream_slow_seconds="3",
        stream_heartbeat_seconds="2",
        stream_goaway_seconds="1",
    )
    assert feed_limits(settings) == FeedLimits(
        streams_max=7,
        streams_per_session_max=6,
        streams_per_tenant_max=5,
        streams_per_subject_max=4,
        pending_bytes_max=65_536,
        slow_seconds=3.0,
        heartbeat_seconds=2.0,
        goaway_seconds=1.0,
    )


def test_what_nobody_sets_is_what_the_parts_go_by(folder: Path) -> None:
    assert feed_limits(settings_for(folder)) == FeedLimits()
