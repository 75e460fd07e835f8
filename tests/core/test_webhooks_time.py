"""Webhooks over hours and days, on a virtual clock: attempts, giving up, dead letters, disabling, replays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from sessionmanager.core.outgoing.requests import TheirAnswer
from sessionmanager.core.webhooks.hook import Hook, Replay
from sessionmanager.core.webhooks.letters import Letter, Letters
from sessionmanager.core.webhooks.registry import WantedHook
from sessionmanager.core.webhooks.sender import Outcome, outcome_of
from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.words import Key
from tests.support.receiver import Hooked, Sham, delivering, hooked_for_days
from tests.support.scenes import ALICE, begin, talk
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.contract

ONE, TWO = Key("acme", "one"), Key("acme", "two")
HOUR, DAY = 3600.0, 86_400.0
LIMITS = WebhookLimits()
FOR_DAYS = LIMITS._replace(poll_seconds=20.0, renew_seconds=60.0, news_seconds=100.0, lease_seconds=300.0)
"""Looks are seldom, so that a day has few of them."""
FAILED = Outcome("failed", 500, "status-500")
FINE = Outcome("delivered", 200)


def world() -> tuple[Hooked, Sham]:
    """What there is to try, and a sham for the network."""
    running = hooked_for_days()
    return running, Sham(running.clock)


async def say(world: Hooked, key: Key) -> None:
    """A session with one line that is owed."""
    await world.core.sessions.create(key.tenant, key.id, {}, (), ALICE)


def times(sham: Sham, session: str) -> list[float]:
    """When lines of a session were tried, in seconds after the first."""
    found = [at for _, _, body, at in sham.sent if json.loads(body)["subject"] == session]
    return [at - found[0] for at in found]


async def letters(world: Hooked, hook: Hook) -> list[Letter]:
    return await Letters(world.warm, DAY).page(hook.tenant, hook.id)


async def ask(world: Hooked, hook: Hook, **which: Any) -> None:
    """Wish for dead letters, and give it time."""
    name = f"rep_{asyncio.get_running_loop().time()}"
    await world.registry.replay(hook.tenant, hook.id, Replay(id=name, asked_at=world.warm.now(), **which))
    await asyncio.sleep(60)


@on_virtual_time
async def test_a_line_is_tried_over_a_day_with_gaps_that_grow_and_then_is_a_dead_letter() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    async with delivering(running.process(sham, FOR_DAYS)):
        await say(running, ONE)
        await asyncio.sleep(DAY - 60)
        assert await letters(running, hook) == []
        await asyncio.sleep(HOUR)
    tried = times(sham, "one")
    assert DAY - 5 <= tried[-1] <= DAY + FOR_DAYS.poll_seconds + 5, "once more when its time is over, and never again"
    assert 12 <= len(tried) <= 100
    assert len([at for at in tried if at < 120]) >= 3, "soon at first"
    gaps = [after - before for before, after in pairwise(tried)]
    assert max(gaps) <= LIMITS.longest_gap_seconds + LIMITS.pause_seconds_max + FOR_DAYS.poll_seconds + 2
    assert len({round(gap) for gap in gaps}) > len(gaps) / 2, "jitter"
    (letter,) = await letters(running, hook)
    assert (letter.session, letter.seq, letter.type) == ("one", 1, "session.created")
    assert (letter.attempts, letter.reason, letter.status) == (len(tried), "status-500", 500)


@on_virtual_time
async def test_a_dead_letter_holds_nothing_of_what_was_said() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    async with delivering(running.process(sham, LIMITS._replace(retry_seconds=10.0))):
        await begin(running.core, ONE)
        await asyncio.sleep(HOUR)
    records = await running.warm.list_records("acme", "webhook-letter")
    assert len(records) == 3
    for record in records:
        assert b"line" not in record.data
        assert b"lookup" not in record.data
    attempts = [letter.attempts for letter in await letters(running, hook)]
    assert attempts[0] > 1
    assert attempts[1:] == [1, 1], "what comes next has failed for as long: once is enough"


@on_virtual_time
async def test_the_order_of_a_session_holds_whatever_fails_in_between() -> None:
    running, sham = world()
    await running.hook("https://example.org/")
    count = 0

    def now_and_then(hook: Hook, event: dict[str, Any]) -> Outcome:
        nonlocal count
        count += 1
        return FAILED if count % 3 else FINE

    sham.answer = now_and_then
    async with delivering(running.process(sham, FOR_DAYS)):
        await begin(running.core, ONE)
        await talk(running.core, ONE, 9)
        await asyncio.sleep(DAY)
    tried = [seq for _, seq in sham.places]
    assert tried == sorted(tried)
    assert set(tried) == set(range(1, max(tried) + 1))
    assert max(tried) >= 12


@on_virtual_time
async def test_a_line_that_is_never_taken_keeps_its_own_session_waiting_and_no_other() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED if event["id"] == "one:2" else FINE
    async with delivering(running.process(sham, FOR_DAYS)):
        await begin(running.core, ONE)
        await asyncio.sleep(60)
        for n in range(20):
            await say(running, Key("acme", f"other-{n}"))
            await asyncio.sleep(10)
        assert {f"other-{n}" for n in range(20)} <= {session for session, _ in sham.places}
        assert ("one", 3) not in sham.places
        await asyncio.sleep(DAY)
    assert sham.places[-1] == ("one", 3)
    assert [letter.seq for letter in await letters(running, hook)] == [2]


@on_virtual_time
async def test_a_dead_receiver_costs_little_however_many_sessions_wait_and_gets_all_when_it_is_back() -> None:
    running, sham = world()
    await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    keys = [Key("acme", f"s{n:03}") for n in range(150)]
    async with delivering(running.process(sham, LIMITS)):
        for key in keys:
            await say(running, key)
        await asyncio.sleep(HOUR)
        tries = len(sham.sent)
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        await asyncio.sleep(3 * LIMITS.pause_seconds_max + 30)
    assert tries <= 8 + 3600 / (LIMITS.pause_seconds_max / 2) * 1.5
    assert sorted(sham.places) == sorted((key.id, 1) for key in keys)


@on_virtual_time
async def test_retry_after_is_honoured_for_the_whole_hook() -> None:
    running, sham = world()
    await running.hook("https://example.org/")
    sham.answer = lambda hook, event: Outcome("failed", 429, "status-429", 1800.0)
    async with delivering(running.process(sham, LIMITS)):
        await say(running, ONE)
        await asyncio.sleep(10)
        await say(running, TWO)
        await asyncio.sleep(1700)
        assert sham.places == [("one", 1)]
        sham.answer = lambda hook, event: FINE
        await asyncio.sleep(200)
    assert sorted(sham.places) == [("one", 1), ("one", 1), ("two", 1)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("  7 ", 7.0),
        ("Sat, 21 Nov 2026 12:10:00 GMT", 600.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 11:00:00 GMT", DAY),
        ("9" * 40, DAY),
        ("-5", 0.0),
        ("soon", 0.0),
        ("1e9", 0.0),
        ("٣", 0.0),
        ("Sat, 99 Nov 2026 12:10:00 GMT", 0.0),
        ("", 0.0),
        (None, 0.0),
        ("1" * 1000, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nothing_else_and_at_most_a_day(text: str | None, seconds: float) -> None:
    outcome = outcome_of(TheirAnswer(503, b"", text), "2026-11-21T12:00:00.000Z")
    assert (outcome.kind, outcome.wait_seconds) == ("failed", seconds)


@on_virtual_time
async def test_a_hook_to_which_nothing_gets_through_for_days_is_disabled_and_goes_on_where_it_stood() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    async with delivering(running.process(sham, FOR_DAYS)):
        await begin(running.core, ONE)
        await asyncio.sleep(3 * DAY - HOUR)
        assert (await running.registry.get("acme", hook.id)).status == "enabled"
        await talk(running.core, ONE, 2)
        await asyncio.sleep(6 * HOUR)
        after = await running.registry.get("acme", hook.id)
        assert (after.status, after.reason) == ("disabled", "failing")
        tried = len(sham.sent)
        await say(running, TWO)
        await asyncio.sleep(2 * DAY)
        assert len(sham.sent) == tried, "left alone"
        dead = [(letter.session, letter.seq) for letter in await letters(running, hook)]
        await running.registry.enable("acme", hook.id, running.asked(), skip=False)
        await asyncio.sleep(HOUR)
        assert len(await letters(running, hook)) == len(dead), "a day begins anew"
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        await asyncio.sleep(2.5 * HOUR)
    everything = {("one", seq) for seq in range(1, 6)} | {("two", 1)}
    assert set(sham.places) == everything - set(dead)
    assert ("two", 1) in sham.places


@on_virtual_time
async def test_a_hook_that_is_enabled_with_skip_begins_with_what_comes() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: Outcome("gone", 410, "gone")
    async with delivering(running.process(sham, LIMITS)):
        await begin(running.core, ONE)
        await asyncio.sleep(HOUR)
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        await running.registry.enable("acme", hook.id, running.asked(), skip=True)
        await asyncio.sleep(60)
        assert sham.sent == []
        await talk(running.core, ONE, 1)
        await asyncio.sleep(60)
    assert sham.places == [("one", 4)]


@on_virtual_time
async def test_with_skip_nothing_waits_for_what_was_given_up() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: Outcome("failed", 503, "status-503", HOUR)
    async with delivering(running.process(sham, LIMITS)):
        await say(running, ONE)
        await asyncio.sleep(60)
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        await running.registry.enable("acme", hook.id, running.asked(), skip=True)
        await asyncio.sleep(10)
        await talk(running.core, ONE, 1)
        await asyncio.sleep(10)
    assert [seq for _, seq in sham.places] == [2, 3], "the line, and the status that it changed"


@on_virtual_time
async def test_as_many_dead_letters_as_there_may_be_disable_the_hook_and_nothing_is_lost() -> None:
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    async with delivering(running.process(sham, LIMITS._replace(retry_seconds=1.0, letters_max=4))):
        await begin(running.core, ONE)
        await talk(running.core, ONE, 7)
        await asyncio.sleep(HOUR)
        after = await running.registry.get("acme", hook.id)
        assert (after.status, after.reason) == ("disabled", "dead-letters")
        dead = [letter.seq for letter in await letters(running, hook)]
        assert dead == [1, 2, 3, 4]
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        await running.registry.enable("acme", hook.id, running.asked(), skip=False)
        await asyncio.sleep(60)
    assert [seq for _, seq in sham.places] == list(range(5, 11))


# -- replays


@asynccontextmanager
async def with_letters() -> AsyncGenerator[tuple[Hooked, Sham, Hook]]:
    """A hook with dead letters of three sessions, an hour between them; its receiver is well again."""
    running, sham = world()
    hook, _ = await running.hook("https://example.org/")
    sham.answer = lambda hook, event: FAILED
    async with delivering(running.process(sham, FOR_DAYS._replace(retry_seconds=1.0))):
        for name in ("a", "b", "c"):
            await begin(running.core, Key("acme", name))
            await asyncio.sleep(HOUR)
        assert len(await letters(running, hook)) == 9
        sham.answer = lambda hook, event: FINE
        sham.sent.clear()
        yield running, sham, hook


@on_virtual_time
async def test_one_dead_letter_is_sent_again_under_its_old_id_and_taken_away() -> None:
    async with with_letters() as (running, sham, hook):
        letter = (await letters(running, hook))[4]
        await ask(running, hook, letter=letter.id)
        assert [(place, sent[1]) for place, sent in zip(sham.places, sham.sent, strict=True)] == [
            ((letter.session, letter.seq), letter.message)
        ]
        assert letter not in await letters(running, hook)
        assert (await running.registry.get("acme", hook.id)).replays == ()
        await ask(running, hook, letter=letter.id)
        assert len(sham.sent) == 1, "there is none any more"


@on_virtual_time
async def test_those_since_a_time_are_sent_again_the_oldest_first_and_the_others_stay() -> None:
    async with with_letters() as (running, sham, hook):
        since = instants.plus(running.warm.now(), -2.5 * HOUR)
        await ask(running, hook, since=since)
        assert sham.places == [(name, seq) for name in ("b", "c") for seq in (1, 2, 3)]
        assert {letter.session for letter in await letters(running, hook)} == {"a"}


@on_virtual_time
async def test_all_are_sent_again_and_those_of_erased_sessions_only_go_away() -> None:
    async with with_letters() as (running, sham, hook):
        await running.core.sessions.erase(Key("acme", "b"), ALICE)
        await ask(running, hook)
        assert sham.places == [(name, seq) for name in ("a", "c") for seq in (1, 2, 3)]
        assert await letters(running, hook) == []


@on_virtual_time
async def test_a_replay_that_fails_leaves_its_letters_and_stops_at_a_receiver_that_is_down() -> None:
    async with with_letters() as (running, sham, hook):
        sham.answer = lambda hook, event: FINE if event["id"] == "a:1" else FAILED
        await ask(running, hook)
        assert sham.places == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
        left = await letters(running, hook)
        assert [(letter.session, letter.seq) for letter in left][:2] == [("a", 2), ("a", 3)]
        assert len(left) == 8
        assert (await running.registry.get("acme", hook.id)).replays == ()


@on_virtual_time
async def test_a_replay_goes_on_after_warm_was_away() -> None:
    async with with_letters() as (running, sham, hook):
        running.warm.fail_before("load", TierUnavailable("warm"), times=1)
        await ask(running, hook)
        assert {*sham.places} == {(name, seq) for name in ("a", "b", "c") for seq in (1, 2, 3)}
        assert await letters(running, hook) == []


@on_virtual_time
async def test_what_died_after_it_was_wished_for_is_not_sent_again() -> None:
    async with with_letters() as (running, sham, hook):
        wish = Replay(id="rep_early", asked_at=instants.plus(running.warm.now(), -2.5 * HOUR))
        await running.registry.replay("acme", hook.id, wish)
        await asyncio.sleep(60)
        assert {session for session, _ in sham.places} == {"a"}


@on_virtual_time
async def test_a_hook_that_its_people_have_just_enabled_or_moved_is_not_disabled_for_what_was_before() -> None:
    running, _ = world()
    old, _ = await running.hook("https://example.org/")
    await running.registry.disable(old, "failing")
    await asyncio.sleep(1)
    await running.registry.enable("acme", old.id, running.asked(), skip=False)
    assert (await running.registry.disable(old, "failing")).status == "enabled"
    new = await running.registry.get("acme", old.id)
    await running.registry.change("acme", old.id, WantedHook(url="https://example.org/new"), running.asked())
    assert (await running.registry.disable(new, "gone")).status == "enabled"


@on_virtual_time
async def test_an_older_secret_signs_until_its_grace_is_over_and_not_a_moment_longer() -> None:
    running, _ = world()
    hook, _ = await running.hook("https://example.org/")
    rotated = (await running.registry.rotate("acme", hook.id, running.asked(), grace_seconds=60)).hook
    old, new = running.secrets.open(hook, hook.secrets[0]), running.secrets.open(rotated, rotated.secrets[0])
    now = running.warm.now()
    assert running.secrets.good(rotated, instants.plus(now, 59.9)) == [new, old]
    assert running.secrets.good(rotated, instants.plus(now, 60)) == [new]


@on_virtual_time
async def test_an_erased_session_leaves_no_dead_letter_that_names_it_and_takes_none_of_others() -> None:
    async with with_letters() as (running, _, hook):
        await running.core.sessions.erase(Key("acme", "a"), ALICE)
        await running.core.works["erase"](Key("acme", "a"))
        assert {letter.session for letter in await letters(running, hook)} == {"b", "c"}
        for kind, left in (("webhook-letter", 6), ("webhook-letter-of", 6)):
            assert len(await running.warm.list_records("acme", kind)) == left, "each has one pointer"


@on_virtual_time
async def test_a_pointer_goes_with_its_letter() -> None:
    async with with_letters() as (running, _, hook):
        await ask(running, hook)
        assert await letters(running, hook) == []
        assert await running.warm.list_records("acme", "webhook-letter-of") == []
