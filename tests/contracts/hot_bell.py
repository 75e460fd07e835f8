"""What every hot tier promises of its doorbell and of signals; part of `HotContract`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessionmanager.tiers.hot.protocol import SIGNALS_WAITING_MAX, Hot, Ring, Signal
from tests.support.hot_builders import AS_OF, KEY, OTHER, a_change, a_copy, an_erasure, fill, ring

RING_SECONDS = 5.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def heard(rings: AsyncIterator[Ring | Signal], version: int) -> list[Ring | Signal]:
    """What is heard up to the first ring that says `version` or more."""
    heard: list[Ring | Signal] = []
    async with asyncio.timeout(RING_SECONDS):
        async for one in rings:
            heard.append(one)
            if isinstance(one, Ring) and one.version >= version:
                break
    return heard


async def signals(said: AsyncIterator[Ring | Signal], last: bytes) -> list[bytes]:
    """The signals up to this one."""
    heard: list[bytes] = []
    async with asyncio.timeout(RING_SECONDS):
        async for one in said:
            if isinstance(one, Signal):
                heard.append(one.data)
                if one.data == last:
                    break
    return heard


class HotBellContract:
    """The doorbell: hints, for whoever listens now."""

    async def test_a_ring_reaches_everybody_who_listens_to_this_session(self, hot: Hot) -> None:
        async with hot.listen(KEY) as first, hot.listen(KEY) as second, hot.listen(OTHER) as other:
            await ring(hot, KEY, 3)
            await ring(hot, OTHER, 8)
            assert await heard(first, 3) == [Ring(KEY, 3)]
            assert await heard(second, 3) == [Ring(KEY, 3)]
            assert await heard(other, 8) == [Ring(OTHER, 8)]

    async def test_a_listener_who_waits_is_woken(self, hot: Hot) -> None:
        async with hot.listen(KEY) as rings:
            waiting = asyncio.create_task(heard(rings, 2))
            await asyncio.sleep(0)
            await ring(hot, KEY, 2)
            assert (await waiting)[-1] == Ring(KEY, 2)
            await ring(hot, KEY, 3)
            assert (await heard(rings, 3))[-1] == Ring(KEY, 3)

    async def test_a_slow_listener_hears_the_newest_version(self, hot: Hot) -> None:
        async with hot.listen(KEY) as rings:
            for version in range(1, 1001):
                await ring(hot, KEY, version)
            assert (await heard(rings, 1000))[-1] == Ring(KEY, 1000)

    async def test_a_commit_rings_whatever_becomes_of_the_copy(self, hot: Hot) -> None:
        async with hot.listen(KEY) as rings:
            await ring(hot, KEY, 2)
            assert (await heard(rings, 2))[-1] == Ring(KEY, 2), "there is no copy"
            await fill(hot, a_copy(8))
            await ring(hot, KEY, 4)
            assert (await heard(rings, 4))[-1] == Ring(KEY, 4), "the copy is newer"
            await hot.after_commit(a_change(8), AS_OF)
            assert (await heard(rings, 9))[-1] == Ring(KEY, 9), "the copy moves"
            await ring(hot, KEY, 12)
            assert (await heard(rings, 12))[-1] == Ring(KEY, 12), "the copy is no predecessor"
            await hot.after_commit(a_change(12, placement="cold"), AS_OF)
            assert (await heard(rings, 13))[-1] == Ring(KEY, 13), "what is left is a stub"
            await hot.after_commit(an_erasure(13), AS_OF)
            assert (await heard(rings, 14))[-1] == Ring(KEY, 14), "it is erased"
            await hot.after_commit(an_erasure(14), AS_OF)
            assert (await heard(rings, 15))[-1] == Ring(KEY, 15), "it was erased before"

    async def test_the_newest_ring_brings_its_trace(self, hot: Hot) -> None:
        async with hot.listen(KEY) as rings:
            await ring(hot, KEY, 2, TRACE)
            assert (await heard(rings, 2))[-1] == Ring(KEY, 2, TRACE)
            await ring(hot, KEY, 3)
            assert (await heard(rings, 3))[-1] == Ring(KEY, 3)
            await ring(hot, KEY, 5, TRACE)
            await ring(hot, KEY, 5)
            await ring(hot, KEY, 4)
            await ring(hot, OTHER, 9)
            assert (await heard(rings, 5))[-1] == Ring(KEY, 5, TRACE)

    async def test_who_no_longer_listens_is_no_hindrance(self, hot: Hot) -> None:
        async with hot.listen(KEY) as rings:
            pass
        await ring(hot, KEY, 1)
        async with asyncio.timeout(RING_SECONDS):
            assert [one async for one in rings] == []

    async def test_leaving_by_an_error_ends_listening(self, hot: Hot) -> None:
        with pytest.raises(ZeroDivisionError):
            async with hot.listen(KEY):
                raise ZeroDivisionError
        async with hot.listen(KEY) as rings:
            await ring(hot, KEY, 4)
            assert await heard(rings, 4) == [Ring(KEY, 4)]

    # -- signals

    async def test_a_signal_reaches_everybody_who_listens_to_this_session_once_and_as_it_is(self, hot: Hot) -> None:
        said = b'{"text":"caf\xc3\xa9 \\u0000"}\r\n\x00\xff'
        async with hot.listen(KEY) as first, hot.listen(KEY) as second, hot.listen(OTHER) as other:
            for data in (b"", said, b"last"):
                await hot.publish(KEY, data)
            await hot.publish(OTHER, b"other")
            assert await signals(first, b"last") == [b"", said, b"last"]
            assert await signals(second, b"last") == [b"", said, b"last"]
            assert await signals(other, b"other") == [b"other"]

    async def test_a_signal_is_kept_for_nobody_who_comes_later(self, hot: Hot) -> None:
        async with hot.listen(OTHER) as witness:
            await hot.publish(KEY, b"early")
            await hot.publish(OTHER, b"passed")
            await signals(witness, b"passed")
        async with hot.listen(KEY) as late:
            await hot.publish(KEY, b"now")
            assert await signals(late, b"now") == [b"now"]

    async def test_a_listener_who_does_not_come_keeps_the_newest_signals_and_a_ring_is_not_lost_among_them(
        self, hot: Hot
    ) -> None:
        async with hot.listen(KEY) as said:
            await ring(hot, KEY, 7)
            for i in range(3 * SIGNALS_WAITING_MAX):
                await hot.publish(KEY, b"%d" % i)
            await hot.publish(KEY, b"last")
            heard: list[Ring | Signal] = []
            async with asyncio.timeout(RING_SECONDS):
                while Signal(KEY, b"last") not in heard:
                    heard.append(await anext(said))
            assert Ring(KEY, 7) in heard
            told = [one.data for one in heard if isinstance(one, Signal)]
            numbers = [int(data) for data in told[:-1]]
            assert numbers == sorted(set(numbers)), "in order, none twice"
