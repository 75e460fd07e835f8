"""Webhooks on real sockets: what arrives, in which order, by whose hand, and what of it a receiver can trust."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.tiers.warm.protocol import TrailQuery
from sessionmanager.words import Key
from tests.support.receiver import QUICK, Answer, ForgedError, Hooked, Receiver, delivering, hooked, receiver, verify
from tests.support.scenes import ALICE, begin, talk

pytestmark = pytest.mark.contract

ONE, TWO = Key("acme", "one"), Key("acme", "two")


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Hooked]:
    async with hooked(folder) as running:
        yield running


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


async def _is_gone(world: Hooked, hook: Hook) -> bool:
    return not await world.left_of(hook) and hook.id not in {each.id for each in await world.registry.everything()}


async def _is_disabled(world: Hooked, hook: Hook) -> bool:
    return (await world.registry.get(hook.tenant, hook.id)).status == "disabled"


async def newest(world: Hooked, key: Key) -> int:
    return (await world.core.ledger.exact(key)).stored.head.pulse.entry_count


async def test_each_line_arrives_once_in_order_with_one_request_at_a_time_of_a_session(
    world: Hooked, there: Receiver
) -> None:
    await world.hook(there.url)
    there.delay_seconds = 0.003
    keys = [Key("acme", f"s{n}") for n in range(12)]
    async with delivering(world.process(world.sender())):
        for key in keys:
            await begin(world.core, key)
        await asyncio.gather(*(talk(world.core, key, 20) for key in keys))
        total = sum([await newest(world, key) for key in keys])
        await there.until(lambda: len(there.got) >= total)
    for key in keys:
        assert there.seqs(key.id) == list(range(1, await newest(world, key) + 1))
    assert there.overlaps == []
    assert there.most > 1, "sessions go beside each other"
    assert world.heard.outcomes == ["delivered"] * total


async def test_what_arrives_is_a_cloud_event_that_the_specifications_verifier_takes_and_nothing_else(
    world: Hooked, there: Receiver
) -> None:
    _, secret = await world.hook(there.url + "?from=us")
    _, other = await world.hook("http://127.0.0.1:9/other")
    async with delivering(world.process(world.sender())):
        await begin(world.core, ONE)
        await there.until(lambda: len(there.got) >= 3)
    got = there.got[0]
    event = verify(secret, got.headers, got.body, time.time())
    assert got.path == "/hook?from=us"
    assert got.headers["content-type"] == "application/json"
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "one:1", "session.created")
    assert (event["source"], event["subject"]) == ("/tenants/acme", "one")
    stored = (await world.warm.read(ONE, after=0, before=2, limit=1))[0]
    assert json.dumps(event["data"]) == json.dumps(json.loads(stored.data)), "the entry as it lies"
    forgeries = {
        "another key": (other, got.headers, got.body),
        "a changed body": (secret, got.headers, got.body + b" "),
        "another id": (secret, {**got.headers, "webhook-id": "evt_0"}, got.body),
        "another time": (secret, {**got.headers, "webhook-timestamp": str(int(time.time()) - 7)}, got.body),
        "an old one": (secret, {**got.headers, "webhook-timestamp": str(int(time.time()) - 301)}, got.body),
    }
    for name, (key, headers, body) in forgeries.items():
        with pytest.raises(ForgedError):
            verify(key, headers, body, time.time())
            pytest.fail(name)


async def test_a_repeat_of_a_delivery_has_the_same_id_and_a_time_and_signature_of_its_own(
    world: Hooked, there: Receiver
) -> None:
    _, secret = await world.hook(there.url)
    there.answer = lambda got: Answer(500 if len(there.got) < 3 else 200)
    quick = QUICK._replace(first_gap_seconds=0.0)
    async with delivering(world.process(world.sender(), quick)):
        await world.core.sessions.create("acme", "one", {}, (), ALICE)
        await there.until(lambda: len(there.got) >= 3)
    assert {got.headers["webhook-id"] for got in there.got} == {there.got[0].headers["webhook-id"]}
    assert len({got.headers["webhook-timestamp"] for got in there.got}) > 1, "signed when it was sent"
    for got in there.got:
        verify(secret, got.headers, got.body, got.at)


async def test_during_a_rotation_both_secrets_sign_and_after_it_the_old_one_does_not(
    world: Hooked, there: Receiver
) -> None:
    hook, old = await world.hook(there.url)
    rotated = await world.registry.rotate("acme", hook.id, world.asked(), grace_seconds=600)
    new = rotated.secret
    assert new is not None
    process = world.process(world.sender())
    async with delivering(process):
        await begin(world.core, ONE)
        await there.until(lambda: len(there.got) >= 3)
        both = there.got[-1]
        await world.registry.rotate("acme", hook.id, world.asked(), grace_seconds=0)
        count = len(there.got)
        # What is under way may still be signed by the older ones; a look later nothing is.
        await there.until(lambda: len(process.lanes[0].hook.secrets) == 1)
        await talk(world.core, ONE, 1)
        await there.until(lambda: len(there.got) > count)
    for secret in (old, new):
        verify(secret, both.headers, both.body, time.time())
        with pytest.raises(ForgedError):
            verify(secret, there.got[-1].headers, there.got[-1].body, time.time())


async def test_only_the_types_that_it_asked_for_are_sent(world: Hooked, there: Receiver) -> None:
    await world.hook(there.url, types=("session.*", "entry.function_call"))
    async with delivering(world.process(world.sender())):
        await begin(world.core, ONE)
        await talk(world.core, ONE, 30)
        await world.core.sessions.transition(ONE, "end", ALICE)
        await there.until(lambda: any(got.event["type"] == "session.status_changed" for got in there.got[2:]))
    types = [got.event["type"] for got in there.got]
    assert set(types) == {"session.created", "session.status_changed", "entry.function_call"}
    assert there.seqs("one") == sorted(there.seqs("one"))


async def test_what_was_committed_before_it_was_registered_is_not_owed(world: Hooked, there: Receiver) -> None:
    await begin(world.core, ONE)
    before = await newest(world, ONE)
    await world.hook(there.url)
    async with delivering(world.process(world.sender())):
        await talk(world.core, ONE, 2)
        await there.until(lambda: len(there.got) >= 2)
    assert there.seqs("one") == [before + 1, before + 2]


async def test_nothing_begins_for_a_deleted_hook_and_nothing_of_it_is_left(world: Hooked, there: Receiver) -> None:
    hook, _ = await world.hook(there.url)
    kept, _ = await world.hook(there.url + "/kept")
    process = world.process(world.sender())
    async with delivering(process):
        await begin(world.core, ONE)
        await there.until(lambda: len(there.got) >= 6)
        await world.registry.remove("acme", hook.id)
        await there.until(lambda: [lane.hook.id for lane in process.lanes] == [kept.id])
        count = len(there.got)
        await talk(world.core, ONE, 3)
        await there.until(lambda: len(there.got) >= count + 3)
        await world.until(lambda: _is_gone(world, hook))
    assert {got.path for got in there.got[count:]} == {"/hook/kept"}


async def test_lines_of_a_session_that_is_erased_while_they_wait_are_not_sent(world: Hooked, there: Receiver) -> None:
    await world.hook(there.url)
    there.answer = lambda got: Answer(503)
    async with delivering(world.process(world.sender(), QUICK._replace(first_gap_seconds=0.0))):
        await begin(world.core, ONE)
        await there.until(lambda: len(there.got) >= 1)
        await world.core.sessions.erase(ONE, ALICE)
        count = len(there.got) + 1  # one may be under way
        there.answer = lambda got: Answer()
        await begin(world.core, TWO)
        await there.until(lambda: there.seqs("two") == [1, 2, 3])
    assert len(there.seqs("one")) <= count
    assert set(there.seqs("one")) == {1}


async def test_a_receiver_that_hangs_or_drips_delays_no_other(world: Hooked, there: Receiver) -> None:
    async with receiver() as dead, receiver() as endless:
        dead.answer = lambda got: Answer(hangs=True)
        endless.answer = lambda got: Answer(endless=True)
        for _ in range(4):
            await world.hook(dead.url)
            await world.hook(endless.url)
        await world.hook(there.url)
        async with delivering(world.process(world.sender(seconds=0.5))):
            keys = [Key("acme", f"s{n}") for n in range(10)]
            for key in keys:
                await begin(world.core, key)
            took: list[float] = []
            for n in range(20):
                began, count = time.monotonic(), len(there.got)
                await talk(world.core, keys[n % 10], 1, first=100 + n)
                await there.until(lambda count=count: len(there.got) > count)
                took.append(time.monotonic() - began)
            await there.until(lambda: len(there.got) >= 10 * 3 + 20)
        assert dead.most <= 4 * QUICK.hook_at_once
        assert sorted(took)[10] < 0.25, "as if the others were not there"
    for key in keys:  # on a machine that is slow to answer something comes twice, and still nothing too early
        first = list(dict.fromkeys(there.seqs(key.id)))
        assert first == sorted(first)


async def test_redirects_are_failures_and_are_not_followed(world: Hooked, there: Receiver) -> None:
    async with receiver() as elsewhere:
        hook, _ = await world.hook(there.url)
        there.answer = lambda got: Answer(307, [("location", elsewhere.url)])
        outcome = await world.sender().send(hook, "evt_1", b"{}")
        assert (outcome.kind, outcome.status, outcome.reason) == ("failed", 307, "status-307")
        assert elsewhere.got == []


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_any_2xx_is_a_yes_whatever_comes_with_it(world: Hooked, there: Receiver, status: int) -> None:
    hook, _ = await world.hook(there.url)
    there.answer = lambda got: Answer(status, body=b"" if status == 204 else b"<html>" * 20_000)
    assert (await world.sender().send(hook, "evt_1", b"{}")).kind == "delivered"


async def test_410_disables_the_hook_at_once_and_the_audit_says_so(world: Hooked, there: Receiver) -> None:
    hook, _ = await world.hook(there.url)
    there.answer = lambda got: Answer(410)
    async with delivering(world.process(world.sender())):
        await begin(world.core, ONE)
        await world.until(lambda: _is_disabled(world, hook))
        await talk(world.core, ONE, 5)
    assert len(there.got) == 1
    after = await world.registry.get("acme", hook.id)
    assert (after.status, after.reason) == ("disabled", "gone")
    trail = (await world.warm.trail(TrailQuery("acme", 10, actor="system:webhooks"))).items
    assert [line.action for _, line in trail] == ["webhook.disabled"]
