"""A tier that is back is found to be, though nobody asks it for anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.guard import Guard, Limits
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.tiers.hot.memory import open_memory
from sessionmanager.tiers.trials import RECORD_ID, RECORD_KIND, Trials, trials_of
from sessionmanager.tiers.warm.sqlite import open_sqlite
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.replicas import eventually

pytestmark = pytest.mark.contract

RESET = 10.0
LIMITS = Limits(timeout_seconds=30.0, concurrency_max=8, failures_max=3, reset_seconds=RESET)
KEY = Key("acme", "call-1")


class Idle:
    """Three guarded tiers that nobody uses, and their time."""

    def __init__(self, hot: Any, warm: Any, cold: Any) -> None:
        self.seconds = 1_000.0
        self.inner = {"hot": Faulty(hot), "warm": Faulty(warm), "cold": Faulty(cold)}
        self.hot = GuardedHot(self.inner["hot"], self._guard("hot"))  # type: ignore[arg-type]
        self.warm = GuardedWarm(self.inner["warm"], self._guard("warm"))  # type: ignore[arg-type]
        self.cold = GuardedCold(self.inner["cold"], self._guard("cold"))  # type: ignore[arg-type]
        self.trials = trials_of(self.hot, self.warm, self.cold)

    def _guard(self, tier: Any) -> Guard:
        return Guard(tier, LIMITS, clock=lambda: self.seconds, rand=lambda: 0.5)

    async def looks(self) -> None:
        """One look at each tier."""
        for tier in self.trials.tiers:
            await self.trials.turn(tier)

    def states(self) -> dict[str, tuple[str, str]]:
        guards = {"hot": self.hot.guard, "warm": self.warm.guard, "cold": self.cold.guard}
        return {name: (guard.state()["status"], guard.state()["refuses"]) for name, guard in guards.items()}

    async def fail(self, tier: str, operation: str, call: Any) -> None:
        """Open one of the tier's two breakers."""
        self.inner[tier].fail_before(operation, TierUnavailable(tier), LIMITS.failures_max)  # type: ignore[arg-type]
        for _ in range(LIMITS.failures_max):
            with pytest.raises(TierUnavailable):
                await call()

    def begun(self) -> int:
        return sum(len(tier.begun) for tier in self.inner.values())


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Idle]:
    async with (
        open_memory("memory://") as hot,
        open_sqlite(f"sqlite:///{tmp_path}/warm.db", commit_in="loop") as warm,
        open_directory(tmp_path.as_uri() + "/cold") as cold,
    ):
        yield Idle(hot, warm, cold)


async def all_fail(idle: Idle) -> None:
    await idle.fail("hot", "recall", lambda: idle.hot.recall(KEY))
    await idle.fail("warm", "load", lambda: idle.warm.load(KEY))
    await idle.fail("warm", "note", lambda: idle.warm.note(()))
    await idle.fail("cold", "get", lambda: idle.cold.get("a/b"))
    await idle.fail("cold", "remove", lambda: idle.cold.remove("a/b"))


async def test_while_all_is_well_nothing_is_asked(idle: Idle) -> None:
    await idle.looks()
    assert idle.begun() == 0


async def test_a_breaker_shows_half_open_from_when_its_trial_is_due(idle: Idle) -> None:
    await idle.fail("warm", "note", lambda: idle.warm.note(()))
    assert idle.states()["warm"] == ("open", "writes")
    idle.seconds += RESET - 0.1
    assert idle.states()["warm"] == ("open", "writes")
    idle.seconds += 0.2
    assert idle.states()["warm"] == ("half-open", "writes"), "nobody knows; the next write will"


async def test_a_service_that_nobody_uses_finds_out_that_each_tier_is_back(idle: Idle) -> None:
    await all_fail(idle)
    assert idle.states() == {"hot": ("open", "reads"), "warm": ("open", "everything"), "cold": ("open", "everything")}
    begun = idle.begun()
    await idle.looks()
    assert idle.begun() == begun, "before a trial is due nothing is asked"
    idle.seconds += RESET + 1
    await idle.looks()
    assert set(idle.states().values()) == {("ok", "nothing")}


async def test_a_tier_that_still_fails_is_asked_once_in_a_reset(idle: Idle) -> None:
    await idle.fail("warm", "note", lambda: idle.warm.note(()))
    idle.inner["warm"].fail_before("put_record", OutcomeUnknown(), 2)
    for _ in range(2):
        idle.seconds += RESET + 1
        await idle.looks()
        await idle.looks()
    assert idle.inner["warm"].begun.count("put_record") == 2
    assert idle.states()["warm"] == ("open", "writes")
    idle.seconds += RESET + 1
    await idle.looks()
    assert idle.states()["warm"] == ("ok", "nothing")


async def test_trial_writes_write_and_leave_nothing_that_grows(idle: Idle) -> None:
    revs: list[int] = []
    for _ in range(2):
        await idle.fail("warm", "note", lambda: idle.warm.note(()))
        await idle.fail("cold", "remove", lambda: idle.cold.remove("a/b"))
        idle.seconds += RESET + 1
        await idle.looks()
        record = await idle.warm.get_record("*", RECORD_KIND, RECORD_ID)
        assert record is not None
        revs.append(record.rev)
        assert await idle.warm.list_records("*", RECORD_KIND) == [record]
    assert revs == [1, 2], "a write that changes nothing would prove nothing"
    assert idle.inner["cold"].applied.count("put_once") == 2
    assert await idle.cold.list("trials/") == []


async def test_a_write_that_another_replica_made_first_is_an_answer(idle: Idle) -> None:
    await idle.fail("warm", "note", lambda: idle.warm.note(()))
    idle.seconds += RESET + 1
    held = idle.inner["warm"].hold_before("put_record")
    trial = asyncio.create_task(idle.looks())
    await held.reached.wait()
    await idle.inner["warm"].put_record("*", RECORD_KIND, RECORD_ID, b"{}", rev=0)
    held.release()
    await trial
    assert idle.states()["warm"] == ("ok", "nothing")


async def test_a_tier_that_keeps_silent_holds_no_other_up_and_stopping_ends_it_all(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionmanager.tiers.trials.LOOK_SECONDS", 0.01)
    await all_fail(idle)
    idle.seconds += RESET + 1
    silent = idle.inner["warm"].hold_before("get_record")
    stop = asyncio.Event()
    running = asyncio.create_task(Trials(idle.trials.tiers).run(stop))

    async def others_are_back() -> bool:
        return [idle.states()[name][0] for name in ("hot", "cold")] == ["ok", "ok"]

    async def warm_is_back() -> bool:
        return idle.states()["warm"] == ("ok", "nothing")

    await eventually(others_are_back, 30, "hot and cold are back")
    assert idle.states()["warm"][0] != "ok"
    silent.release()
    await eventually(warm_is_back, 30, "warm is back")
    stop.set()
    async with asyncio.timeout(30):
        await running
