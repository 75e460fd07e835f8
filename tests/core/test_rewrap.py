"""Wrapping anew: killed at any step it goes on, beside it the service goes on, and at its end the old key can go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from sessionmanager.core.history import Range
from sessionmanager.core.keys.hierarchy import RING_ID, TENANT_KEY, SessionKeys
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.rewrap import Looked, rewrap
from sessionmanager.core.keys.standing import admit, go_over, let_go
from sessionmanager.core.tokens.api_keys import ApiKeys
from sessionmanager.core.webhooks.hook import KIND, Hook
from sessionmanager.core.webhooks.messages import Secrets
from sessionmanager.core.webhooks.registry import Asked, HookRegistry, WantedHook
from sessionmanager.errors import DataCorrupt
from sessionmanager.model.head import KeyRing
from sessionmanager.model.roles import Actor
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.tiers.warm.sqlite_doctor import walk_tenants
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.halt import Halt, Killed
from tests.support.scenes import open_world

pytestmark = pytest.mark.contract

OLD, NEW = (bytes(range(first, first + 32)) for first in (0, 1))
TENANTS: Final = ("acme", "beta", "gamma-with-a-longer-name")
STEPS_MAX: Final = 200
ADMIN: Final = Actor(tenant="acme", subject="alice", roles=frozenset({"admin"}))
_random = random.SystemRandom().randbytes


class Kept(NamedTuple):
    """What was there before, and must be the same under each key: sessions' keys, and secrets of hooks."""

    rings: dict[str, KeyRing]
    session_keys: dict[str, bytes]
    hooks: dict[str, list[bytes]]


@asynccontextmanager
async def warm_in(folder: Path) -> AsyncGenerator[Any]:
    async with open_sqlite(f"sqlite:///{folder}/warm.db", commit_in="loop") as warm:
        yield warm


async def session_key(warm: Any, masters: MasterKeys, tenant: str, ring: KeyRing) -> bytes:
    assert ring.current is not None
    return (await SessionKeys(masters, warm).unwrap(Key(tenant, "call-1"), ring, ring.current)).packed()


async def secrets_of(warm: Any, masters: MasterKeys) -> dict[str, list[bytes]]:
    secrets = Secrets(masters, _random)
    hooks: list[Hook] = await HookRegistry(warm, secrets, _random).everything()
    return {hook.id: [secrets.open(hook, each) for each in hook.secrets] for hook in hooks}


async def begun(warm: Any, masters: MasterKeys) -> Kept:
    """Tenants with a session each, a hook with two secrets, one that is disabled, one that is deleted."""
    keys, registry = SessionKeys(masters, warm), HookRegistry(warm, Secrets(masters, _random), _random)
    rings = {tenant: await keys.create(Key(tenant, "call-1")) for tenant in TENANTS}
    asked = Asked(None, warm.now(), False)
    made = [await registry.create("acme", WantedHook(url=f"https://a/{n}"), "alice", asked) for n in range(3)]
    await registry.rotate("acme", made[0].hook.id, asked, grace_seconds=3600)
    await registry.disable(made[1].hook, "failing")
    await registry.remove("acme", made[2].hook.id)
    session_keys = {tenant: await session_key(warm, masters, tenant, ring) for tenant, ring in rings.items()}
    return Kept(rings, session_keys, await secrets_of(warm, masters))


async def check(warm: Any, masters: MasterKeys, kept: Kept) -> None:
    """Everything opens, and is what it was."""
    for tenant, ring in kept.rings.items():
        assert await session_key(warm, masters, tenant, ring) == kept.session_keys[tenant]
    found = await secrets_of(warm, masters)
    assert {name: found[name] for name in kept.hooks} == kept.hooks


async def run(folder: Path, warm: Any, masters: MasterKeys, *, dry_run: bool = False) -> list[Looked]:
    """What the command does."""
    masters = await admit(warm, masters)
    before = None if dry_run else await go_over(warm, masters)
    tenants = walk_tenants(f"sqlite:///{folder}/warm.db", TENANT_KEY)
    looks = [looked async for looked in rewrap(warm, masters, tenants, dry_run=dry_run)]
    if before is not None and not any(looked.outcome == "damaged" for looked in looks):
        assert await let_go(warm, before)
    return looks


def outcomes(looks: list[Looked]) -> dict[str, int]:
    found = [looked.outcome for looked in looks]
    return {outcome: found.count(outcome) for outcome in dict.fromkeys(found)}


async def test_all_that_hung_on_the_old_key_hangs_on_the_new_one_and_on_no_other(folder: Path) -> None:
    async with warm_in(folder) as warm:
        kept = await begun(warm, await admit(warm, MasterKeys(OLD)))
        assert outcomes(await run(folder, warm, MasterKeys(NEW, OLD), dry_run=True)) == {"left": 5, "had": 1}
        await check(warm, MasterKeys(OLD), kept)
        assert outcomes(await run(folder, warm, MasterKeys(NEW, OLD))) == {"wrapped": 5, "had": 1}
        await check(warm, MasterKeys(NEW), kept)
        with pytest.raises(DataCorrupt, match="was not given"):
            await check(warm, MasterKeys(OLD), kept)
        revs = {tenant: (await warm.get_record(tenant, TENANT_KEY, RING_ID)).rev for tenant in TENANTS}
        assert set(revs.values()) == {2}
        for dry_run in (True, False):
            assert outcomes(await run(folder, warm, MasterKeys(NEW), dry_run=dry_run)) == {"had": 6}
        assert (await warm.get_record("acme", TENANT_KEY, RING_ID)).rev == 2


async def test_killed_at_any_step_it_leaves_everything_open_to_who_has_both_keys_and_goes_on_when_called_again(
    folder: Path,
) -> None:
    """One run after the other is killed at its next step; what it left is finished, and the next one goes back."""
    steps = 0
    async with warm_in(folder) as warm:
        kept = await begun(warm, await admit(warm, MasterKeys(OLD)))
        lasting = (await admit(warm, MasterKeys(OLD))).lasting
        new, old = NEW, OLD
        for step in range(1, STEPS_MAX):
            halt = Halt()
            halt.arm(step)
            try:
                await run(folder, halt.around(warm), MasterKeys(new, old))
            except Killed:
                steps += 1
            else:
                break
            with pytest.raises(ValueError, match="sessionmanager rewrap"):
                await admit(warm, MasterKeys(new))  # also where nothing hangs on the old one, and nobody has said so
            for both in (MasterKeys(new, old), MasterKeys(old, new)):
                assert (await admit(warm, both)).lasting == lasting
                await check(warm, both, kept)
            await run(folder, warm, MasterKeys(new, old))
            assert (await admit(warm, MasterKeys(new))).lasting == lasting
            await check(warm, MasterKeys(new), kept)
            new, old = old, new
        assert steps > 25, "it was killed at each of its calls"
        await check(warm, MasterKeys(new), kept)


async def test_the_service_goes_on_meanwhile_and_what_it_makes_needs_the_new_key_alone(folder: Path) -> None:
    """Two replicas with both keys, one begun before anybody had a new one in mind first."""
    async with warm_in(folder) as warm:
        kept = await begun(warm, await admit(warm, MasterKeys(OLD)))
        replicas = [await admit(warm, MasterKeys(*roots)) for roots in ((OLD, NEW), (NEW, OLD))]
        rings: dict[str, KeyRing] = {}

        async def life(number: int) -> None:
            masters = replicas[number % 2]
            keys, registry = SessionKeys(masters, warm), HookRegistry(warm, Secrets(masters, _random), _random)
            asked = Asked(None, warm.now(), False)
            for n in range(10):
                tenant = f"t-{number}-{n}"
                rings[tenant] = await keys.create(Key(tenant, "call-1"))
                made = await registry.create(tenant, WantedHook(url="https://b/"), "bob", asked)
                await registry.rotate(tenant, made.hook.id, asked, grace_seconds=60)
                await check(warm, masters, kept)

        lives = [asyncio.create_task(life(number)) for number in range(4)]
        for _ in range(3):  # there and back and there again, while they live
            await run(folder, warm, MasterKeys(NEW, OLD))
            await run(folder, warm, MasterKeys(OLD, NEW))
        await run(folder, warm, MasterKeys(NEW, OLD))
        await asyncio.gather(*lives)
        await check(warm, MasterKeys(NEW), kept)
        for tenant, ring in rings.items():
            assert await session_key(warm, MasterKeys(NEW), tenant, ring)
        assert len(await secrets_of(warm, MasterKeys(NEW))) == len(kept.hooks) + len(rings)


class Meddled:
    """A warm tier that does something else before it puts a hook."""

    def __init__(self, warm: Any, before: Callable[[], Awaitable[object]]) -> None:
        self._warm = warm
        self._before: Callable[[], Awaitable[object]] | None = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm, name)

    async def put_record(self, tenant: str, kind: str, record_id: str, data: bytes | None, **more: Any) -> None:
        before = self._before
        if kind == KIND and before is not None:
            self._before = None
            await before()
        await self._warm.put_record(tenant, kind, record_id, data, **more)


@pytest.mark.parametrize("what", ["create", "rotate"])
async def test_a_secret_that_is_made_while_a_whole_run_passes_hangs_on_the_new_key(folder: Path, what: str) -> None:
    async with warm_in(folder) as warm:
        masters = await admit(warm, MasterKeys(OLD, NEW))
        asked = Asked(None, warm.now(), False)
        first = await HookRegistry(warm, Secrets(masters, _random), _random).create(
            "acme", WantedHook(url="https://a/"), "alice", asked
        )
        meddled: Any = Meddled(warm, lambda: run(folder, warm, MasterKeys(NEW, OLD)))
        registry = HookRegistry(meddled, Secrets(masters, _random), _random)
        if what == "create":
            made = await registry.create("acme", WantedHook(url="https://b/"), "alice", asked)
        else:
            made = await registry.rotate("acme", first.hook.id, asked, grace_seconds=60)
        assert made.secret is not None
        alone = Secrets(MasterKeys(NEW), _random)
        hook = await registry.get("acme", made.hook.id)
        assert alone.shown(hook, hook.secrets[0]) == made.secret
        await check(warm, MasterKeys(NEW), Kept({}, {}, {}))


async def test_what_does_not_open_is_told_and_keeps_the_old_key_needed(folder: Path) -> None:
    async with warm_in(folder) as warm:
        await begun(warm, await admit(warm, MasterKeys(OLD)))
        good = (await warm.get_record("beta", TENANT_KEY, RING_ID)).data
        await warm.put_record("beta", TENANT_KEY, RING_ID, b"{}x", rev=1)
        await warm.put_record("moved", TENANT_KEY, RING_ID, good, rev=0)
        looks = await run(folder, warm, MasterKeys(NEW, OLD))
        assert {looked.where.tenant for looked in looks if looked.outcome == "damaged"} == {"beta", "moved"}
        with pytest.raises(ValueError, match="rewrap"):
            await admit(warm, MasterKeys(NEW))
        await warm.put_record("beta", TENANT_KEY, RING_ID, good, rev=2)
        await warm.put_record("moved", TENANT_KEY, RING_ID, None, rev=1)
        assert outcomes(await run(folder, warm, MasterKeys(NEW, OLD))) == {"had": 5, "wrapped": 1}
        await admit(warm, MasterKeys(NEW))


async def test_sessions_in_cold_attachments_and_api_keys_outlive_the_old_key(folder: Path) -> None:
    key = Key("acme", "call-1")
    async with open_world(folder) as world:
        warm: Any = world.tiers.warm
        masters = await admit(warm, MasterKeys(OLD))
        await scenes.archived(world.process(), key)
        made = await ApiKeys(warm, masters.lasting.api_key, random_bytes=_random, revoked=lambda actor: False).make(
            ADMIN, name="k", subject="s", roles=("viewer",), ttl_seconds=None
        )
        looks = await run(folder, warm, MasterKeys(NEW, OLD))
        assert outcomes(looks) == {"wrapped": 1}
        alone = await admit(warm, MasterKeys(NEW))
        core = world.process(masters=alone)
        _, page = await core.reads.lines(key, Range(after=0, before=2**31, limit=200))
        assert page.done
        assert page.lines
        _, audio = await core.attachments.get(key, "audio")
        assert audio
        fresh = ApiKeys(warm, alone.lasting.api_key, random_bytes=_random, revoked=lambda actor: False)
        assert (await fresh.verify(made.text)).subject == "s"
