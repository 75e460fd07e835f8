"""Feeds over embedded tiers, with bounds that a test can reach, and readers that check what they get."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.feed.feeds import Feeds
from sessionmanager.core.feed.items import Line
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.session_subscription import SessionSubscription
from sessionmanager.core.feed.subscription import FeedEnded
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.protocol import Ring, Signal
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.scenes import POLICY, Clock, Heard, open_world

KEY: Final = Key("acme", "call-1")
PATIENCE_SECONDS: Final = 10.0
"""A wait that takes so long has failed."""
QUICK: Final = FeedLimits(
    page_lines=3, slow_seconds=0.2, bell_poll_seconds=5.0, poll_seconds=0.02, tenant_poll_seconds=0.02
)
"""Small pages, so that short logs have many; the bell's own poll late enough that no test passes by it unseen."""


class Deaf:
    """A hot tier whose bell can be broken: rings are lost (`silent`), or it cannot be listened to (`down`)."""

    def __init__(self, hot: Any) -> None:
        self._hot = hot
        self.silent = False
        self.down = False
        self.broken: Exception | None = None
        self.listening = 0
        self.opens = asyncio.Event()
        self.opens.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hot, name)

    @asynccontextmanager
    async def listen(self, key: Key) -> AsyncGenerator[AsyncIterator[Ring | Signal]]:
        if self.down:
            raise TierUnavailable("hot")
        if self.broken is not None:
            raise self.broken
        await self.opens.wait()
        async with self._hot.listen(key) as heard:
            self.listening += 1
            try:
                yield self._audible(heard)
            finally:
                self.listening -= 1

    async def _audible(self, heard: AsyncIterator[Ring | Signal]) -> AsyncIterator[Ring | Signal]:
        async for one in heard:
            if not (self.silent and isinstance(one, Ring)):
                yield one


class Fed:
    """A process with feeds. warm: what its feeds read from, which fails as it is told."""

    def __init__(self, core: Core, feeds: Feeds, warm: Faulty, hot: Deaf, clock: Clock) -> None:
        self.core = core
        self.feeds = feeds
        self.warm = warm
        self.hot = hot
        self.clock = clock

    async def follow(self, key: Key = KEY, *, after: int | None = None, subject: str = "bob") -> SessionSubscription:
        return await self.feeds.follow(key, subject=subject, after=after)


@asynccontextmanager
async def fed(folder: Path, limits: FeedLimits = QUICK) -> AsyncGenerator[Fed]:
    """Two processes' worth of parts over one set of tiers: the core writes, the feeds read."""
    async with open_world(folder) as world:
        hot = Deaf(world.tiers.hot)
        warm = Faulty(world.tiers.warm)
        core = build_core(
            hot,  # type: ignore[arg-type]
            warm,  # type: ignore[arg-type]
            world.tiers.cold,
            MasterKeys(bytes(range(32))),
            CoreSettings(policy=POLICY),
            events=Heard(),
            random_bytes=random.SystemRandom().randbytes,
        )
        feeds = Feeds(
            hot,  # type: ignore[arg-type]
            warm,  # type: ignore[arg-type]
            core.reads,
            clock=time.monotonic,
            rng=random.Random(1),
            limits=limits,
        )
        try:
            yield Fed(core, feeds, warm, hot, world.clock)
        finally:
            await feeds.close()


async def until(holds: Callable[[], bool], what: str = "it") -> None:
    """Let the loop go on until `holds`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what it waits for is not ours to set
            await asyncio.sleep(0.001)
    assert holds(), what


async def newest(world: Fed, key: Key = KEY) -> int:
    """The newest seq of a session."""
    return (await world.core.ledger.exact(key)).stored.head.pulse.entry_count


async def lines(source: SessionSubscription, last: int) -> list[Line]:
    """What comes, up to the line with this seq."""
    got: list[Line] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not got or got[-1].seq < last:
            got += [item for item in await source.take(1.0) if isinstance(item, Line)]
    return got


async def ended(source: Any) -> str:
    """Why a feed ends; what still comes before is passed over."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await source.take(1.0)
            except FeedEnded as ended:
                return ended.reason


def seqs(got: list[Line]) -> list[int]:
    for line in got:
        assert json.loads(line.data)["seq"] == line.seq
    return [line.seq for line in got]
