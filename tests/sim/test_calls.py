"""Gateways on a network that fails in every way, with replicas that are killed: one leg, one call, one row."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar

import pytest
from msgspec import Raw

from sessionmanager.core.assembly import Core
from sessionmanager.core.calls.registry import CallAt
from sessionmanager.core.command import Who
from sessionmanager.core.tenancy.tenants import TenantSettings
from sessionmanager.errors import IllegalTransition, SessionManagerError
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.model.calls.rows import row_of
from sessionmanager.model.change import CallRow
from sessionmanager.words import CallState, Key
from tests.support.sim.scenario import Scenario, scenario_of
from tests.support.sim.service import TENANT
from tests.support.sim.world import LAND_SECONDS, Replica, World

pytestmark = pytest.mark.unit

T = TypeVar("T")
SEEDS: Final = 24
KINDS: Final = ("faultless", "lossy", "cut", "kills", "outages", "storm")
PATIENCE_SECONDS: Final = 8.0
TRIES_MAX: Final = 200
STEPS: Final[tuple[CallState, ...]] = ("ringing", "active", "ended")
CALLERS: Final = ("+12025550101", "+12025550102")


class CallWorld(World):
    """Replicas and tiers of the simulation; its clients are gateways that report each leg through any of them."""

    def __init__(self, scenario: Scenario, policy: Literal["new", "always"]) -> None:
        super().__init__(scenario)
        self.policy: Literal["new", "always"] = policy
        self.seen = Counter[str]()

    def play_calls(self) -> Counter[str]:
        self.loop.run(self._play_calls())
        return self.seen

    async def _play_calls(self) -> None:
        background = [asyncio.create_task(replica.live()) for replica in self.replicas]
        legs = [f"leg-{number}" for number in range(6)]
        gateways = [asyncio.create_task(self._report(leg)) for leg in legs for _ in range(2)]
        answers = await asyncio.gather(*gateways)
        self.weather.clear()
        await asyncio.sleep(LAND_SECONDS)
        for leg, cid in zip((leg for leg in legs for _ in range(2)), answers, strict=True):
            self.seen[leg] += 1
            assert cid == answers[2 * legs.index(leg)], "the same leg is the same call for both who report it"
        self._check(set(answers))
        for task in background:
            task.cancel()

    async def _report(self, leg: str) -> str:
        """One gateway's worker: opens the leg, tells its states, each until some replica has taken it."""
        who, number = Who(f"gateway {leg}"), int(leg[4:])

        async def opens(core: Core) -> CallAt:
            core.tenants.defaults = TenantSettings(resume_policy=self.policy)
            cid = core.calls.id_of(TENANT, "sip", leg, None)
            caller = CALLERS[number % len(CALLERS)]
            wanted = NewCall(cid, "sip", leg, "inbound", caller=caller)
            return await core.calls.open(TENANT, who, wanted, {"caller": Raw(b'"%b"' % caller.encode())})

        at = await self._until_taken(opens)
        assert at is not None
        key = Key(TENANT, at.call.session_id)
        for state in STEPS:
            await asyncio.sleep(self.loop.random.random())

            async def tells(core: Core, state: CallState = state) -> CallAt:
                return await core.calls.report(key, at.call.id, who, Report(state=state))

            await self._until_taken(tells)
        return at.call.id

    async def _until_taken(self, work: Callable[[Core], Awaitable[CallAt]]) -> CallAt | None:
        for _ in range(TRIES_MAX):
            replica = self.loop.random.choice(self.replicas)
            try:
                return await _within(replica, work)
            except IllegalTransition:
                return None  # the other who reports this leg was further already; what it said stands
            except SessionManagerError as error:
                self.seen[type(error).__name__] += 1
            except Lost:
                self.seen["killed"] += 1
            await asyncio.sleep(0.05 + self.loop.random.random())
        raise AssertionError(f"no replica took it: {dict(self.seen)}")

    def _check(self, answered: set[str]) -> None:
        heads = [row.stored.head for row in self.warm.rows.values() if row.stored.tombstone is None]
        found: Counter[str] = Counter(call.id for head in heads for call in head.detail.calls)
        assert found == Counter(dict.fromkeys(answered, 1))
        assert all(head.detail.calls for head in heads), "no session is there that no call was opened in"
        rows: dict[str, CallRow | None] = {cid: call.row for (_, cid), call in self.warm.calls.items()}
        for head in heads:
            for call in head.detail.calls:
                row = rows[call.id]
                assert call.state == "ended"
                assert row is not None
                assert row._replace(version=0, data=b"") == row_of(head, call)._replace(version=0, data=b"")
                assert row.version <= head.version
        assert rows.keys() == answered


class Lost(Exception):
    """The replica died, or does not answer."""


async def _within(replica: Replica, work: Callable[[Core], Awaitable[T]]) -> T:
    process, core = replica.process, replica.core
    if process is None or core is None:
        raise Lost

    async def run() -> T:
        return await work(core)

    task = process.start(run())
    await asyncio.wait({task, process.died}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        raise Lost
    return task.result()


@pytest.mark.parametrize("policy", ["new", "always"])
def test_whatever_fails_a_leg_is_one_call_in_one_session_with_the_row_of_its_head(policy: Any) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += CallWorld(scenario_of(seed, KINDS[seed % len(KINDS)]), policy).play_calls()
    assert seen["OutcomeUnknown"] + seen["killed"] > 0
    assert seen["TierUnavailable"] > 0
