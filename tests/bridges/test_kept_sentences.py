"""What a caller is saying outlives the process that hears it: the next one, elsewhere, hears it or has its words, and
only one of the two, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.bridges.bridge import Bridge
from sessionmanager.bridges.media.formats import RAW_LPCM16_24
from sessionmanager.bridges.upstream import Setup
from sessionmanager.client.outbox import AsyncOutbox
from sessionmanager.simulate.realtime.behaviour import Behaviour
from tests.bridges.phone import Phone
from tests.bridges.rig import BALANCE, GREETING, Rig, machine, phoning, rig, until
from tests.bridges.test_bridge_metrics import shown
from tests.bridges.test_half_sentences import HALF, NEVER, REST, TALK, goes_on, half_said, hears, turns
from tests.support.left_out import FULL

pytestmark = pytest.mark.fault

OFTEN = 0.05


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


def count(bridge: Bridge, outcome: str) -> float:
    return shown(bridge).get(("checkpoints_total", outcome), 0)


async def half_kept(bridge: Bridge, phone: Phone) -> None:
    """The caller speaks, and the service has all of it."""
    await half_said(phone)
    for _ in range(2):  # the first may have been under way; the second began after it, and so has everything
        before = count(bridge, "kept")
        await phone.quiet(20)
        await until(lambda before=before: count(bridge, "kept") > before)


async def test_after_a_kill_in_mid_sentence_the_next_process_hears_the_beginning_too(calls: Rig) -> None:
    async with machine(calls, checkpoint_seconds=OFTEN) as one, calls.bridge() as two, phoning(one.bridge) as (old, _):
        await half_kept(one.bridge, old)
        await one.kill()
        async with phoning(two, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]
            assert not calls.model.connections[-1].refusals
            await calls.wait_said("call-1", TALK)
    await calls.wait_said("call-1", TALK)


async def test_sound_of_another_format_is_kept_in_few_bytes_and_heard(calls: Rig) -> None:
    wide: Any = {"media": RAW_LPCM16_24, "media_format": "raw/lpcm16_24"}
    async with (
        machine(calls, checkpoint_seconds=OFTEN) as one,
        calls.bridge() as two,
        phoning(one.bridge, **wide) as (old, _),
    ):
        await half_kept(one.bridge, old)
        await one.kill()
        async with phoning(two, opening="resume", **wide) as (phone, _):
            await phone.say(REST)
            await until(lambda: len(turns(calls)) == 1)


async def test_where_the_bridge_listens_the_next_one_goes_on_listening(calls: Rig) -> None:
    listening: Any = {"hears": hears, "setup": Setup(turns="bridge"), "checkpoint_seconds": OFTEN}
    async with (
        machine(calls, **listening) as one,
        calls.bridge(**listening) as two,
        phoning(one.bridge) as (old, _),
    ):
        await half_kept(one.bridge, old)
        await one.kill()
        async with phoning(two, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]


async def test_a_second_kill_before_there_are_words_loses_nothing_either(calls: Rig) -> None:
    async with (
        machine(calls, checkpoint_seconds=OFTEN) as one,
        machine(calls, checkpoint_seconds=NEVER) as two,
        calls.bridge() as three,
        phoning(one.bridge) as (old, _),
    ):
        await half_kept(one.bridge, old)
        await one.kill()
        async with phoning(two.bridge, opening="resume") as (older, _):
            await until(lambda: any(item.what == "started" for item in older.noticed))
            await two.kill()
            async with phoning(three, opening="resume") as (phone, _):
                await goes_on(phone)
                assert turns(calls) == [BALANCE]


async def test_a_process_that_is_killed_before_its_words_are_written_leaves_them_to_be_written_and_answered(
    calls: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, append = asyncio.Event(), AsyncOutbox.append

    async def never(self: AsyncOutbox, session: str, entries: Any) -> Any:
        if any(entry.get("content") == BALANCE for entry in entries):
            reached.set()
            await asyncio.Event().wait()
        return await append(self, session, entries)

    async with machine(calls, checkpoint_seconds=OFTEN) as one, calls.bridge() as two, phoning(one.bridge) as (old, _):
        await half_kept(one.bridge, old)
        monkeypatch.setattr(AsyncOutbox, "append", never)
        await old.say(REST)
        await reached.wait()
        await one.kill()
        monkeypatch.undo()
        async with phoning(two, opening="resume") as (phone, _):
            await phone.hears("You have")
            assert turns(calls) == [BALANCE]
            await calls.wait_for(lambda told: told[:2] == TALK[:2])


async def test_words_that_were_written_before_the_kill_are_not_heard_again(calls: Rig) -> None:
    async with machine(calls, checkpoint_seconds=OFTEN) as one, calls.bridge() as two, phoning(one.bridge) as (old, _):
        await half_kept(one.bridge, old)
        await old.say(REST)
        await calls.wait_for(lambda told: told[:2] == TALK[:2])
        await one.kill()
        async with phoning(two, opening="resume") as (phone, _):
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert turns(calls) == [BALANCE, "Thank you."]


async def test_who_is_cut_off_and_comes_back_elsewhere_is_heard_there_and_not_written_down(calls: Rig) -> None:
    async with calls.bridge(return_seconds=0.5) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(two, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]
            await until(lambda: count(one, "refused") == 1)
            assert len(one.parts.halves) == 0
            await calls.wait_said("call-1", TALK)


async def test_what_was_written_down_is_not_heard_again(calls: Rig) -> None:
    async with calls.bridge(return_seconds=0.0) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await half_said(phone)
            phone.drop()
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", HALF)])
        async with phoning(two, opening="resume") as (phone, _):
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert turns(calls) == [HALF, "Thank you."]


@FULL
async def test_a_process_that_others_went_on_from_does_not_say_it_once_more(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribes=False)
    async with calls.bridge() as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await half_said(phone)
            phone.drop()
        await until(lambda: count(one, "kept") > 0)
        calls.model.behaviour = Behaviour()
        async with phoning(two, opening="resume") as (phone, _):
            await goes_on(phone)
            await calls.wait_said("call-1", TALK)
            phone.drop()
        assert len(one.parts.halves) == 1
        async with phoning(one, opening="resume") as (phone, _):
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert turns(calls)[-1] == "Thank you."
            assert shown(one)["half_sentences_total", "forgotten"] == 1


async def test_who_hangs_up_leaves_nothing(calls: Rig) -> None:
    async with calls.bridge(checkpoint_seconds=OFTEN) as one, calls.bridge() as two:
        async with phoning(one) as (phone, call):
            await half_kept(one, phone)
            await call.hang_up("caller")
        await until(lambda: len(one.parts.tasks) == 0)
        async with phoning(two, opening="resume") as (phone, _):
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert turns(calls)[-1] == "Thank you."


async def test_a_service_that_is_away_is_only_counted_and_words_do_not_wait_for_it(
    calls: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, append = list[Any](), AsyncOutbox.append

    async def noting(self: AsyncOutbox, session: str, entries: Any) -> Any:
        written.extend(entry.get("content") for entry in entries)
        return await append(self, session, entries)

    monkeypatch.setattr(AsyncOutbox, "append", noting)
    async with (
        machine(calls, checkpoint_seconds=OFTEN, order_seconds=NEVER) as one,
        phoning(one.bridge) as (phone, _),
    ):
        await half_kept(one.bridge, phone)
        await one.cut_service()
        await phone.quiet(20)
        await until(lambda: count(one.bridge, "failed") > 0)
        monkeypatch.setattr("sessionmanager.bridges.caller.keeping.KEEP_SECONDS", NEVER)
        failed = count(one.bridge, "failed")
        await phone.say(REST)
        await until(lambda: BALANCE in written)
        assert count(one.bridge, "failed") == failed, "the next try goes on, and nothing waited for it"
        await phone.hears("this month.")
        one.mend_service()
        await calls.wait_said("call-1", TALK)


async def test_who_is_on_hold_is_told_once(calls: Rig) -> None:
    async with calls.bridge(checkpoint_seconds=OFTEN) as bridge, phoning(bridge) as (phone, call):
        await half_kept(bridge, phone)
        await call.hold()
        before = count(bridge, "kept")
        await asyncio.sleep(20 * OFTEN)
        assert count(bridge, "kept") <= before + 1


async def test_where_it_is_off_the_service_is_given_no_sound(calls: Rig) -> None:
    async with calls.bridge(checkpoint_seconds=0.0) as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]
        assert not any(name == "checkpoints_total" for name, *_ in shown(bridge))
