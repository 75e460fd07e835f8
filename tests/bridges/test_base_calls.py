"""Whole calls on the base bridge: what is heard, what is said, what stands in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest

from sessionmanager.bridges.bridge import Bridge
from sessionmanager.bridges.carrier import NotSupported
from sessionmanager.bridges.functions import Function, Invocation
from sessionmanager.bridges.media.formats import FORMATS
from sessionmanager.bridges.upstream import Setup
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, eventually, phoning, rig, until
from tests.support.left_out import share

pytestmark = pytest.mark.contract

SOUNDS = ("raw/mulaw", "raw/lpcm16", "raw/lpcm16_24")


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


async def test_a_call_is_greeted_answered_and_written_down_in_order(calls: Rig) -> None:
    async with calls.bridge(setup=Setup(instructions="Be brief.")) as bridge, phoning(bridge) as (phone, call):
        assert not call.resumed
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await phone.hears(ANSWER)
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)])
        assert phone.heard == GREETING + ANSWER
    # The greeting was asked for with words of its own, the answer came by itself.
    assert list(calls.model.connections[0].instructions) == ["Be brief.\n\nGreet the caller.", None]
    assert not calls.model.connections[0].refusals


async def test_a_bot_that_is_interrupted_is_silent_and_log_and_model_hold_what_was_heard(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await phone.hears("You have twelve")
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        assert phone.clears == 1
        entries = await calls.log("call-1")
        cut = next(entry for entry in entries if entry.get("generated") is not None)
        assert cut["content"] == cut["heard"]
        assert ANSWER.startswith(cut["heard"])
        assert cut["generated"].startswith(cut["heard"])
        assert cut["data"] == {"cut": "caller"}
        # What was heard and what is said to have been heard differ by no more than a word.
        played = phone.heard.removeprefix(GREETING).removesuffix("You are welcome.")
        assert abs(len(played) - len(cut["heard"])) < 16, (played, cut["heard"])
        connection = calls.model.connections[0]
        assert "conversation.item.truncate" in connection.received
        assert not connection.refusals
        await calls.wait_said(
            "call-1",
            [
                ("assistant", GREETING),
                ("user", BALANCE),
                ("assistant", cut["heard"]),
                ("user", "Thank you."),
                ("assistant", "You are welcome."),
            ],
        )


@pytest.mark.parametrize(
    ("sound", "flavour"), share(product(SOUNDS, ("ga", "beta")), quick=(("raw/mulaw", "ga"), ("raw/lpcm16", "beta")))
)
async def test_both_generations_and_every_sound_make_the_same_call(calls: Rig, flavour: Any, sound: str) -> None:
    media = FORMATS[sound]
    async with (
        calls.bridge(flavour=flavour) as bridge,
        phoning(bridge, media=media, media_format=media.name, marks=False) as (phone, _),
    ):
        await phone.hears(GREETING)
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        told = [("assistant", GREETING), ("user", "Thank you."), ("assistant", "You are welcome.")]
        await calls.wait_said("call-1", told)
    connection = calls.model.connections[0]
    assert (connection.flavour, list(connection.refusals)) == (flavour, [])


async def test_a_line_of_text_is_shown_words_and_told_what_was_heard_by_its_carrier(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge, media=None, greets=True) as (phone, call):
        await call.say("Thank", last=False)
        await call.say(BALANCE, id="p-1")
        await call.say(BALANCE, id="p-1")
        await until(lambda: "twelve" in phone.shown)
        await call.interrupted("You have twelve")
        await call.say("Thank you.")
        await until(lambda: "You are welcome.|" in phone.shown)
        told = [
            ("user", BALANCE),
            ("assistant", "You have twelve"),
            ("user", "Thank you."),
            ("assistant", "You are welcome."),
        ]
        await calls.wait_said("call-1", told)
        await call.hang_up("completed")
        assert (await call.over()).reason == "hung-up"
    # An answer may end while its cancellation is on the way.
    assert set(calls.model.connections[0].refusals) <= {"response_cancel_not_active"}


async def test_a_function_is_written_down_run_and_its_output_spoken_about(calls: Rig) -> None:
    seen: list[Invocation] = []

    async def look_up(invocation: Invocation) -> Any:
        seen.append(invocation)
        return {"found": True}

    functions = [Function(name="look_up", run=look_up)]
    async with calls.bridge(functions=functions) as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Look it up.")
        await phone.hears("It was found.")
        await calls.wait_said(
            "call-1",
            [
                ("assistant", GREETING),
                ("user", "Look it up."),
                ("call", "look_up"),
                ("output", {"found": True}),
                ("assistant", "It was found."),
            ],
        )
    assert [one.arguments for one in seen] == [{"what": "it"}]
    assert not calls.model.connections[0].refusals


@pytest.mark.parametrize(
    ("run", "output"),
    [
        ("fails", {"error": "it failed: RuntimeError"}),
        ("missing", {"error": "there is no such function"}),
        ("slow", {"error": "interrupted, outcome unknown"}),
        ("large", {"error": "the output is over 32768 bytes"}),
    ],
)
async def test_a_function_that_goes_wrong_gives_an_output_that_says_so(calls: Rig, run: str, output: Any) -> None:
    async def look_up(invocation: Invocation) -> Any:
        if run == "fails":
            raise RuntimeError("a secret")
        if run == "slow":
            await asyncio.sleep(60)
        return "x" * 40_000

    functions = [] if run == "missing" else [Function(name="look_up", run=look_up, timeout_seconds=0.2)]
    async with calls.bridge(functions=functions) as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Look it up.")
        await phone.hears("It was found.")
        assert ("output", output) in await calls.said("call-1")


async def test_keys_are_written_down_one_by_one_and_told_the_model_as_what_was_keyed_in(calls: Rig) -> None:
    async with calls.bridge(greeting=None) as bridge, phoning(bridge) as (phone, call):
        for n, digit in enumerate("471#"):
            await call.press(digit, id=f"key-{n}")
            await call.press(digit, id=f"key-{n}")
        await phone.hears("I have nothing to add.")
        entries = await calls.log("call-1")
        pressed = [entry["data"]["digits"] for entry in entries if entry["type"] == "custom.dtmf"]
        assert pressed == list("471#")
        await calls.wait_said("call-1", [("user", "[keys: 471#]"), ("assistant", "I have nothing to add.")])


async def test_keys_that_speech_follows_are_told_before_it_and_answered_with_it(calls: Rig) -> None:
    async with calls.bridge(greeting=None) as bridge, phoning(bridge) as (phone, call):
        await until(lambda: len(calls.model.connections) == 1)
        await call.press("7")
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        told = [("user", "[keys: 7]"), ("user", "Thank you."), ("assistant", "You are welcome.")]
        await calls.wait_said("call-1", told)


async def test_on_hold_nothing_is_heard_or_said_and_the_bot_goes_on_after_it(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears(GREETING)
        await call.hold()
        await until_leg(calls, "on_hold")
        await phone.say("Thank you.")
        await call.unhold()
        await until_leg(calls, "active")
        await phone.say(BALANCE)
        await phone.hears(ANSWER)
        assert ("user", "Thank you.") not in await calls.said("call-1")
        assert [one for one in await calls.happenings("call-1") if "held" in one] == ["held", "unheld"]


async def test_a_function_hangs_up_after_the_last_word(calls: Rig) -> None:
    async def look_up(invocation: Invocation) -> Any:
        assert invocation.handset is not None
        await invocation.handset.transfer("+12025550199", "asked for")
        with pytest.raises(NotSupported):
            await invocation.handset.send_digits("1")
        await invocation.handset.end("done")
        return "ended"

    async with calls.bridge(functions=[Function(name="look_up", run=look_up)]) as bridge:
        async with phoning(bridge) as (phone, call):
            await phone.hears(GREETING)
            await phone.say("Look it up.")
            over = await call.over()
            assert (over.reason, over.detail) == ("ended-by-bot", "done")
            assert phone.heard.endswith("It was found.")
            assert (phone.ended, phone.transfers) == (["done"], ["+12025550199"])
        await until_left(calls, "call-1")


async def test_a_call_that_hangs_up_leaves_the_session_and_the_session_lives_on(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears("Good day")
        await call.hang_up("caller")
        assert (await call.over()).reason == "hung-up"
    session = await until_left(calls, "call-1")
    assert session["status"] == "active"
    (leg,) = session["calls"]
    assert (leg["gateway"], leg["gateway_call_id"], leg["state"]) == ("twilio", "CA-call-1", "ended")
    assert leg["end_reason"] == "caller"
    told = await calls.said("call-1")
    assert len(told) == 1
    assert GREETING.startswith(told[0][1])


async def test_with_the_call_the_conversation_ends_where_that_is_wanted(calls: Rig) -> None:
    async with calls.bridge(ends_session=True) as bridge, phoning(bridge) as (phone, call):
        await phone.hears(GREETING)
        await call.hang_up("caller")
    await eventually(calls.session, lambda session: session["status"] == "ended")


@pytest.mark.parametrize("count", share((12, 64), quick=(12,)))
async def test_many_calls_at_once_are_each_their_own(calls: Rig, count: int) -> None:
    async def one(bridge: Bridge, n: int) -> None:
        async with phoning(bridge, f"call-{n}", media=None, greets=True) as (phone, call):
            await call.say("Thank you.")
            await until(lambda: "You are welcome.|" in phone.shown)
            await call.hang_up("done")

    async with calls.bridge() as bridge:
        await asyncio.gather(*(one(bridge, n) for n in range(count)))
    for n in (0, count // 2, count - 1):
        # The caller hung up while it was being read out, or before the first word.
        asked, *answered = await calls.said(f"call-{n}")
        assert asked == ("user", "Thank you.")
        assert all(who == "assistant" and "You are welcome.".startswith(text) for who, text in answered)


async def until_leg(calls: Rig, state: str) -> None:
    """Until the one leg of the call is in this state."""
    await eventually(calls.session, lambda session: [leg["state"] for leg in session["calls"]] == [state])


async def until_left(calls: Rig, session: str) -> Any:
    """The session once the bridge has left it."""
    return await eventually(
        lambda: calls.session(session),
        lambda found: [person["status"] for person in found["participants"]] == ["left"],
    )
