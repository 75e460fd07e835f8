"""What a feed says besides what happens: beats, the token's end, the feed's end, a reader that is stuck.

On a clock that jumps.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message

from sessionmanager.api.live.following import SEND_SECONDS
from sessionmanager.api.live.sse import ABORT, EventStream, frame
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.subscription import FeedEnded, Reason
from sessionmanager.errors import Contended, Erased, TierUnavailable, Unauthenticated
from sessionmanager.waits import deadline
from tests.support.streams import Parser, ServerEvent
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

LIMITS = FeedLimits()


class Script:
    """A source that gives out what a test puts in."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.cut: FeedEnded | None = None
        self.closed = False
        self._wake = asyncio.Event()

    def put(self, item: bytes) -> None:
        self.items.append(item)
        self._wake.set()

    def end(self, reason: Reason) -> None:
        self.cut = FeedEnded(reason)
        self._wake.set()

    async def take(self) -> Sequence[bytes]:
        await self._wake.wait()
        self._wake.clear()
        items, self.items = self.items, []
        if not items and self.cut is not None:
            raise self.cut
        return items

    def interrupt(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self.closed = True


class Request:
    """The exchange of a reader whose token is good for so long, or refused."""

    def __init__(self, good_seconds: float = 3600.0) -> None:
        self.good_until = good_seconds
        self.asked_at: list[float] = []
        self.errors: list[Exception] = []

    def answered(self) -> None: ...

    async def good_for(self) -> float:
        now = asyncio.get_running_loop().time()
        deadline.begin(10.0)
        self.asked_at.append(now)
        if self.errors:
            raise self.errors.pop(0)
        if now >= self.good_until:
            raise Unauthenticated
        return self.good_until - now


class Reader:
    """The other side of a stream. stuck: nothing more goes out to it."""

    def __init__(self, request: Request | None = None, *, seed: int = 1, limits: FeedLimits = LIMITS) -> None:
        self.source = Script()
        self.request = request or Request()
        self.stuck = False
        self.aborted_at: float | None = None
        self.pieces: list[tuple[float, bytes]] = []
        self.finished = False
        self._gone = asyncio.Event()
        stream = EventStream(
            self.request,  # type: ignore[arg-type]
            self.source,
            b"".join,
            hello=frame("hello", {"after": 3}),
            last=lambda: {"after": 9},
            rng=random.Random(seed),
            limits=limits,
        )
        scope = {"type": "http", "extensions": {ABORT: {"abort": self._abort}}}
        self.task = asyncio.create_task(stream(scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    def _abort(self) -> None:
        self.aborted_at = asyncio.get_running_loop().time()
        self._gone.set()

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        if message["type"] == "http.response.body":
            self.pieces.append((asyncio.get_running_loop().time(), message["body"]))
            self.finished = not message["more_body"]

    def events(self) -> list[ServerEvent]:
        return Parser().feed(b"".join(data for _, data in self.pieces))

    def beats(self) -> list[float]:
        return [round(at, 3) for at, data in self.pieces if data.startswith(b":")]

    async def last(self) -> ServerEvent:
        async with asyncio.timeout(600):
            await self.task
        assert self.source.closed
        return self.events()[-1]


@on_virtual_time
async def test_a_silent_feed_beats_every_fifteen_seconds() -> None:
    reader = Reader()
    await asyncio.sleep(61)
    assert reader.beats() == [15.0, 30.0, 45.0, 60.0]
    reader.leave()
    await reader.task


@on_virtual_time
async def test_a_feed_that_speaks_needs_no_beat() -> None:
    reader = Reader()
    for i in range(10):
        await asyncio.sleep(10)
        reader.source.put(b"id: %d\nevent: x\ndata: {}\n\n" % i)
    assert reader.beats() == []
    await asyncio.sleep(LIMITS.heartbeat_seconds + 0.1)
    assert len(reader.beats()) == 1
    reader.leave()
    await reader.task


@on_virtual_time
async def test_a_filter_that_lets_nothing_pass_does_not_silence_the_beat() -> None:
    reader = Reader()
    for _ in range(32):
        await asyncio.sleep(1)
        reader.source.put(b"")
    assert reader.beats() == [15.0, 30.0]
    reader.leave()
    await reader.task


@on_virtual_time
async def test_the_first_thing_said_is_where_the_feed_begins_and_when_to_come_back() -> None:
    reader = Reader()
    await asyncio.sleep(0.1)
    (hello,) = reader.events()
    assert (hello.name, hello.id, hello.json()) == ("hello", None, {"after": 3})
    assert hello.retry is not None
    assert 1_000 <= hello.retry <= 3_000
    reader.leave()
    await reader.task
    assert reader.source.closed


@on_virtual_time
async def test_a_token_that_expires_ends_the_feed_within_a_second_and_says_where_to_go_on() -> None:
    reader = Reader(Request(good_seconds=100.0))
    end = await reader.last()
    assert 100.0 <= asyncio.get_running_loop().time() <= 101.1
    assert (end.name, end.id, end.json()["after"], end.json()["type"]) == ("expired", None, 9, "unauthenticated")
    assert reader.finished


@on_virtual_time
async def test_a_token_that_is_revoked_ends_the_feed_within_fifteen_seconds() -> None:
    request = Request()
    reader = Reader(request)
    await asyncio.sleep(40)
    request.errors.append(Unauthenticated())
    end = await reader.last()
    assert end.name == "expired"
    assert asyncio.get_running_loop().time() <= 55.1


@on_virtual_time
async def test_a_token_that_cannot_be_looked_at_now_is_looked_at_later() -> None:
    request = Request(good_seconds=200.0)
    request.errors += [TierUnavailable("warm"), Contended()]
    reader = Reader(request)
    assert (await reader.last()).name == "expired"
    assert asyncio.get_running_loop().time() >= 200.0
    assert max(later - sooner for sooner, later in zip(request.asked_at, request.asked_at[1:], strict=False)) < 15.1


@on_virtual_time
async def test_what_was_asked_of_the_token_leaves_no_deadline_for_the_feed() -> None:
    reader = Reader()
    seen: list[float] = []
    take = reader.source.take

    async def remember() -> Sequence[bytes]:
        seen.append(deadline.remaining())
        return await take()

    reader.source.take = remember  # type: ignore[method-assign]
    await asyncio.sleep(100)
    assert seen
    assert set(seen) == {float("inf")}
    reader.leave()
    await reader.task


@pytest.mark.parametrize(
    ("reason", "name", "members"),
    [
        ("draining", "goaway", {"reason": "draining", "after": 9}),
        ("slow", "goaway", {"reason": "slow", "after": 9}),
        ("failed", "goaway", {"reason": "failed", "after": 9}),
        ("erased", "erased", {"type": "erased", "after": 9}),
    ],
)
def test_the_end_of_a_feed_is_said_and_is_no_stored_entry(reason: Reason, name: str, members: dict[str, Any]) -> None:
    @on_virtual_time
    async def run() -> None:
        reader = Reader()
        await asyncio.sleep(1)
        reader.source.put(b"id: 9\nevent: x\ndata: {}\n\n")
        await asyncio.sleep(1)
        reader.source.end(reason)
        end = await reader.last()
        assert (end.name, end.id) == (name, None)
        assert end.json().items() >= members.items()
        assert reader.finished
        if name == "goaway":
            assert end.retry == end.json()["retry_ms"]
            assert 500 <= end.retry <= 5_500

    run()


@on_virtual_time
async def test_an_erased_session_is_told_by_the_token_as_well() -> None:
    request = Request()
    reader = Reader(request)
    await asyncio.sleep(1)
    request.errors.append(Erased())
    assert (await reader.last()).name == "erased"


@on_virtual_time
async def test_readers_are_asked_to_come_back_at_different_times() -> None:
    waits = set[int | None]()
    for seed in range(20):
        reader = Reader(seed=seed)
        reader.source.end("draining")
        waits.add((await reader.last()).retry)
    assert len(waits) > 15


@on_virtual_time
async def test_a_reader_that_takes_nothing_is_cut_after_thirty_seconds_and_frees_its_place() -> None:
    reader = Reader()
    await asyncio.sleep(1)
    reader.stuck = True
    reader.source.put(b"id: 4\nevent: x\ndata: {}\n\n")
    await reader.task
    assert reader.aborted_at == pytest.approx(1 + SEND_SECONDS, abs=0.1)
    assert reader.source.closed


@on_virtual_time
async def test_a_reader_that_leaves_frees_its_place_at_once() -> None:
    reader = Reader()
    await asyncio.sleep(3)
    reader.leave()
    async with asyncio.timeout(0.5):
        await reader.task
    assert reader.source.closed
    assert not reader.finished
    assert json.loads(reader.events()[0].data)


def test_those_who_are_sent_away_come_back_over_as_long_a_time_as_operators_say() -> None:
    waits: dict[float, set[int | None]] = {0.0: set(), 60.0: set()}

    @on_virtual_time
    async def run() -> None:
        for seconds, told in waits.items():
            for seed in range(20):
                reader = Reader(seed=seed, limits=LIMITS._replace(goaway_seconds=seconds))
                reader.source.end("draining")
                told.add((await reader.last()).retry)

    run()
    assert waits[0.0] == {500}
    assert max(wait or 0 for wait in waits[60.0]) > 30_000
