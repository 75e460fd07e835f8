"""The walk of `verify` while sessions go on: what moves is never told as a fault, what is damaged still is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sessionmanager.core.verify import LOOKS_MAX, SessionVerifier
from sessionmanager.errors import TierUnavailable
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.scenes import World

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


async def nothing(call: str) -> None:
    pass


class Slow:
    """A tier each of whose calls lets the others have some turns before and after it."""

    def __init__(self, tier: Any, rng: random.Random) -> None:
        self._tier = tier
        self._rng = rng
        self.before: Callable[[str], Awaitable[None]] = nothing

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._tier, name)
        if name == "now":
            return call

        async def slowly(*args: Any, **kwargs: Any) -> Any:
            await self.before(name)
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
            answer = await call(*args, **kwargs)
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
            return answer

        return slowly


def verifier(world: World, *, leftovers: bool = False, seed: int = 0) -> tuple[SessionVerifier, Slow]:
    rng = random.Random(seed)
    warm, cold = Slow(world.tiers.warm, rng), Slow(world.tiers.cold, rng)
    return SessionVerifier(warm, cold, world.process().keys, leftovers=leftovers), warm  # type: ignore[arg-type]


async def live(world: World) -> None:
    """A session's whole life, twice over: said, sealed, offloaded, archived, woken."""
    core = world.process()
    await scenes.begin(core, KEY)
    for turn in range(2):
        await scenes.talk(core, KEY, 6, first=100 * turn)
        for move in ("seal", "offload"):
            await core.works[move](KEY)
        await core.attachments.put(KEY, "audio", b"\0\1" * 40, "audio/l16", scenes.ALICE)
        await core.sessions.transition(KEY, "suspend", scenes.ALICE)
        await core.sessions.archive(KEY, scenes.ALICE)
        await core.archiver.run(KEY)
        await core.sessions.append(KEY, scenes.said("awake", f"awake-{turn}"), scenes.ALICE)
        world.clock.seconds += scenes.GRACE_SECONDS
        await core.works["finish"](KEY)
    await core.sessions.erase(KEY, scenes.ALICE)
    await core.works["erase"](KEY)


@pytest.mark.parametrize("seed", range(8))
async def test_a_session_that_moves_on_is_never_told_as_damaged(world: World, seed: int) -> None:
    looking, _ = verifier(world, seed=seed)
    living = asyncio.create_task(live(world))
    looks = 0
    while not living.done():
        looked = await looking.look(KEY)
        assert looked.faults == ()
        looks += 1
    await living
    assert looks > 3


async def test_one_that_moves_on_under_every_look_is_busy(world: World) -> None:
    core = world.process()
    await scenes.sealed(core, KEY, 2)
    await world.tiers.warm.drop_bodies(KEY, await world.tiers.warm.list_bodies(KEY))
    looking, warm = verifier(world)
    said = 0

    async def speak(call: str) -> None:
        nonlocal said
        if call == "load":
            said += 1
            await core.sessions.append(KEY, scenes.said("more", f"more-{said}"), scenes.ALICE)

    warm.before = speak
    looked = await looking.look(KEY)
    assert looked.busy
    assert looked.faults == ()
    assert said == LOOKS_MAX
    warm.before = nothing
    assert {fault.kind for fault in (await looking.look(KEY)).faults} == {"missing"}


async def test_what_was_found_before_a_tier_went_away_is_told_first(world: World) -> None:
    core = world.process()
    keys = [Key("acme", f"call-{number}") for number in range(4)]
    for key in keys:
        await scenes.sealed(core, key, 1)
    looking, warm = verifier(world)
    calls = 0

    async def named() -> AsyncIterator[Key]:
        for key in keys:
            yield key

    async def away(call: str) -> None:
        nonlocal calls
        if call == "load":
            calls += 1
            if calls == 3:
                raise TierUnavailable("warm")

    warm.before = away
    told = []
    with pytest.raises(TierUnavailable):
        async for looked in looking.walk(named(), at_once=4):
            told.append(looked.key)  # noqa: PERF401 - what came before the error counts
    assert told == keys[:2]


async def test_the_rate_is_kept(world: World) -> None:
    core = world.process()
    await scenes.sealed(core, KEY, 5)
    paced = 0

    async def pace() -> None:
        nonlocal paced
        paced += 1

    warm, cold = world.tiers.warm, world.tiers.cold
    looked = await SessionVerifier(warm, cold, core.keys, pace=pace).look(KEY)
    assert paced == looked.bodies >= 5
    assert looked.bytes > 0
