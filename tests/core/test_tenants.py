"""A tenant's own settings at work: timers, resumes and quotas go by them, in every process, also for what is quiet."""

from __future__ import annotations

import random

import pytest
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.command import RequestKey
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.tenancy.requests import Begun, Requests
from sessionmanager.core.tenancy.tenants import KIND, Quotas, Tenants, TenantSettings
from sessionmanager.errors import DataCorrupt, KeyReused, NotResumable, QuotaExceeded, RateLimited
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.words import Key
from tests.support.scenes import ALICE, World, request, said

pytestmark = pytest.mark.contract

DAY = 86_400.0
SERVICE = Policy(idle_suspend_seconds=3_600.0, archive_after_days=365.0)


def process(world: World, policy: Policy = SERVICE, defaults: TenantSettings | None = None) -> Core:
    async def at_once(seconds: float) -> None: ...

    return build_core(
        MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), world.clock),
        world.tiers.warm,
        world.tiers.cold,
        MasterKeys(bytes(range(32))),
        CoreSettings(
            policy=policy,
            tenant_defaults=defaults or TenantSettings(),
            timed_moves_percent_max=0.0,
            sweep_seconds=60.0,
        ),
        random_bytes=random.SystemRandom().randbytes,
        sleep=at_once,
        clock=world.clock,
    )


async def put(core: Core, tenant: str = "acme", name: str | None = None, **settings: object) -> TenantSettings:
    begun = await core.requests.begin(tenant, None if name is None else request(name))
    return await core.tenants.put(tenant, TenantSettings(**settings), begun)  # type: ignore[arg-type]


async def begin(core: Core, name: str, tenant: str = "acme") -> Key:
    key = Key(tenant, name)
    await core.sessions.create(tenant, name, {"caller": Raw(b'"me"')}, (), ALICE)
    await core.sessions.append(key, said("hello", "hello"), ALICE)
    return key


async def look(core: Core, key: Key) -> str:
    stored = (await core.ledger.warm.load(key)).stored
    return "erased" if stored.tombstone is not None else stored.placement


async def pass_days(world: World, core: Core, days: float) -> None:
    """The worker is there within the first hours, when idle sessions fall asleep, and at the end."""
    before = world.clock.seconds
    world.clock.seconds += 3_700
    await core.worker.turn()
    world.clock.seconds = max(before + days * DAY, world.clock.seconds)
    for _ in range(4):
        await core.worker.turn()
        world.clock.seconds += 61


async def test_a_session_is_archived_after_its_tenants_own_time_and_others_after_the_services(world: World) -> None:
    core = process(world)
    await put(core, "quick", archive_after_days=10)
    await put(core, "patient", archive_after_days=1_000)
    keys = {tenant: await begin(core, "s", tenant) for tenant in ("quick", "patient", "acme")}
    await pass_days(world, core, 11)
    assert {tenant: await look(core, key) for tenant, key in keys.items()} == {
        "quick": "cold", "patient": "warm", "acme": "warm",
    }  # fmt: skip
    await pass_days(world, core, 365)
    assert [await look(core, keys["patient"]), await look(core, keys["acme"])] == ["warm", "cold"]
    assert await core.worker.turn() == 0, "a longer time is no reason to look again and again"
    await pass_days(world, core, 700)
    assert await look(core, keys["patient"]) == "cold"


async def test_a_time_that_was_made_longer_holds_for_quiet_sessions_and_is_looked_at_once(world: World) -> None:
    core = process(world)
    key = await begin(core, "s")
    await pass_days(world, core, 1)
    await put(core, archive_after_days=1_000)
    await pass_days(world, core, 366)
    assert await look(core, key) == "warm"
    assert await core.worker.turn() == 0
    await pass_days(world, core, 700)
    assert await look(core, key) == "cold"


async def test_each_commit_sets_the_due_time_by_its_tenants_own(world: World) -> None:
    core = process(world, SERVICE._replace(idle_suspend_seconds=0.0))
    await put(core, archive_after_days=10)
    key = await begin(core, "s")
    stored = (await core.ledger.warm.load(key)).stored
    assert stored.head.work.due_at is not None
    assert stored.head.work.due_at <= instants.plus(stored.head.pulse.last_activity, 10 * DAY)


async def test_an_ended_session_is_erased_after_its_retention_wherever_its_body_lies(world: World) -> None:
    core = process(world)
    await put(core, retention_days=30, archive_after_days=5)
    ended, failed, open_one = [await begin(core, name) for name in ("ended", "failed", "open")]
    await core.sessions.transition(ended, "end", ALICE)
    await core.sessions.transition(failed, "fail", ALICE)
    await pass_days(world, core, 29)
    assert [await look(core, key) for key in (ended, failed, open_one)] == ["cold"] * 3
    await pass_days(world, core, 2)
    assert [await look(core, key) for key in (ended, failed, open_one)] == ["erased", "erased", "cold"]


async def test_the_services_retention_holds_where_a_tenant_has_none(world: World) -> None:
    core = process(world, SERVICE._replace(retention_days=7.0))
    await put(core, "keeps", retention_days=700)
    keys = [await begin(core, "s", tenant) for tenant in ("acme", "keeps")]
    for key in keys:
        await core.sessions.transition(key, "end", ALICE)
    await pass_days(world, core, 8)
    assert [await look(core, key) for key in keys] == ["erased", "warm"]


@pytest.mark.parametrize(
    ("setting", "end", "after"),
    [("archive_after_days", False, "cold"), ("retention_days", True, "erased")],
)
async def test_a_time_that_was_shortened_holds_also_for_sessions_that_were_quiet_before(
    world: World, setting: str, end: bool, after: str
) -> None:
    core = process(world)
    keys = [await begin(core, f"s{i}") for i in range(5)]
    for key in keys if end else ():
        await core.sessions.transition(key, "end", ALICE)
    await pass_days(world, core, 20)
    assert {await look(core, key) for key in keys} == {"warm"}
    fresh = await begin(core, "fresh")
    begun = await core.requests.begin("acme", None)
    await core.tenants.put("acme", replace(TenantSettings(), **{setting: 10}), begun)
    await pass_days(world, core, 0.1)
    assert {await look(core, key) for key in keys} == {after}
    assert await look(core, fresh) == "warm"


async def test_a_session_that_is_never_put_to_sleep_is_archived_after_its_time_and_stays_active(world: World) -> None:
    core = process(world, Policy(idle_suspend_seconds=0, archive_after_days=365.0))
    key = await begin(core, "s")
    await pass_days(world, core, 366)
    assert await look(core, key) == "cold"
    view = await core.sessions.view(key)
    assert (view.stored.head.status, view.tier) == ("active", "cold")
    resumed = await core.sessions.resume(key, ALICE, max_age_seconds=None)
    assert (resumed.view.stored.head.status, resumed.view.stored.placement) == ("active", "warm")
    assert resumed.view.stored.head.pulse.resumed_count == 1


# -- how settings are kept


async def test_another_process_knows_settings_after_a_refresh_and_a_new_one_from_its_start(world: World) -> None:
    first, second = process(world), process(world)
    await put(first, max_age_seconds=5.0, quotas=Quotas(sessions=3))
    assert second.tenants.max_age_seconds("acme") is None
    await second.tenants.refresh()
    assert second.tenants.max_age_seconds("acme") == 5.0
    assert second.tenants.quotas("acme").sessions == 3
    assert await process(world).tenants.settings("acme") == first.tenants.own("acme")


async def test_many_tenants_are_read_in_pages_and_one_broken_record_takes_none_of_the_others(world: World) -> None:
    core = process(world)
    for i in range(205):
        await put(core, f"t{i:03}", archive_after_days=i + 1)
    await world.tiers.warm.put_record(ALL_TENANTS, KIND, "t1xx", b"{", rev=0)
    other = Tenants(world.tiers.warm, SERVICE)
    await other.refresh()
    assert [policy.archive_after_days for _, policy in sorted(other.policies())] == list(range(1, 206))
    with pytest.raises(DataCorrupt):
        await other.settings("t1xx")


async def test_settings_that_are_taken_back_are_the_services_again(world: World) -> None:
    core = process(world, defaults=TenantSettings(max_age_seconds=60.0, resume_policy="new"))
    await put(core, max_age_seconds=5.0, archive_after_days=3, resume_policy="always")
    assert core.tenants.policy("acme").archive_after_days == 3
    assert core.tenants.resume_policy("acme") == "always"
    await put(core)
    assert core.tenants.policy("acme") == SERVICE
    assert (core.tenants.max_age_seconds("acme"), core.tenants.resume_policy("acme")) == (60.0, "new")
    assert list(core.tenants.policies()) == []


async def test_a_repeat_of_a_put_never_takes_back_what_came_after_it(world: World) -> None:
    core = process(world)
    await put(core, name="first", archive_after_days=1)
    world.clock.seconds += 1
    await put(core, archive_after_days=2)
    world.clock.seconds += 1
    again = await put(process(world), name="first", archive_after_days=1)
    assert again.archive_after_days == 1, "the first answer"
    assert (await core.tenants.settings("acme")).archive_after_days == 2


async def test_a_put_that_was_cut_off_after_its_key_is_done_by_the_repeat(world: World) -> None:
    core = process(world)
    await put(core, archive_after_days=1)
    world.clock.seconds += 1
    await core.requests.begin("acme", request("cut"))  # and the process dies here
    world.clock.seconds += 1
    await put(process(world), name="cut", archive_after_days=2)
    assert (await core.tenants.settings("acme")).archive_after_days == 2


async def test_a_put_under_an_older_clock_still_stands(world: World) -> None:
    core = process(world)
    await put(core, archive_after_days=1)
    begun = Begun("2020-01-01T00:00:00.000Z", False)
    await core.tenants.put("acme", TenantSettings(archive_after_days=2), begun)
    await core.tenants.put("acme", TenantSettings(archive_after_days=2), begun._replace(replayed=True))
    assert (await core.tenants.settings("acme")).archive_after_days == 2


# -- keys of requests that belong to no session


async def test_a_key_is_known_for_its_time_with_the_moment_of_the_first_request(world: World) -> None:
    requests = Requests(world.tiers.warm, 100.0)
    asked = RequestKey.of("alice", "k", b"one")
    first = await requests.begin("acme", asked)
    assert not first.replayed
    world.clock.seconds += 60
    assert await requests.begin("acme", asked) == Begun(first.at, True)
    with pytest.raises(KeyReused):
        await requests.begin("acme", RequestKey.of("alice", "k", b"two"))
    assert not (await requests.begin("acme", RequestKey.of("bob", "k", b"two"))).replayed, "another subject's"
    assert not (await requests.begin("umbrella", asked)).replayed, "another tenant's"
    assert not (await requests.begin("acme", None)).replayed
    world.clock.seconds += 60
    await world.tiers.warm.sweep(world.tiers.warm.now(), 100)
    assert not (await requests.begin("acme", asked)).replayed


# -- quotas


async def test_a_tenant_makes_no_more_sessions_than_its_quota_and_repeats_are_no_new_ones(world: World) -> None:
    core = process(world, defaults=TenantSettings(quotas=Quotas(sessions=3)))
    await core.sessions.create("acme", "s0", {}, (), ALICE, request("first"))
    await begin(core, "s1")
    await begin(core, "s2")
    with pytest.raises(QuotaExceeded) as refused:
        await begin(core, "s3")
    assert refused.value.members() == {"quota": "sessions", "limit": 3}
    _, again = await core.sessions.create("acme", "s0", {}, (), ALICE, request("first"))
    assert again.replayed
    await begin(core, "s3", "umbrella")
    await core.sessions.erase(Key("acme", "s1"), ALICE)
    await begin(core, "s3")
    await put(core, quotas=Quotas(sessions=4))
    await begin(core, "s4")
    with pytest.raises(QuotaExceeded):
        await begin(process(world, defaults=TenantSettings(quotas=Quotas(sessions=4))), "s5")


async def test_requests_go_on_at_the_tenants_rate_and_one_refusal_says_when(world: World) -> None:
    core = process(world)
    quotas = core.quotas
    for _ in range(1_000):
        quotas.take_request("acme")
    await put(core, quotas=Quotas(requests_per_second=4.0))
    for _ in range(4):
        quotas.take_request("acme")
    with pytest.raises(RateLimited) as refused:
        quotas.take_request("acme")
    assert refused.value.retry_after_seconds == 0.25
    quotas.take_request("umbrella")
    world.clock.seconds += 0.25
    quotas.take_request("acme")
    with pytest.raises(RateLimited):
        quotas.take_request("acme")
    world.clock.seconds += 1_000
    for _ in range(4):
        quotas.take_request("acme")
    with pytest.raises(RateLimited):
        quotas.take_request("acme")


async def test_less_than_one_request_a_second_is_a_rate_too(world: World) -> None:
    core = process(world)
    await put(core, quotas=Quotas(requests_per_second=0.5))
    core.quotas.take_request("acme")
    with pytest.raises(RateLimited) as refused:
        core.quotas.take_request("acme")
    assert refused.value.retry_after_seconds == 2.0


async def test_a_resume_that_gives_no_age_goes_by_the_tenants(world: World) -> None:
    core = process(world)
    key = await begin(core, "s")
    await put(core, max_age_seconds=60.0)
    world.clock.seconds += 61
    with pytest.raises(NotResumable):
        await core.sessions.resume(key, ALICE, max_age_seconds=core.tenants.max_age_seconds("acme"))
