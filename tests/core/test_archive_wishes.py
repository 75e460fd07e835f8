"""Wishes to archive that come while one stands: none is written twice, and none makes a running archive begin anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sessionmanager.core.assembly import Core
from sessionmanager.core.bodies import session_prefix
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.words import Key
from tests.support.audit import audit
from tests.support.scenes import ALICE, World, begin, request, said

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


class MeddlingCold:
    """A cold tier that lets something happen before each put is done."""

    def __init__(self, cold: Cold, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._cold = cold
        self._meanwhile = meanwhile
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cold, name)

    async def put_once(self, name: str, data: bytes) -> None:
        self.puts += 1
        await self._meanwhile()
        await self._cold.put_once(name, data)


async def wished(core: Core) -> None:
    await begin(core, KEY)
    await core.sessions.transition(KEY, "suspend", ALICE)
    await core.sessions.archive(KEY, ALICE)


async def test_a_wish_that_stands_already_is_no_write(world: World) -> None:
    core = world.process()
    await wished(core)
    before = (await core.ledger.exact(KEY)).stored.rev
    for _ in range(3):
        written = await core.sessions.archive(KEY, ALICE)
        assert b'"placement":"warm"' in written.answer
    assert (await core.ledger.exact(KEY)).stored.rev == before


async def test_wishes_with_keys_of_their_own_are_kept_and_never_make_a_running_archive_begin_anew(world: World) -> None:
    asking, count = world.process(), 0
    await wished(asking)

    async def ask() -> None:
        nonlocal count
        count += 1
        await asking.sessions.archive(KEY, ALICE, request(f"wish-{count}"))

    cold = MeddlingCold(world.tiers.cold, ask)
    worker = world._replace(tiers=world.tiers._replace(cold=cold)).process()
    assert await worker.works["archive"](KEY), "the stub was not written"
    assert cold.puts == count == 1
    assert len(await world.tiers.cold.list(session_prefix(KEY))) == 1
    assert (await audit(world.process(), world.tiers, KEY)).whole
    repeat = await asking.sessions.archive(KEY, ALICE, request("wish-1"))
    assert repeat.replayed
    assert b'"placement":"warm"' in repeat.answer, "a repeat gets the first answer, whatever has happened since"


async def test_a_line_that_comes_while_an_archive_runs_is_in_no_stub(world: World) -> None:
    asking = world.process()
    await wished(asking)

    async def speak() -> None:
        if cold.puts == 1:
            await asking.sessions.append(KEY, said("wait", "wait"), ALICE)

    cold = MeddlingCold(world.tiers.cold, speak)
    worker = world._replace(tiers=world.tiers._replace(cold=cold)).process()
    assert not await worker.works["archive"](KEY)
    found = await audit(world.process(), world.tiers, KEY)
    assert found.placement == "warm"
    assert b"wait" in found.lines[-1]
