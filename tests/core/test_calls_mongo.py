"""Replicas that share MongoDB race for calls: one leg is one call in one session, whoever hears of it."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.calls.registry import CallAt
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.tenancy.tenants import ResumePolicy, TenantSettings
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import CallQuery, ListQuery
from sessionmanager.words import Key
from tests.support.mongo import EMBRACING, LEAKS, a_proxied
from tests.support.scenes import ALICE

pytestmark = [pytest.mark.server, LEAKS]

OPTIONS: Any = EMBRACING
LEGS = 6
RIVALS = 6
ANNA = "+12025550123"


async def open_call(core: Core, leg: str) -> CallAt:
    cid = core.calls.id_of("acme", "sip", leg, None)
    wanted = NewCall(cid, "sip", leg, "inbound", caller=ANNA)
    return await core.calls.open("acme", ALICE, wanted, {"caller": Raw(b'"%b"' % ANNA.encode())})


@pytest.mark.parametrize("policy", ["new", "always"])
async def test_of_two_replicas_on_one_database_one_makes_each_call_and_its_session(
    tmp_path: Path, policy: ResumePolicy
) -> None:
    async with AsyncExitStack() as stack:
        _, url, _ = await stack.enter_async_context(a_proxied())
        cold = await stack.enter_async_context(open_directory(f"file://{tmp_path}/cold", threads=1))
        cores: list[Core] = []
        for _ in range(2):
            warm = await stack.enter_async_context(open_mongo(url, **OPTIONS))
            hot = await stack.enter_async_context(open_memory("memory://"))
            settings = CoreSettings(tenant_defaults=TenantSettings(resume_policy=policy), hot_lease_seconds=0.0)
            master = MasterKeys(bytes(range(32)))
            cores.append(build_core(hot, warm, cold, master, settings, random_bytes=os.urandom))
        rivals = [open_call(cores[n % 2], f"leg-{n % LEGS}") for n in range(LEGS * RIVALS)]
        random.shuffle(rivals)
        answers = await asyncio.gather(*rivals)
        sessions = {at.call.id: {one.call.session_id for one in answers if one.call.id == at.call.id} for at in answers}
        assert len(sessions) == LEGS
        assert all(len(owners) == 1 for owners in sessions.values())
        assert sum(at.fresh for at in answers) == LEGS
        one, other = cores
        made = (await one.ledger.warm.list(ListQuery("acme", 100))).items
        assert {stored.key.id for stored in made} == set[str]().union(*sessions.values())
        assert len((await other.ledger.warm.list_calls(CallQuery("acme", 100))).items) <= LEGS
        for cid, (owner,) in sessions.items():
            report = Report(state="ended", reason="normal")
            done = await asyncio.gather(
                *(core.calls.report(Key("acme", owner), cid, ALICE, report) for core in cores for _ in range(2))
            )
            assert len({at.call.settled_at for at in done}) == 1, "the first end is everybody's"
        for core in cores:
            await core.ledger.warm.list_calls(CallQuery("acme", 1))  # each has copied its own
        rows = (await one.ledger.warm.list_calls(CallQuery("acme", 100, sort="settled_at"))).items
        assert sorted(row.id for row in rows) == sorted(sessions)
