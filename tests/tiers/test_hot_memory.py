"""Memory hot: the contract, and its own bounds."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sessionmanager.errors import TierUnavailable
from sessionmanager.model.codec import Stored, decode_head, encode_head
from sessionmanager.model.head import Head, KeyRing, Profile, Pulse
from sessionmanager.tiers.hot.memory import FLOORS_PER_SESSION, MemoryHot, open_memory
from sessionmanager.tiers.hot.protocol import Copy, Hot, Ring
from sessionmanager.words import Key
from tests.contracts.hot import HotContract, rev_of
from tests.contracts.hot_bell import heard
from tests.support.hot_builders import AS_OF, AS_OF_SECONDS, KEY, OTHER, a_change, a_copy, a_stored, fill, lines, ring
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.contract


class Clock:
    def __init__(self) -> None:
        self.seconds = AS_OF_SECONDS

    def __call__(self) -> float:
        return self.seconds

    async def go_on(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def key(number: int) -> Key:
    return Key("acme", f"call-{number}")


class TestMemory(HotContract):
    @pytest.fixture
    async def hot(self, clock: Clock) -> AsyncIterator[Hot]:
        async with open_memory("memory://", clock=clock) as hot:
            yield hot

    @pytest.fixture
    def pass_seconds(self, clock: Clock) -> Callable[[float], Awaitable[None]]:
        return clock.go_on


class TestMemoryAtItsBounds(TestMemory):
    """The same promises where hardly anything may be kept."""

    @pytest.fixture
    async def hot(self, clock: Clock) -> AsyncIterator[Hot]:
        async with open_memory("memory://", clock=clock, sessions_max=5, tail_entries_max=9) as hot:
            yield hot


@pytest.mark.parametrize("url", ["memory://host", "memory:///path", "redis://", "memory://?a=1", ""])
async def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        async with open_memory(url):
            pass


@pytest.mark.parametrize("bound", ["sessions_max", "bytes_max", "tail_entries_max", "ttl_seconds", "listeners_max"])
async def test_a_bound_below_one_is_refused(bound: str) -> None:
    with pytest.raises(ValueError, match="bounds"):
        async with open_memory("memory://", **{bound: 0}):
            pass


async def test_the_longest_unused_copy_goes_first(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, sessions_max=3) as hot:
        for number in range(3):
            await fill(hot, a_copy(1, key(number)))
        await hot.recall(key(0))
        await hot.after_commit(a_change(1, key(1)), AS_OF)
        await fill(hot, a_copy(1, key(3)))
        assert [await rev_of(hot, key(number)) for number in range(4)] == [1, 2, None, 1]


async def test_copies_stay_within_their_bytes(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, bytes_max=100_000) as hot:
        assert isinstance(hot, MemoryHot)
        for number in range(20):
            await fill(hot, a_copy(1, key(number), tail=lines(1, 10, size=1000)))
            assert hot.bytes_held <= 100_000
        assert hot.sessions_held == 6
        await fill(hot, a_copy(1, tail=lines(1, 2, size=60_000)))
        assert hot.bytes_held <= 100_000
        for number in range(20):
            await hot.drop(key(number))
        await hot.drop(KEY)
        assert (hot.sessions_held, hot.bytes_held) == (0, 0)


async def test_a_copy_weighs_the_same_however_it_became_what_it_is(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, tail_entries_max=10) as hot:
        assert isinstance(hot, MemoryHot)
        await fill(hot, a_copy(1, tail=lines(1, 8, size=300)))
        for rev in range(1, 9):
            added = lines(rev + 8, rev + 8, size=100 * rev)
            await hot.after_commit(a_change(rev, entries=added, tail_from=rev), AS_OF)
        grown, weight = await hot.recall(KEY), hot.bytes_held
        assert grown is not None
        assert [line.seq for line in grown.tail] == list(range(8, 17))
        await hot.drop(KEY)
        assert hot.bytes_held == 0
        await fill(hot, grown)
        assert (await hot.recall(KEY), hot.bytes_held) == (grown, weight)


async def test_a_copy_over_all_the_bytes_is_not_kept_and_costs_the_others_nothing(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, bytes_max=50_000) as hot:
        await fill(hot, a_copy(1))
        await fill(hot, a_copy(1, OTHER))
        huge = Stored(OTHER, 2, 2, {"context": b"x" * 60_000})
        await fill(hot, a_copy(2, stored=huge))
        assert await rev_of(hot) == 1
        assert await hot.recall(OTHER) is None


async def test_a_tail_is_bounded_by_lines_and_by_bytes(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        await fill(hot, a_copy(1, tail=lines(1, 300)))
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(201, 300)
        await hot.after_commit(a_change(1, entries=lines(301, 303)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(204, 303)
        await hot.after_commit(a_change(2, entries=lines(304, 310, size=10_000)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(305, 310, size=10_000)
        await hot.after_commit(a_change(3, entries=lines(311, 311, size=70_000)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == ()
        await hot.after_commit(a_change(4, entries=lines(312, 312)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(312, 312)


async def test_a_tail_never_has_a_gap(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        await fill(hot, a_copy(1, tail=lines(1, 3)))
        await hot.after_commit(a_change(1, entries=lines(5, 6)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(5, 6)


async def test_a_copy_dies_of_age_counted_from_its_as_of(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, ttl_seconds=60) as hot:
        assert isinstance(hot, MemoryHot)
        clock.seconds += 30  # as if warm had been slow
        await fill(hot, a_copy(1))
        clock.seconds += 29.9
        assert await rev_of(hot) == 1
        clock.seconds += 0.2
        assert await hot.recall(KEY) is None
        assert (hot.sessions_held, hot.bytes_held) == (0, 0)


@on_virtual_time
async def test_the_dead_are_swept_out_of_memory() -> None:
    loop = asyncio.get_running_loop()
    options = {"ttl_seconds": 60, "cleanup_seconds": 300, "clock": lambda: AS_OF_SECONDS + loop.time()}
    async with open_memory("memory://", **options) as hot:  # type: ignore[arg-type]
        assert isinstance(hot, MemoryHot)
        await fill(hot, a_copy(1))
        await asyncio.sleep(299)
        await fill(hot, a_copy(1, OTHER, as_of="2026-11-21T12:04:59.000Z"))
        assert hot.sessions_held == 2
        await asyncio.sleep(2)
        assert hot.sessions_held == 1
        assert await rev_of(hot, OTHER) == 1
        await asyncio.sleep(300)
        assert (hot.sessions_held, hot.bytes_held) == (0, 0)


async def test_a_forgotten_floor_takes_the_token_of_its_session_with_it(clock: Clock) -> None:
    """A slow filler holds a token and old bytes while so many others commit that the floor must go."""
    async with open_memory("memory://", clock=clock, sessions_max=2) as hot:
        await hot.after_commit(a_change(6), AS_OF)
        slow = await hot.begin_fill(KEY)
        assert slow is not None
        for number in range(2 * FLOORS_PER_SESSION - 1):
            await hot.after_commit(a_change(1, key(number)), AS_OF)
        assert await hot.begin_fill(KEY) is None  # the floor is still there, and so is the token
        await hot.after_commit(a_change(1, key(1000)), AS_OF)
        await hot.end_fill(KEY, slow, a_copy(5))
        assert await hot.recall(KEY) is None


async def test_with_the_defaults_a_floor_outlives_ten_leases_at_a_thousand_commits_a_second(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        await hot.after_commit(a_change(6), AS_OF)
        for number in range(20_000):
            await hot.after_commit(a_change(1, key(number)), AS_OF)
        await fill(hot, a_copy(6))
        assert await hot.recall(KEY) is None


async def test_a_clock_set_back_does_not_stop_fills(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        assert await hot.begin_fill(KEY) is not None
        clock.seconds -= 3600
        assert await hot.begin_fill(KEY) is not None


async def test_fills_that_nobody_ends_are_bounded_and_forgotten(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        tokens = [await hot.begin_fill(key(number)) for number in range(10_001)]
        assert None not in tokens[:10_000]
        assert tokens[10_000] is None
        clock.seconds += 3
        assert await hot.begin_fill(KEY) is not None


async def test_nothing_is_copied_and_a_decoded_head_is_kept(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot:
        stored = a_stored(1)
        await fill(hot, a_copy(1, stored=stored))
        copy = await hot.recall(KEY)
        change = a_change(1)
        await hot.after_commit(change, AS_OF)
        moved = await hot.recall(KEY)
        assert copy is not None
        assert moved is not None
        assert copy.stored is stored
        assert moved.stored is change.stored


async def test_a_decoded_head_never_carries_wrapped_keys_into_hot(clock: Clock) -> None:
    pulse = Pulse(version=1, status="active", updated_at=AS_OF, last_activity=AS_OF)
    keys = KeyRing(current="k1", wrapped={"k1": "c2VjcmV0"})
    head = Head(key=KEY, rev=1, pulse=pulse, profile=Profile(id=KEY.id, created_at=AS_OF), keys=keys)
    stored, _ = encode_head(head, None)
    async with open_memory("memory://", clock=clock) as hot:
        await fill(hot, Copy(stored, (), AS_OF))
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.stored.head.keys == KeyRing()
        assert copy.stored.head.pulse == pulse
        assert decode_head(stored).keys == keys


async def test_at_most_one_ring_waits_and_it_is_the_newest(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock) as hot, hot.listen(KEY) as rings:
        for version in (1, 3, 2):
            await ring(hot, KEY, version)
        assert await heard(rings, 1) == [Ring(KEY, 3)]
        await ring(hot, KEY, 2)
        assert await heard(rings, 1) == [Ring(KEY, 2)]


async def test_listeners_are_bounded_and_leave_nothing_behind(clock: Clock) -> None:
    async with open_memory("memory://", clock=clock, listeners_max=2) as hot:
        async with hot.listen(KEY), hot.listen(OTHER):
            with pytest.raises(TierUnavailable):
                await hot.listen(KEY).__aenter__()
        async with hot.listen(KEY), hot.listen(KEY):
            pass


async def test_closing_ends_all_listening(clock: Clock) -> None:
    opening = open_memory("memory://", clock=clock)
    hot = await opening.__aenter__()
    async with hot.listen(KEY) as rings:
        await fill(hot, a_copy(1))
        await opening.__aexit__(None, None, None)
        assert [ring async for ring in rings] == []
        assert await hot.recall(KEY) is None


async def test_a_thousand_copies_weigh_at_most_what_they_are_said_to(clock: Clock) -> None:
    """The bound of bytes is a bound of memory: the estimate is not under what the objects really take."""
    async with open_memory("memory://", clock=clock) as hot:
        assert isinstance(hot, MemoryHot)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(1000):
                pulse = Pulse(version=1, status="active", updated_at=AS_OF, last_activity=AS_OF)
                profile = Profile(id=f"call-{number}", created_at=AS_OF, labels=("vip",))
                stored, _ = encode_head(Head(key=key(number), rev=1, pulse=pulse, profile=profile), None)
                tail = lines(1, 20, size=200)
                await fill(hot, Copy(stored, tail, AS_OF))
                copy = await hot.recall(key(number))
                assert copy is not None
                assert copy.stored.head.rev == 1
            del stored, tail, copy
            gc.collect()
            really, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 0.4 * hot.bytes_held < really <= hot.bytes_held
