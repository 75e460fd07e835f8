"""Nothing of a session that is erased is told to its tenant, even where its lines were read just before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.feed.events import Event
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.feeds import PATIENCE_SECONDS, Fed, fed, until
from tests.support.scenes import ALICE, talk

pytestmark = pytest.mark.contract

ONE, TWO = Key("acme", "one"), Key("acme", "two")


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Fed]:
    async with fed(folder) as running:
        yield running


async def test_lines_that_were_read_before_the_tombstone_are_not_told_after_it(world: Fed) -> None:
    await scenes.begin(world.core, ONE)
    source = await world.feeds.follow_tenant("acme", subject="bob", since=None)
    done = world.warm.applied.count("list")
    await until(lambda: world.warm.applied.count("list") >= done + 3)
    held = world.warm.hold_after("read")
    await talk(world.core, ONE, 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await held.reached.wait()
    await world.core.sessions.erase(ONE, ALICE)
    held.release()
    await scenes.begin(world.core, TWO)
    got: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(event.session == TWO.id for event in got):
            got += [item for item in await source.take(1.0) if isinstance(item, Event)]
    assert [event for event in got if event.session == ONE.id] == []
