"""The cap of what the clock alone may archive and erase in an hour."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from structlog.testing import capture_logs

from sessionmanager.core.assembly import Core, CoreEvents, CoreSettings, build_core
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.working.caps import EACH_HOUR_MIN, HELD_SECONDS_MAX, HOUR_SECONDS, HourlyCap
from sessionmanager.errors import TierUnavailable
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.words import Key
from tests.model.test_fold import a_head
from tests.support.scenes import ALICE, Clock, World

pytestmark = pytest.mark.contract

SESSIONS = 3 * EACH_HOUR_MIN
DAY = 86_400.0


class Heard(CoreEvents):
    def __init__(self) -> None:
        self.work: Counter[str] = Counter()

    def worked(self, work: str, outcome: str) -> None:
        self.work[f"{work} {outcome}"] += 1


def a_core(world: World, heard: Heard, policy: Policy, percent: float = 1.0) -> Core:
    """A process whose hours pass with the world's clock."""
    return build_core(
        MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), world.clock),
        world.tiers.warm,
        world.tiers.cold,
        MasterKeys(bytes(range(32))),
        CoreSettings(policy=policy, timed_moves_percent_max=percent),
        events=heard,
        random_bytes=random.SystemRandom().randbytes,
        sleep=_at_once,
        clock=world.clock,
    )


async def _at_once(seconds: float) -> None: ...


async def turns(core: Core, times: int = 6) -> None:
    for _ in range(times):
        await core.worker.turn()


async def make(core: Core, count: int = SESSIONS, expires_at: bytes | None = None) -> None:
    for i in range(count):
        members = {} if expires_at is None else {"expires_at": Raw(expires_at)}
        await core.sessions.create("acme", f"s{i}", members, (), ALICE)


async def placements(core: Core, count: int = SESSIONS) -> Counter[str]:
    found: Counter[str] = Counter()
    for i in range(count):
        stored = (await core.ledger.warm.load(Key("acme", f"s{i}"))).stored
        found["erased" if stored.tombstone is not None else stored.placement] += 1
    return found


QUIET = Policy(idle_suspend_seconds=0, archive_after_days=30.0)


@pytest.mark.parametrize(
    ("policy", "expires_at", "work", "after"),
    [
        (QUIET, None, "archive", "cold"),
        (Policy(archive_after_days=0, idle_suspend_seconds=0), b'"2027-06-01T00:00:00Z"',
         "expire", "erased"),
    ],
)  # fmt: skip
async def test_a_clock_a_year_ahead_moves_or_erases_no_more_than_the_cap_in_an_hour(
    world: World, policy: Policy, expires_at: bytes | None, work: str, after: str
) -> None:
    heard = Heard()
    core = a_core(world, heard, policy)
    await make(core, expires_at=expires_at)
    world.clock.seconds += 366 * DAY
    with capture_logs() as logs:
        await turns(core)
    assert await placements(core) == {"warm": SESSIONS - EACH_HOUR_MIN, after: EACH_HOUR_MIN}
    assert heard.work[f"{work} done"] == EACH_HOUR_MIN
    assert heard.work[f"{work} held_back"] == SESSIONS - EACH_HOUR_MIN
    told: list[Any] = [line for line in logs if line["event"] == "worker.held_back"]
    assert [(line["work"], line["an_hour"], line["log_level"]) for line in told] == [(work, EACH_HOUR_MIN, "warning")]
    world.clock.seconds += HOUR_SECONDS / 2
    await turns(core)
    assert (await placements(core))[after] == EACH_HOUR_MIN, "not before the hour is over"
    for hour in (2, 3):
        world.clock.seconds += HOUR_SECONDS
        await turns(core)
        assert (await placements(core))[after] == hour * EACH_HOUR_MIN


async def test_what_somebody_asks_for_is_never_held_back(world: World) -> None:
    core = a_core(world, Heard(), Policy(archive_after_days=0, idle_suspend_seconds=0))
    await make(core)
    for i in range(SESSIONS):
        await core.sessions.archive(Key("acme", f"s{i}"), ALICE)
    await turns(core)
    assert await placements(core) == {"cold": SESSIONS}


async def test_a_session_that_was_held_back_and_is_spoken_in_again_is_not_due(world: World) -> None:
    core = a_core(world, Heard(), QUIET)
    await make(core)
    world.clock.seconds += 31 * DAY
    await turns(core)
    warm = [i for i in range(SESSIONS) if (await core.ledger.exact(Key("acme", f"s{i}"))).stored.placement == "warm"]
    key = Key("acme", f"s{warm[0]}")
    await core.sessions.transition(key, "activate", ALICE)
    assert (await core.ledger.exact(key)).stored.head.work.held_until is None
    world.clock.seconds += 2 * HOUR_SECONDS
    await turns(core)
    assert (await core.ledger.exact(key)).stored.placement == "warm"


async def test_zero_percent_is_no_cap(world: World) -> None:
    core = a_core(world, Heard(), QUIET, percent=0.0)
    await make(core)
    world.clock.seconds += 31 * DAY
    await turns(core)
    assert await placements(core) == {"cold": SESSIONS}


async def test_sessions_that_are_put_off_hide_none_that_can_be_done(world: World) -> None:
    """More than a page of sessions cannot be archived because cold is away; suspends go on."""
    heard = Heard()
    core = a_core(world, heard, Policy(idle_suspend_seconds=60.0, archive_after_days=1.0), percent=0.0)
    await make(core, 70)
    world.clock.seconds += 3_600
    await turns(core, 4)
    assert heard.work["suspend done"] == 70

    async def away(name: str, data: bytes) -> None:
        raise TierUnavailable("cold")

    core.bodies.cold.put_once = away  # type: ignore[method-assign]
    world.clock.seconds += 2 * DAY
    await turns(core, 3)
    await core.sessions.create("acme", "late", {}, (), ALICE)
    world.clock.seconds += 61
    await turns(core, 2)
    assert (await core.ledger.exact(Key("acme", "late"))).stored.head.status == "dormant"


async def test_what_fails_uses_up_no_part_of_the_hour(world: World) -> None:
    heard = Heard()
    core = a_core(world, heard, QUIET)
    await make(core, EACH_HOUR_MIN)
    put = core.bodies.cold.put_once

    async def away(name: str, data: bytes) -> None:
        raise TierUnavailable("cold")

    core.bodies.cold.put_once = away  # type: ignore[method-assign]
    world.clock.seconds += 31 * DAY
    for _ in range(5):
        await turns(core, 1)
        world.clock.seconds += 60
    assert heard.work["archive TierUnavailable"] > EACH_HOUR_MIN
    core.bodies.cold.put_once = put  # type: ignore[method-assign]
    await turns(core)
    assert await placements(core, EACH_HOUR_MIN) == {"cold": EACH_HOUR_MIN}


# -- the sum itself


def test_a_share_of_many_sessions_goes_each_hour_and_the_others_come_back_one_hour_after_the_other() -> None:
    clock = Clock()
    cap = HourlyCap(2.0, clock)
    cap.sessions = 1_000
    assert [cap.take("archive") for _ in range(20)] == [None] * 20
    held = [cap.take("archive") for _ in range(41)]
    assert [each.first for each in held if each] == [True] + [False] * 40
    assert {each.seconds for each in held[:20] if each} == {HOUR_SECONDS}
    assert {each.seconds for each in held[20:40] if each} == {2 * HOUR_SECONDS}
    assert cap.take("expire") is None, "each kind of work has its own"
    clock.seconds += HOUR_SECONDS
    assert cap.take("archive") is None


def test_nothing_is_held_for_longer_than_a_month_and_what_did_not_happen_is_given_back() -> None:
    cap = HourlyCap(1.0, Clock())
    held = [cap.take("archive") for _ in range(EACH_HOUR_MIN * 800)][-1]
    assert held is not None
    assert held.seconds == HELD_SECONDS_MAX
    cap.give_back("archive")
    assert cap.take("archive") is None


def test_only_what_the_clock_asks_for_is_capped() -> None:
    cap = HourlyCap(1.0, Clock())
    head = a_head()
    asked = replace(head, work=replace(head.work, archive_asked_by="ops"))
    assert cap.applies("archive", head)
    assert cap.applies("expire", asked)
    assert not cap.applies("archive", asked)
    assert not cap.applies("suspend", head)
    assert not HourlyCap(0.0, Clock()).applies("archive", head)
