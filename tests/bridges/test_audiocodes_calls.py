"""Whole calls at a simulated VoiceAI Connect, which refuses what the real one refuses, with the real service behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.bridges.functions import Function, Invocation
from sessionmanager.bridges.media.formats import FORMATS
from sessionmanager.simulate.audiocodes.phone import VaicOptions
from sessionmanager.simulate.calling.caller import GaveUp
from sessionmanager.simulate.calling.script import Drop, HangUp, Hold, Listen, Press, Say
from tests.bridges.carriers import TOKEN, audiocodes, cut_off, heard_after, play, vaic
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, rig, until
from tests.support.left_out import FULL, share

pytestmark = pytest.mark.contract

SPOKEN = [name for name in FORMATS if not name.endswith("alaw")]

THANKS = "Thank you."
WELCOME = "You are welcome."


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


async def test_a_call_is_greeted_answered_and_hung_up_by_the_caller(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _), vaic(served) as phone:
        told = await play(phone, Listen(), Say(BALANCE), Listen(), Say(THANKS), Listen(), HangUp())
        said = [("bot", GREETING), ("caller", BALANCE), ("bot", ANSWER), ("caller", THANKS), ("bot", WELCOME)]
        assert told == said
        assert phone.ending == "client-disconnected"
        roles = {"bot": "assistant", "caller": "user"}
        await calls.wait_said("call-1", [(roles[who], text) for who, text in said])
        session = (await calls.service.http.get("/sessions/call-1")).json()
        assert (session["bridge_type"], session["media_format"]) == ("audiocodes", "raw/lpcm16_8")
        assert (session["bot_name"], session["caller"]) == ("support", "+12025550123")
        assert session["external_ids"] == {"audiocodes_conversation_id": "call-1"}


@pytest.mark.parametrize("name", share(SPOKEN, quick=("raw/mulaw", "wav/lpcm16")))
async def test_every_media_format_carries_the_call_both_ways(calls: Rig, name: str) -> None:
    options = VaicOptions(token=TOKEN, pace=4.0, supported=(name,), stop_cuts=False)
    async with audiocodes(calls) as (served, _), vaic(served, options=options) as phone:
        told = await play(phone, Listen(), Say(THANKS), Listen(), Drop(), HangUp())
        assert told == [("bot", GREETING), ("caller", THANKS), ("bot", WELCOME), ("line", "the socket breaks")]
        assert phone.resumes == 1


async def test_a_caller_who_cuts_in_is_heard_and_the_log_holds_what_they_heard(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _), vaic(served) as phone:
        told = await play(phone, Listen(), Say(BALANCE), Say(THANKS, over=True), Listen(), HangUp())
        cut, heard = await cut_off(calls, "call-1"), heard_after(told, BALANCE)
        assert ANSWER.startswith(cut["heard"])
        # VAIC is sent 400 ms ahead, ten letters: so much may be in the air at the cut.
        assert abs(len(heard) - len(cut["heard"])) < 30, (heard, cut["heard"])
        assert told[-1] == ("bot", WELCOME)


async def test_keys_and_activities_are_kept(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _), vaic(served) as phone:
        await play(phone, Listen(), Press("12#"), Say(THANKS), Listen(), HangUp())
        entries = await calls.log("call-1")
        kinds = {entry["type"] for entry in entries}
        assert any("dtmf" in kind for kind in kinds), kinds
        start = next(entry for entry in entries if entry["type"] == "custom.audiocodes")
        assert start["data"]["name"] == "start"


async def test_a_function_in_flight_outlives_the_socket(calls: Rig) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def look_up(_: Invocation) -> Any:
        asked.set()
        await go_on.wait()
        return {"found": True}

    functions = [Function(name="look_up", run=look_up)]
    async with audiocodes(calls, functions=functions) as (served, _), vaic(served) as phone:
        await play(phone, Listen(), Say("Look it up."))
        await asyncio.wait_for(asked.wait(), 30)
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", "Look it up."), ("call", "look_up")])
        await phone.drop()
        go_on.set()
        assert await play(phone, Listen(), HangUp()) == [("bot", "It was found.")]
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


async def test_a_call_on_hold_is_silent_and_goes_on(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _), vaic(served) as phone:
        told = await play(phone, Listen(), Hold(0.5), Say(BALANCE), Listen(), HangUp())
        assert told[-1] == ("bot", ANSWER)


@pytest.mark.parametrize("what", ["transfer", "hang_up"])
async def test_the_bot_hands_over_or_hangs_up_by_a_function(calls: Rig, what: str) -> None:
    async def look_up(invocation: Invocation) -> Any:
        handset = invocation.handset
        assert handset is not None
        if what == "transfer":
            await handset.transfer("+12025550199", "asked for a person")
        else:
            await handset.end("done")
        return "done"

    functions = [Function(name="look_up", run=look_up, speaks=False)]
    async with audiocodes(calls, functions=functions) as (served, bridge), vaic(served) as phone:
        await play(phone, Listen(), Say("Look it up."), Listen())
        await asyncio.wait_for(phone.over.wait(), 30)
        assert phone.ending in ("transfer: +12025550199", "hangup: done")
        await until(lambda: not bridge.calls)


async def test_a_resume_of_an_ended_conversation_is_told_and_hung_up(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _):
        async with vaic(served) as phone:
            await play(phone, Listen(), HangUp())
        assert (await calls.service.http.post("/sessions/call-1/end")).status_code == 200
        with pytest.raises(GaveUp, match=r"session\.error: conversation ended"):
            async with vaic(served):
                pass


@FULL
async def test_sixty_four_calls_at_once_each_hear_their_own_bot(calls: Rig) -> None:
    options = VaicOptions(token=TOKEN, pace=2.0, supported=("raw/mulaw",), answer_seconds=60, stop_cuts=False)

    async def one(n: int) -> None:
        async with vaic(served, f"call-{n}", options) as phone:
            told = await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
            assert told == [("bot", GREETING), ("caller", THANKS), ("bot", WELCOME)]

    async with audiocodes(calls) as (served, bridge):
        await asyncio.gather(*(one(n) for n in range(64)))
        await until(lambda: not bridge.calls)
        told = [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)]
        for n in (0, 31, 63):
            await calls.wait_said(f"call-{n}", told)
