"""Calls across processes: races, kills between claim and commit, silence, policies by the clock, exports."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec import Raw

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.calls.export import LAG_SECONDS, export
from sessionmanager.core.calls.registry import CallAt
from sessionmanager.core.history import Range
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.tenancy.tenants import ResumePolicy, ResumeWithin, TenantSettings
from sessionmanager.errors import AlreadyExists, Erased, NotFound, TierUnavailable
from sessionmanager.model import instants
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.model.entry import decode_entry
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.tiers.warm.protocol import CallQuery, ListQuery
from sessionmanager.words import Gateway, Key
from tests.support.halt import Halt, Killed
from tests.support.scenes import ALICE, World, request, said

pytestmark = pytest.mark.contract

ANNA = "+12025550123"


def process(world: World, policy: ResumePolicy = "new", halt: Halt | None = None, warm: Any = None) -> Core:
    """One more process over the same tiers, with a memory of its own."""
    warm = warm or world.tiers.warm
    return build_core(
        MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), world.clock),
        warm if halt is None else halt.around(warm),
        world.tiers.cold,
        MasterKeys(bytes(range(32))),
        CoreSettings(
            policy=Policy(idle_suspend_seconds=0, archive_after_days=0),
            tenant_defaults=TenantSettings(resume_policy=policy),
        ),
        events=world.heard,
        random_bytes=random.SystemRandom().randbytes,
        sleep=world.clock.sleep,
    )


async def open_call(
    core: Core, gateway_call_id: str, *, session_id: str | None = None, gateway: Gateway = "sip", **call: Any
) -> CallAt:
    cid = core.calls.id_of("acme", gateway, gateway_call_id, None)
    wanted = NewCall(cid, gateway, gateway_call_id, call.pop("direction", "inbound"), **call)
    fields = {"caller": Raw(b'"%b"' % call["caller"].encode())} if call.get("caller") else {}
    return await core.calls.open("acme", ALICE, wanted, fields, session_id)


async def sessions_of(world: World) -> list[str]:
    return [stored.key.id for stored in (await world.tiers.warm.list(ListQuery("acme", 200))).items]


async def listed(world: World, **query: Any) -> list[tuple[str, str]]:
    page = await world.tiers.warm.list_calls(CallQuery("acme", 200, **query))
    return [(row.id, row.state) for row in page.items]


# -- races and kills


@pytest.mark.parametrize("policy", ["new", "always"])
async def test_two_replicas_that_hear_of_a_call_at_once_make_one_session_and_one_call(
    world: World, policy: ResumePolicy
) -> None:
    replicas = [process(world, policy) for _ in range(2)]
    rivals = [open_call(replicas[n % 2], f"call-{n // 10}", caller=ANNA) for n in range(40)]
    answers = await asyncio.gather(*rivals)
    by_call = {at.call.id: {one.call.session_id for one in answers if one.call.id == at.call.id} for at in answers}
    assert len(by_call) == 4
    assert all(len(sessions) == 1 for sessions in by_call.values())
    assert sum(at.fresh for at in answers) == 4
    made = await sessions_of(world)
    assert sorted(made) == sorted({session for sessions in by_call.values() for session in sessions})
    assert sum(at.session_made for at in answers) == len(made)
    assert len(await listed(world)) == 4


@pytest.mark.parametrize("known", ["nobody", "session"])
async def test_a_process_that_is_killed_at_any_step_leaves_one_call_to_whoever_reports_it_next(
    world: World, known: str
) -> None:
    """Every call to warm is the last of one process; the next reports the call again, with another session in mind."""
    halt = Halt()
    steps = 0
    for step in range(1, 40):
        name = f"leg-{step}"
        healthy = process(world, "always")
        if known == "session":
            await open_call(healthy, f"before-{step}", caller=f"+4930{step:05d}")
        halted = process(world, "always", halt)
        await halted.keys.create(Key("acme", "warm-up"))  # its tenant's key is read before the first call
        halt.arm(step)
        try:
            await open_call(halted, name, caller=f"+4930{step:05d}")
        except Killed:
            steps += 1
        else:
            break
        finally:
            halt.arm(10**9)
        await open_call(process(world, "always"), name, caller=f"+4930{step:05d}")
        again = await open_call(process(world, "always"), name, session_id="somewhere-else")
        assert not again.fresh
        head = (await healthy.ledger.exact(Key("acme", again.call.session_id))).stored.head
        assert [call.id for call in head.detail.calls].count(again.call.id) == 1
    assert steps >= 3, "it was killed before the claim, before the commit, and after each"
    rows = await listed(world)
    assert len(rows) == len(set(rows))


async def test_a_claim_for_a_session_that_never_came_to_be_is_no_obstacle(world: World) -> None:
    core = process(world)
    cid = core.calls.id_of("acme", "sip", "c1", None)
    await world.tiers.warm.claim_call("acme", cid, "never-made")
    await core.sessions.create("acme", "mine", {}, (), ALICE)
    at = await core.calls.open_in(Key("acme", "mine"), ALICE, NewCall(cid, "sip", "c1", "inbound"), None)
    assert (at.call.session_id, at.fresh) == ("mine", True)
    other = core.calls.id_of("acme", "sip", "c2", None)
    await world.tiers.warm.claim_call("acme", other, "never-made")
    assert (await open_call(core, "c2")).call.session_id == "never-made"


async def test_a_session_that_claimed_a_call_and_ended_gives_it_up(world: World) -> None:
    core = process(world)
    await core.sessions.create("acme", "over", {}, (), ALICE)
    cid = core.calls.id_of("acme", "sip", "c1", None)
    await world.tiers.warm.claim_call("acme", cid, "over")
    await core.sessions.transition(Key("acme", "over"), "end", ALICE)
    at = await open_call(core, "c1")
    assert (at.session_made, at.call.session_id != "over") == (True, True)


async def test_a_session_that_may_yet_take_a_claimed_call_keeps_it(world: World) -> None:
    core = process(world)
    for name in ("slow", "other"):
        await core.sessions.create("acme", name, {}, (), ALICE)
    cid = core.calls.id_of("acme", "sip", "c1", None)
    await world.tiers.warm.claim_call("acme", cid, "slow")
    with pytest.raises(AlreadyExists):
        await core.calls.open_in(Key("acme", "other"), ALICE, NewCall(cid, "sip", "c1", "inbound"), None)


async def test_a_call_of_a_session_that_was_erased_begins_anew(world: World) -> None:
    core = process(world)
    first = await open_call(core, "c1", caller=ANNA)
    await core.sessions.erase(Key("acme", first.call.session_id), ALICE)
    with pytest.raises(NotFound):
        await core.calls.locate("acme", first.call.id)
    second = await open_call(process(world), "c1")
    assert (second.fresh, second.session_made, second.call.caller) == (True, True, None)
    with pytest.raises(Erased):
        await open_call(core, "c2", session_id=first.call.session_id)


async def test_ids_of_calls_tell_nothing_and_are_each_tenants_own(world: World) -> None:
    calls = process(world).calls
    one = calls.id_of("acme", "sip", "secret@host", None)
    assert one == process(world).calls.id_of("acme", "sip", "secret@host", request("whatever"))
    others = {
        calls.id_of("umbrella", "sip", "secret@host", None),
        calls.id_of("acme", "twilio", "secret@host", None),
        calls.id_of("acme", "sip", None, request("a")),
        calls.id_of("acme", "sip", None, None),
        calls.id_of("acme", "sip", None, None),
    }
    assert len(others | {one}) == 6
    assert all("secret" not in each for each in others | {one})


# -- silence


async def test_a_dead_gateways_calls_end_by_themselves_on_any_replica(world: World) -> None:
    core = process(world)
    ringing = await open_call(core, "c1")
    talking = await open_call(core, "c2", state="active")
    world.clock.seconds += 301
    replicas = [process(world) for _ in range(3)]
    await asyncio.gather(*(replica.worker.turn() for replica in replicas))
    key = Key("acme", ringing.call.session_id)
    call = (await core.calls.get(key, ringing.call.id)).call
    assert (call.state, call.end_reason, call.ended_at) == ("ended", "timeout", ringing.call.news_at)
    assert [entry.type for entry in await log_of(core, key)].count("call") == 2, "it ended once, whoever came"
    assert dict(await world.tiers.warm.live_calls()) == {"active": 1}
    world.clock.seconds += 14_400
    await process(world).worker.turn()
    assert dict(await world.tiers.warm.live_calls()) == {}
    late = await core.calls.report(Key("acme", talking.call.session_id), talking.call.id, ALICE, Report(state="ended"))
    assert late.call.end_reason == "timeout"
    assert not world.heard.failures


async def test_news_that_changes_nothing_keeps_a_call_alive_and_is_no_commit(world: World) -> None:
    core = process(world)
    at = await open_call(core, "c1", state="active")
    key = Key("acme", at.call.session_id)
    await open_call(core, "c2", session_id=key.id, state="active")
    version = (await core.ledger.exact(key)).stored.version
    for _ in range(4):
        world.clock.seconds += 10_000
        await core.calls.report(key, at.call.id, ALICE, Report(state="active"))
        await process(world).worker.turn()
    head = (await core.ledger.exact(key)).stored.head
    assert [call.state for call in head.detail.calls] == ["active", "ended"]
    assert head.version == version + 1, "the other call's end alone"
    before = (await core.ledger.exact(key)).stored.rev
    for _ in range(5):
        await core.calls.report(key, at.call.id, ALICE, Report(state="active"))
    assert (await core.ledger.exact(key)).stored.rev == before, "news so soon is not worth a write"


async def log_of(core: Core, key: Key) -> list[Any]:
    _, found = await core.sessions.entries(key, Range(0, 2**53, 200))
    return [decode_entry(line.data) for line in found.lines]


async def test_live_calls_are_counted_for_metrics(world: World) -> None:
    core = process(world)
    counted: list[dict[str, int]] = []
    world.heard.calls = lambda counts: counted.append(dict(counts))  # type: ignore[method-assign]
    await open_call(core, "c1")
    at = await open_call(core, "c2", state="active")
    await core.worker.turn()
    await core.calls.report(Key("acme", at.call.session_id), at.call.id, ALICE, Report(state="ended"))
    world.clock.seconds += 11
    await core.worker.turn()
    assert counted == [{"initializing": 1, "active": 1}, {"initializing": 1}]


# -- policies


async def test_within_goes_by_the_last_activity_and_by_warms_clock(world: World) -> None:
    core = process(world, ResumeWithin(resume_within=600.0))
    first = await open_call(core, "c1", caller=ANNA)
    key = Key("acme", first.call.session_id)
    world.clock.seconds += 500
    await core.sessions.append(key, said("hello", "h1"), ALICE)
    world.clock.seconds += 500
    assert (await open_call(core, "c2", caller=f"tel:{ANNA}")).call.session_id == key.id
    world.clock.seconds += 601
    third = await open_call(core, "c3", caller=ANNA)
    assert third.session_made
    fourth = await open_call(core, "c4", caller=ANNA)
    assert fourth.call.session_id == third.call.session_id, "the one that was active last"


async def test_always_goes_on_where_the_party_was_active_last_not_where_it_began_last(world: World) -> None:
    core = process(world, "always")
    for name in ("older", "newer"):
        await open_call(core, f"in-{name}", caller=ANNA, session_id=name)
        world.clock.seconds += 10
    await core.sessions.append(Key("acme", "older"), said("hello", "h1"), ALICE)
    assert (await open_call(core, "next", caller=ANNA)).call.session_id == "older"


async def test_a_tenants_oldest_age_bounds_always_too(world: World) -> None:
    core = process(world, "always")
    begun = await core.requests.begin("acme", None)
    await core.tenants.put("acme", TenantSettings(max_age_seconds=60.0), begun)
    first = await open_call(core, "c1", caller=ANNA)
    world.clock.seconds += 59
    assert (await open_call(core, "c2", caller=ANNA)).call.session_id == first.call.session_id
    world.clock.seconds += 61
    assert (await open_call(core, "c3", caller=ANNA)).session_made


async def test_old_words_of_a_stored_policy_are_read(world: World) -> None:
    core = process(world)
    kept = b'{"tenant":"acme","settings":{"resume_policy":"resume_last"},"put_at":"2026-11-21T12:00:00.000Z"}'
    await world.tiers.warm.put_record("*", "tenant-settings", "acme", kept, rev=0)
    await core.tenants.refresh()
    assert core.tenants.resume_policy("acme") == "always"


# -- exports


async def test_an_export_goes_on_where_it_ended_and_misses_nothing_that_settled_late(world: World) -> None:
    core = process(world)
    warm = world.tiers.warm
    query = CallQuery("acme", 3)

    async def end(name: str) -> None:
        at = await open_call(core, name, state="active")
        early = instants.plus(warm.now(), -3_600)
        await core.calls.report(
            Key("acme", at.call.session_id), at.call.id, ALICE, Report(state="ended", at=early, reason="normal")
        )

    for number in range(5):
        await end(f"first-{number}")
        world.clock.seconds += 1
    fresh = await export(warm, query)
    assert fresh.rows == (), "an end so fresh may not be the oldest that is still to come"
    assert fresh.end is None
    world.clock.seconds += LAG_SECONDS
    told: list[str] = []
    while True:
        page = await export(warm, query)
        told += [row.id for row in page.rows]
        query = query._replace(after=page.end)
        if not page.more:
            break
    await end("second")
    world.clock.seconds += LAG_SECONDS + 1
    page = await export(warm, query)
    told += [row.id for row in page.rows]
    everything = await export(warm, CallQuery("acme", 100))
    assert told == [row.id for row in everything.rows]
    assert len(told) == 6
    nothing = await export(warm, query._replace(after=page.end))
    assert (nothing.rows, nothing.end, nothing.more) == ((), page.end, False)


async def test_what_is_not_known_to_be_complete_is_not_told(world: World) -> None:
    """A backend whose copies lag says so, and the export ends there though later rows are there already."""
    core = process(world)
    for name in ("one", "two"):
        at = await open_call(core, name, state="active")
        await core.calls.report(Key("acme", at.call.session_id), at.call.id, ALICE, Report(state="ended"))
        world.clock.seconds += 60

    class Lagging:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.tiers.warm, name)

        async def list_calls(self, query: CallQuery) -> Any:
            page = await world.tiers.warm.list_calls(query)
            return page._replace(complete_until=instants.plus(world.tiers.warm.now(), -90))

    lagging: Any = Lagging()
    page = await export(lagging, CallQuery("acme", 10))
    assert [row.id for row in page.rows] == [core.calls.id_of("acme", "sip", "one", None)]
    assert not page.more


async def test_a_warm_tier_that_is_away_is_told_and_nothing_is_half_done(world: World) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.tiers.warm, name)

        async def claim_call(self, *args: Any, **kwargs: Any) -> str:
            raise TierUnavailable("warm")

    with pytest.raises(TierUnavailable):
        await open_call(process(world, warm=Away()), "c1")
    assert await sessions_of(world) == []
    assert (await open_call(process(world), "c1")).fresh
