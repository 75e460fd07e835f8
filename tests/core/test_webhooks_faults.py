"""Webhooks while warm fails, processes die and receivers are ill: everything arrives, in order, by whoever is there."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any, Final

import pytest

from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.outbox import Mark, Moved
from sessionmanager.core.webhooks.places import Place
from sessionmanager.core.webhooks.roster import Roster
from sessionmanager.core.webhooks.sender import Outcome
from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.core.webhooks.webhooks import Webhooks
from sessionmanager.errors import OutcomeUnknown, TierUnavailable
from sessionmanager.words import Key
from tests.support.faulty import Faulty
from tests.support.left_out import NO_COVER
from tests.support.receiver import Hooked, Sham, delivering, hooked_for_days
from tests.support.scenes import ALICE, begin, talk
from tests.support.virtual_loop import on_virtual_time

pytestmark = [pytest.mark.fault, NO_COVER]

ONE: Final = Key("acme", "one")
LIMITS: Final = WebhookLimits()
SEEDS: Final = 12
FINE: Final = Outcome("delivered", 200)
FAILED: Final = Outcome("failed", 500, "status-500")


def firsts(sham: Sham, session: str) -> list[int]:
    """The seqs of a session in the order in which they were first sent."""
    return list(dict.fromkeys(seq for name, seq in sham.places if name == session))


async def die(task: asyncio.Task[None], process: Webhooks) -> None:
    """End a process as a kill would: nothing more is written or sent by it."""
    for lane in process.lanes:
        for one in (*lane._tasks, lane._looking):  # pyright: ignore[reportPrivateUsage]
            if one is not None:
                one.cancel()
    process._desks.clear()  # pyright: ignore[reportPrivateUsage]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def run(process: Webhooks) -> asyncio.Task[None]:
    return asyncio.create_task(process.run(asyncio.Event()))


@pytest.mark.parametrize("operation", ["get_record", "put_record", "list_records", "list", "load", "read", "note"])
@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_fault_of_any_call_to_warm_loses_nothing_and_turns_no_order(operation: str, kind: str) -> None:
    @on_virtual_time
    async def play() -> None:
        world = hooked_for_days()
        sham = Sham(world.clock)
        await world.hook("https://example.org/")
        warm = Faulty(world.warm)
        async with delivering(world.process(sham, LIMITS, warm=warm)):
            for n in range(5):
                if kind == "before":
                    warm.fail_before(operation, TierUnavailable("warm"), times=3)
                else:
                    warm.fail_after(operation, OutcomeUnknown(), times=3)
                if n == 0:
                    await begin(world.core, ONE)
                await talk(world.core, ONE, 2, first=10 * n + 1)
                await asyncio.sleep(60)
        assert firsts(sham, "one") == list(range(1, 14))

    play()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_processes_that_die_and_receivers_that_fail_lose_nothing_and_turn_no_order(seed: int) -> None:
    @on_virtual_time
    async def play() -> None:
        draw = random.Random(seed)
        world = hooked_for_days()
        sham = Sham(world.clock)
        hook, _ = await world.hook("https://example.org/")
        ill = [0.3]
        sham.answer = lambda hook, event: FAILED if draw.random() < ill[0] else FINE
        limits = LIMITS._replace(look_sessions_max=draw.choice((3, 5_000)), lines_page=draw.choice((1, 16)))
        processes = [world.process(sham, limits, owner=f"p{n}", seed=seed + n) for n in range(2)]
        running = [run(process) for process in processes]
        keys = [Key("acme", f"s{n}") for n in range(6)]
        for key in keys:
            await begin(world.core, key)
        for n in range(12):
            for key in draw.sample(keys, 3):
                await talk(world.core, key, draw.randrange(1, 4), first=100 * n)
            await asyncio.sleep(draw.choice((0.05, 1.0, 20.0, 45.0)))
            if draw.random() < 0.4:
                which = draw.randrange(2)
                await die(running[which], processes[which])
                processes[which] = world.process(sham, limits, owner=f"p{which}-{n}", seed=seed + n)
                running[which] = run(processes[which])
        ill[0] = 0.0
        newest = {key: (await world.core.ledger.exact(key)).stored.head.pulse.entry_count for key in keys}
        for _ in range(4 * 60):
            if all(len(firsts(sham, key.id)) == newest[key] for key in keys):
                break
            await asyncio.sleep(60)
        for key in keys:
            assert firsts(sham, key.id) == list(range(1, newest[key] + 1)), key
        for task, process in zip(running, processes, strict=True):
            await die(task, process)
        assert (await world.registry.get("acme", hook.id)).status == "enabled"

    play()


@on_virtual_time
async def test_of_two_processes_one_delivers_and_the_other_takes_over_when_it_is_told_or_the_lease_is_over() -> None:
    world = hooked_for_days()
    one, two = Sham(world.clock), Sham(world.clock)
    await world.hook("https://example.org/")
    first = world.process(one, LIMITS, owner="one")
    second = world.process(two, LIMITS, owner="two", seed=2)
    task = run(first)
    await asyncio.sleep(3)
    async with delivering(second):
        await begin(world.core, ONE)
        await asyncio.sleep(20)
        assert (one.places, two.places) == ([("one", 1), ("one", 2), ("one", 3)], [])
        await die(task, first)
        await talk(world.core, ONE, 1)
        await asyncio.sleep(LIMITS.lease_seconds + 10)
        assert two.places == [("one", 4)], "what the first had sent and written is not sent again"
        three = Sham(world.clock)
        async with delivering(world.process(three, LIMITS, owner="three", seed=3)):
            await asyncio.sleep(20)
            assert three.places == []
    async with delivering(world.process(three, LIMITS, owner="four", seed=4)):
        await talk(world.core, ONE, 1, first=5)
        await asyncio.sleep(10)
    assert three.places == [("one", 5)], "whoever stops in peace is not waited for"


@on_virtual_time
async def test_a_process_that_slept_past_its_lease_sends_nothing_out_of_order_when_it_wakes() -> None:
    world = hooked_for_days()
    one, two = Sham(world.clock), Sham(world.clock)
    await world.hook("https://example.org/")
    warm = Faulty(world.warm)
    async with delivering(world.process(one, LIMITS, owner="one", warm=warm)):
        await begin(world.core, ONE)
        await asyncio.sleep(20)
        held = [warm.hold_before(operation) for operation in ("list_records", "put_record", "list", "load", "read")]
        await asyncio.sleep(5)
        async with delivering(world.process(two, LIMITS, owner="two", seed=2)):
            await talk(world.core, ONE, 3)
            await asyncio.sleep(LIMITS.lease_seconds + 10)
            for each in held:
                each.release()
            await talk(world.core, ONE, 3, first=10)
            await asyncio.sleep(60)
    assert one.places == [("one", seq) for seq in (1, 2, 3)]
    assert two.places == [("one", seq) for seq in range(4, 10)]


@on_virtual_time
async def test_a_hook_that_is_owed_too_much_waits_and_gets_all_of_it_later() -> None:
    world = hooked_for_days()
    sham = Sham(world.clock)
    await world.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    process = world.process(sham, LIMITS._replace(owed_max=10, look_sessions_max=4))
    keys = [Key("acme", f"s{n:02}") for n in range(60)]
    async with delivering(process):
        for key in keys:
            await begin(world.core, key)
            await asyncio.sleep(2)
        await asyncio.sleep(600)
        assert process.owed < 20, "the log keeps the rest"
        sham.answer = lambda hook, event: FINE
        await asyncio.sleep(3600)
        assert process.owed == 0
    for key in keys:
        assert firsts(sham, key.id) == [1, 2, 3]


@on_virtual_time
async def test_a_hook_that_was_disabled_for_long_walks_through_what_it_has_missed_the_oldest_first() -> None:
    world = hooked_for_days()
    sham = Sham(world.clock)
    hook, _ = await world.hook("https://example.org/")
    process = world.process(sham, LIMITS._replace(look_sessions_max=5))
    async with delivering(process):
        await begin(world.core, ONE)
        await asyncio.sleep(60)
        await world.registry.disable(hook, "failing")
        await asyncio.sleep(5)
        keys = [Key("acme", f"s{n:02}") for n in range(40)]
        for key in keys:
            await begin(world.core, key)
            await asyncio.sleep(100)
        await talk(world.core, keys[0], 1)
        sham.sent.clear()
        await world.registry.enable("acme", hook.id, world.asked(), skip=False)
        await asyncio.sleep(120)
    for key in keys[1:]:
        assert firsts(sham, key.id) == [1, 2, 3]
    assert firsts(sham, keys[0].id) == [1, 2, 3, 4]
    starts = [session for session, seq in sham.places if seq == 1 and session != "s00"]
    wrong = sum(abs(n - int(session[1:]) + 1) for n, session in enumerate(starts))
    assert wrong <= len(starts) * 4, "about in the order of their times"
    assert await world.left_of(hook) <= 1, "records are taken away when sessions are quiet"


@on_virtual_time
async def test_a_process_that_cannot_renew_its_lease_sends_nothing_once_it_is_over() -> None:
    world = hooked_for_days()
    one, two = Sham(world.clock), Sham(world.clock)
    await world.hook("https://example.org/")
    warm = Faulty(world.warm)
    async with delivering(world.process(one, LIMITS, owner="one", warm=warm)):
        await begin(world.core, ONE)
        await asyncio.sleep(20)
        warm.fail_before("put_record", TierUnavailable("warm"), times=1_000)
        await asyncio.sleep(LIMITS.lease_seconds)
        sent = len(one.sent)
        async with delivering(world.process(two, LIMITS, owner="two", seed=2)):
            await talk(world.core, ONE, 3)
            await asyncio.sleep(60)
    assert len(one.sent) == sent
    assert two.places == [("one", seq) for seq in (4, 5, 6)]


@on_virtual_time
async def test_hooks_that_cannot_be_read_are_not_delivered_to_for_they_may_be_deleted() -> None:
    world = hooked_for_days()
    sham = Sham(world.clock)
    await world.hook("https://example.org/")
    warm = Faulty(world.warm)
    async with delivering(world.process(sham, LIMITS._replace(lease_seconds=300.0), warm=warm)):
        await begin(world.core, ONE)
        await asyncio.sleep(20)
        warm.fail_before("list_records", TierUnavailable("warm"), times=60)
        await asyncio.sleep(LIMITS.news_seconds + 2)
        await talk(world.core, ONE, 1)
        await asyncio.sleep(10)
        assert len(sham.sent) == 3
        await asyncio.sleep(120)
        assert sham.places[3:] == [("one", 4)]


@on_virtual_time
async def test_what_is_erased_or_whose_hook_is_deleted_is_sent_for_moments_only() -> None:
    world = hooked_for_days()
    sham = Sham(world.clock)
    sham.takes = lambda hook: 1.0
    hook, _ = await world.hook("https://example.org/")
    two = Key("acme", "two")
    async with delivering(world.process(sham, LIMITS)):
        for key in (ONE, two):
            await begin(world.core, key)
            await talk(world.core, key, 30)
        await asyncio.sleep(5)
        await world.core.sessions.erase(ONE, ALICE)
        erased_at = world.clock()
        await asyncio.sleep(10)
        await world.registry.remove("acme", hook.id)
        removed_at = world.clock()
        await asyncio.sleep(60)
    at_most = LIMITS.fresh_seconds + 1.0
    sent = [(place[0], at) for place, (_, _, _, at) in zip(sham.places, sham.sent, strict=True)]
    assert max(at for session, at in sent if session == "one") <= erased_at + at_most
    assert removed_at <= max(at for session, at in sent if session == "two") <= removed_at + LIMITS.poll_seconds + 1
    assert await world.left_of(hook) == 0


@on_virtual_time
async def test_however_many_receivers_hang_those_that_are_well_get_theirs_within_seconds() -> None:
    world = hooked_for_days()
    sham = Sham(world.clock)
    dead = {(await world.hook("https://example.org/dead"))[0].id for _ in range(40)}
    well, _ = await world.hook("https://example.org/well")
    sham.takes = lambda hook: 10.0 if hook.id in dead else 0.05
    sham.answer = lambda hook, event: FAILED if hook.id in dead else FINE
    keys = [Key("acme", f"s{n}") for n in range(10)]
    async with delivering(world.process(sham, LIMITS._replace(well_at_once=6, failing_at_once=3))):
        for key in keys:
            await begin(world.core, key)
        await asyncio.sleep(300)
        world.heard.lags.clear()
        for n in range(20):
            await talk(world.core, keys[n % 10], 1, first=100 + n)
            await asyncio.sleep(10)
    assert len(world.heard.lags) >= 20
    assert max(world.heard.lags) <= 2 * LIMITS.poll_seconds
    assert {hook for hook, _, _, _ in sham.sent} == dead | {well.id}, "and the others are tried"


# -- the mark that somebody else goes on from


def test_the_mark_passes_nothing_that_is_owed_and_not_written() -> None:
    roster = Roster(Mark("2026-01-01T00:00:00.000Z"))
    roster.offer(Moved({"a": 3}, Mark("2026-01-01T00:00:10.000Z")))
    roster.offer(Moved({"a": 3, "b": 1}, Mark("2026-01-01T00:00:20.000Z")))
    assert roster.safe() == Mark("2026-01-01T00:00:00.000Z")
    followed = roster.sessions["a"]
    followed.kept = followed.place
    assert roster.safe() == Mark("2026-01-01T00:00:10.000Z"), "b became owed there"
    roster.sessions["b"].stand(Place(seq=1))
    assert roster.safe() == roster.mark
    roster.offer(Moved({"c": 1}, Mark("2026-01-01T00:00:20.000Z", "2026-01-01T00:00:30.000Z", 5.0)))
    roster.offer(Moved({"d": 1}, Mark("2026-01-01T00:00:20.000Z", "2026-01-01T00:00:40.000Z", 5.0)))
    roster.sessions["c"].stand(Place(seq=1))
    assert roster.safe().reached == "2026-01-01T00:00:30.000Z", "within a walk"


def test_a_session_is_with_one_task_at_a_time_and_comes_back_when_its_time_has_come() -> None:
    roster = Roster(Mark("2026-01-01T00:00:00.000Z"))
    roster.offer(Moved({"a": 3, "b": 1}, Mark("2026-01-01T00:00:10.000Z")))
    now: Any = "2026-01-01T00:00:11.000Z"
    first, second = roster.take(now), roster.take(now)
    assert first is not None
    assert second is not None
    assert {first[0], second[0]} == {"a", "b"}
    roster.offer(Moved({"a": 4, "b": 2}, Mark("2026-01-01T00:00:12.000Z")))
    assert roster.take(now) is None, "both are busy"
    first[1].stand(Place(seq=1, next_at="2026-01-01T00:01:00.000Z"))
    roster.free(first[0])
    roster.free(second[0])
    assert (roster.take(now) or ("", None))[0] == second[0]
    assert roster.take(now) is None
    assert (roster.take("2026-01-01T00:01:00.000Z") or ("", None))[0] == first[0]


def test_a_session_that_somebody_holds_is_not_handed_out_and_what_is_owed_since_stays() -> None:
    roster = Roster(Mark("2026-01-01T00:00:00.000Z"))
    roster.offer(Moved({"a": 3}, Mark("2026-01-01T00:00:10.000Z")))
    roster.busy.add("a")  # a replay
    assert roster.take("2026-01-01T00:00:11.000Z") is None
    roster.offer(Moved({"a": 5}, Mark("2026-01-01T00:00:20.000Z")))
    assert roster.safe() == Mark("2026-01-01T00:00:00.000Z"), "more of it does not make it younger"
    roster.free("a")
    assert (roster.take("2026-01-01T00:00:21.000Z") or ("", None))[0] == "a"


def test_a_hook_and_its_secrets_show_nothing_of_themselves() -> None:
    @on_virtual_time
    async def play() -> None:
        world: Hooked = hooked_for_days()
        hook, secret = await world.hook("https://example.org/?token=hidden")
        made: Hook = await world.registry.get("acme", hook.id)
        for text in (repr(made), str(made), repr(made.secrets), f"{made.secrets[0]}"):
            assert "hidden" not in text
            assert secret not in text
        records = await world.warm.list_records("*", "webhook")
        assert all(secret.removeprefix("whsec_").encode() not in record.data for record in records)

    play()
