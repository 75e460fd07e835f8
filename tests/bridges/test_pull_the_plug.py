"""The pull-the-plug table of the base: what is cut, and when. Nothing that was said is lost or doubled, nothing is said
twice, and the call goes on. The quick profile has a moment or two of each; all of them are in the full one.

Cut are the model's socket, the service's replica, the carrier's socket, and the bridge with all it has (its wires are
cut at one moment, which is what a `kill -9` is to everybody else)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.simulate.realtime.behaviour import Behaviour
from tests.bridges.look_up import FOUND, LookUp
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, machine, phoning, rig, until
from tests.support.left_out import FULL, share

pytestmark = pytest.mark.fault

UNKNOWN = {"error": "interrupted, outcome unknown"}
WELCOME = [("user", "Thank you."), ("assistant", "You are welcome.")]
AT_ONCE_SECONDS = 10.0
"""A new connection comes within a second; a busy machine is given more."""


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


async def thanked(phone: Any) -> None:
    """The call goes on as if nothing had been."""
    await phone.say("Thank you.")
    await phone.hears("You are welcome.")


def one_text(told: list[tuple[str, Any]]) -> str:
    """What the bot is written to have said, in one piece."""
    return " ".join(text for who, text in told if who == "assistant")


# -- the model's socket


@FULL
async def test_model_before_accept_the_call_waits_for_a_model_and_is_greeted_once(calls: Rig) -> None:
    calls.model.refuses = 503
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await until(lambda: bridge.calls == 1)
        await asyncio.sleep(0.3)
        calls.model.refuses = None
        await phone.hears(GREETING)
        await thanked(phone)
        await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


@FULL
async def test_model_while_the_caller_speaks_the_next_one_hears_all_of_it(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.sound("What is my ")
        await until(lambda: "input_audio_buffer.speech_started" in calls.model.connections[0].sent)
        calls.model.kill()
        await phone.sound("balance?")
        await phone.quiet(700)
        await phone.hears(ANSWER)
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)])
        assert phone.heard == GREETING + ANSWER


@FULL
async def test_model_after_the_caller_spoke_and_before_its_words_came_they_are_not_lost(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribe_seconds=60.0)
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Thank you.")
        await until(lambda: "input_audio_buffer.speech_stopped" in calls.model.connections[0].sent)
        calls.model.behaviour = Behaviour()
        calls.model.kill()
        await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


async def test_model_while_the_bot_speaks_it_goes_on_where_it_was_cut_off(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await phone.hears("You have")
        loop = asyncio.get_running_loop()
        killed_at = loop.time()
        calls.model.kill()
        await calls.model.connected(2)
        await until(lambda: "response.created" in calls.model.connections[1].sent)
        assert loop.time() - killed_at < AT_ONCE_SECONDS
        await phone.hears("this month.")
        await thanked(phone)
        told = await calls.said("call-1")
        assert one_text(told) == f"{GREETING} {ANSWER} You are welcome."
        assert [text for who, text in told if who == "user"] == [BALANCE, "Thank you."]
        assert not calls.model.connections[1].refusals


async def test_model_inside_a_function_its_outcome_is_told_the_next_one(calls: Rig) -> None:
    look_up = LookUp()
    async with calls.bridge(functions=[look_up.function()]) as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Look it up.")
        await look_up.inside.wait()
        calls.model.kill()
        await calls.model.connected(2)
        second = calls.model.connections[1]
        await until(lambda: any(item.body["type"] == "function_call" for item in second.items))
        look_up.go_on.set()
        await phone.hears("It was found.")
        told = [("user", "Look it up."), ("call", "look_up"), ("output", FOUND), ("assistant", "It was found.")]
        await calls.wait_said("call-1", [("assistant", GREETING), *told])
        assert look_up.attempts == [1]
        # The next model was told of a call that runs, and of one output.
        shown = [item.body for item in second.items]
        outputs = [body["output"] for body in shown if body["type"] == "function_call_output"]
        assert outputs == ['{"found":true}']
        assert not second.refusals


@FULL
async def test_model_on_hold_nobody_notices(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears(GREETING)
        await call.hold()
        calls.model.kill()
        await calls.model.connected(2)
        await call.unhold()
        await thanked(phone)
        await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


# -- the service's replica


@FULL
async def test_service_before_accept_the_arrival_waits_for_another_replica(calls: Rig) -> None:
    async with machine(calls) as one:
        await one.cut_service()
        asyncio.get_running_loop().call_later(0.5, one.mend_service)
        async with phoning(one.bridge) as (phone, _):
            await phone.hears(GREETING)
            await thanked(phone)
            await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


@pytest.mark.parametrize("moment", share(("caller speaks", "bot speaks", "on hold"), quick=("bot speaks",)))
async def test_service_in_mid_call_nobody_hears_of_it_and_nothing_is_lost(calls: Rig, moment: str) -> None:
    async with machine(calls) as one, phoning(one.bridge) as (phone, call):
        await phone.hears(GREETING)
        if moment == "on hold":
            await call.hold()
        elif moment == "caller speaks":
            await phone.sound("What is my ")
        else:
            await phone.say(BALANCE)
            await phone.hears("You have")
        await one.cut_service()
        if moment == "on hold":
            await call.unhold()
            await phone.say(BALANCE)
        elif moment == "caller speaks":
            await phone.say("balance?")
        await phone.hears("this month.")
        await thanked(phone)
        assert phone.heard == f"{GREETING}{ANSWER}You are welcome."
        one.mend_service()
        told = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER), *WELCOME]
        await calls.wait_said("call-1", told)


async def test_service_and_model_at_once_the_next_model_is_told_from_memory(calls: Rig) -> None:
    async with machine(calls) as one, phoning(one.bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        await one.cut_service()
        calls.model.kill()
        await phone.say(BALANCE)
        await phone.hears(ANSWER)
        seeded = [(one.who, one.text) for one in calls.model.connections[-1].items.heard]
        assert seeded == [("assistant", GREETING), *WELCOME, ("user", BALANCE), ("assistant", ANSWER)]
        one.mend_service()
        await calls.wait_said("call-1", seeded)


async def test_service_inside_a_function_it_runs_on_and_is_written_down_once(calls: Rig) -> None:
    look_up = LookUp()
    async with machine(calls, functions=[look_up.function()]) as one, phoning(one.bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Look it up.")
        await look_up.inside.wait()
        await one.cut_service()
        look_up.go_on.set()
        await phone.hears("It was found.")
        one.mend_service()
        told = [("user", "Look it up."), ("call", "look_up"), ("output", FOUND), ("assistant", "It was found.")]
        await calls.wait_said("call-1", [("assistant", GREETING), *told])


# -- the carrier's socket


@FULL
async def test_carrier_right_after_accept_the_call_comes_back_and_is_greeted_once(calls: Rig) -> None:
    async with calls.bridge() as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            phone.drop()
        async with phoning(two, opening="resume") as (phone, call):
            assert call.resumed
            assert call.media_format == "raw/mulaw"
            await phone.hears(GREETING)
            await thanked(phone)
    told = await calls.said("call-1")
    assert told[-3:] == [("assistant", GREETING), *WELCOME]


async def test_carrier_while_the_bot_speaks_it_goes_on_where_the_caller_lost_it(calls: Rig) -> None:
    async with calls.bridge() as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await phone.hears(GREETING)
            await phone.say(BALANCE)
            await phone.hears("You have twelve")
            phone.drop()
        first = phone.heard
        async with phoning(two, opening="resume") as (phone, _):
            await phone.hears("this month.")
            second = phone.heard
            await thanked(phone)
    told = await calls.said("call-1")
    assert one_text(told) == f"{GREETING} {ANSWER} You are welcome."
    # Of the words that the first line carried, only one that was broken off may be said again.
    assert len(first.split()) + len(second.split()) <= len(f"{GREETING} {ANSWER}".split()) + 2


async def test_carrier_while_the_caller_speaks_the_sentence_is_gone_on_with(calls: Rig) -> None:
    """At another bridge, which has no sound of it: see `test_half_sentences.py`."""
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.sound("What is my ")
            await until(lambda: "input_audio_buffer.speech_started" in calls.model.connections[0].sent)
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await phone.say("balance?")
            await phone.hears(ANSWER)
            assert phone.heard == ANSWER
    await calls.wait_said("call-1", [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)])


async def test_carrier_inside_a_function_the_next_bridge_is_told_what_the_first_one_finds(calls: Rig) -> None:
    look_up = LookUp()
    async with calls.bridge(functions=[look_up.function()]) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await phone.hears(GREETING)
            await phone.say("Look it up.")
            await look_up.inside.wait()
            phone.drop()
        async with phoning(two, opening="resume") as (phone, _):
            look_up.go_on.set()
            await phone.hears("It was found.")
    told = [("user", "Look it up."), ("call", "look_up"), ("output", FOUND), ("assistant", "It was found.")]
    await calls.wait_said("call-1", [("assistant", GREETING), *told])
    assert look_up.attempts == [1]


@FULL
async def test_carrier_comes_back_to_the_same_bridge_and_the_function_is_its_own(calls: Rig) -> None:
    look_up = LookUp()
    async with calls.bridge(functions=[look_up.function()]) as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.say("Look it up.")
            await look_up.inside.wait()
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await calls.model.connected(2)
            look_up.go_on.set()
            await phone.hears("It was found.")
    assert [who for who, _ in await calls.said("call-1")] == ["assistant", "user", "call", "output", "assistant"]


@FULL
async def test_carrier_on_hold_the_call_comes_back_silent(calls: Rig) -> None:
    async with calls.bridge() as one, calls.bridge() as two:
        async with phoning(one) as (phone, call):
            await phone.hears(GREETING)
            await call.hold()
            phone.drop()
        async with phoning(two, opening="resume") as (phone, _):
            await thanked(phone)
            assert phone.heard == "You are welcome."
    await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


# -- the bridge itself


@FULL
async def test_bridge_before_accept_another_one_makes_the_call(calls: Rig) -> None:
    async with machine(calls) as one, calls.bridge() as two:
        await one.cut_service()
        arriving = asyncio.create_task(phoning(one.bridge).__aenter__())
        await asyncio.sleep(0.1)
        arriving.cancel()
        await asyncio.wait([arriving])
        async with phoning(two) as (phone, _):
            await phone.hears(GREETING)
    assert [who for who, _ in await calls.said("call-1")] == ["assistant"]


async def test_bridge_in_mid_sentence_the_next_one_goes_on_and_never_greets_again(calls: Rig) -> None:
    async with machine(calls) as one, calls.bridge() as two, phoning(one.bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await phone.hears("nothing is to")
        await one.kill()
        phone.drop()
        calls.model.kill()
        first = phone.heard.removeprefix(GREETING)
        async with phoning(two, opening="resume") as (again, _):
            await again.hears("this month.")
            await thanked(again)
            second = again.heard.removesuffix("You are welcome.")
    told = await calls.said("call-1")
    assert one_text(told) == f"{GREETING} {ANSWER} You are welcome."
    assert GREETING not in second
    # It may be said again what was heard since the last note, a fifth of a second here, and a broken word.
    assert len(first) + len(second) < len(ANSWER) + 30, (first, second)
    assert ANSWER.endswith(second.strip())
    assert (await calls.happenings("call-1")).count("resumed") == 1


@FULL
async def test_bridge_while_it_greets_the_greeting_is_gone_on_with(calls: Rig) -> None:
    async with machine(calls) as one, calls.bridge() as two, phoning(one.bridge) as (phone, _):
        await phone.hears("Good")
        await one.kill()
        phone.drop()
        calls.model.kill()
        async with phoning(two, opening="resume") as (again, _):
            await again.hears("this is Ada.")
            await thanked(again)
    assert one_text(await calls.said("call-1")) == f"{GREETING} You are welcome."


@FULL
async def test_bridge_while_the_caller_speaks_the_next_one_listens(calls: Rig) -> None:
    """Where the service has no sound, the caller says it again; see `test_kept_sentences.py` for the other case."""
    async with machine(calls, checkpoint_seconds=0.0) as one, calls.bridge() as two, phoning(one.bridge) as (phone, _):
        await phone.hears(GREETING)
        await calls.wait_said("call-1", [("assistant", GREETING)])
        await phone.sound("What is my ")
        await until(lambda: "input_audio_buffer.speech_started" in calls.model.connections[0].sent)
        await one.kill()
        phone.drop()
        calls.model.kill()
        async with phoning(two, opening="resume") as (again, _):
            await again.say(BALANCE)
            await again.hears(ANSWER)
            assert again.heard == ANSWER
    await calls.wait_said("call-1", [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)])


@pytest.mark.parametrize("repeatable", [False, True])
async def test_bridge_inside_a_function_the_outcome_is_found_again_or_said_to_be_unknown(
    calls: Rig, repeatable: bool
) -> None:
    first, second = LookUp(), LookUp()
    second.go_on.set()
    async with (
        machine(calls, functions=[first.function(repeatable=repeatable)]) as one,
        calls.bridge(functions=[second.function(repeatable=repeatable)]) as two,
        phoning(one.bridge) as (phone, _),
    ):
        await phone.hears(GREETING)
        await phone.say("Look it up.")
        await first.inside.wait()
        await one.kill()
        phone.drop()
        calls.model.kill()
        async with phoning(two, opening="resume") as (again, _):
            await again.hears("It was found.")
            output = FOUND if repeatable else UNKNOWN
            told = [("user", "Look it up."), ("call", "look_up"), ("output", output), ("assistant", "It was found.")]
            await calls.wait_said("call-1", [("assistant", GREETING), *told])
    assert second.attempts == ([2] if repeatable else [])


@FULL
async def test_bridge_on_hold_the_next_one_has_the_call(calls: Rig) -> None:
    async with machine(calls) as one, calls.bridge() as two, phoning(one.bridge) as (phone, call):
        await phone.hears(GREETING)
        await calls.wait_said("call-1", [("assistant", GREETING)])
        await call.hold()
        await one.kill()
        phone.drop()
        calls.model.kill()
        async with phoning(two, opening="resume") as (again, _):
            await thanked(again)
            assert again.heard == "You are welcome."
    await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])
