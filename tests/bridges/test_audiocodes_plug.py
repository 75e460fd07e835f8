"""The carrier's socket is pulled at five moments of a call, at VoiceAI Connect and at Twilio: the call goes on.

Nothing that was said is lost or doubled in the log, and nothing is said twice to the caller. What the caller was saying
while there was no socket is said again by the caller, as people do: no machine has heard it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sessionmanager.bridges.functions import Function, Invocation
from sessionmanager.simulate.audiocodes.phone import VaicCall
from sessionmanager.simulate.calling.script import HangUp, Hold, Listen, Say
from tests.bridges.carriers import VAIC, audiocodes, play, ringing, twilio, url_of, vaic
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, rig, until

pytestmark = pytest.mark.fault

THANKS = "Thank you."
WELCOME = "You are welcome."
RESUME_SECONDS = 1.0
"""What is promised; a machine that is busy with other tests is given five times as much here."""


class Looking:
    """A function that waits to be let go on. runs: how often it was begun."""

    def __init__(self) -> None:
        self.runs = 0
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def run(self, _: Invocation) -> Any:
        self.runs += 1
        self.asked.set()
        await self.go_on.wait()
        return {"found": True}

    @property
    def function(self) -> Function:
        return Function(name="look_up", run=self.run, timeout_seconds=60)


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


@pytest.fixture
def looking() -> Looking:
    return Looking()


@asynccontextmanager
async def called(carrier: str, calls: Rig, looking: Looking) -> AsyncGenerator[Any]:
    """A call that was answered at a carrier."""
    functions = [looking.function]
    if carrier == "audiocodes":
        async with audiocodes(calls, functions=functions) as (served, _), vaic(served) as phone:
            yield phone
    else:
        serves: Any = "media" if carrier == "twilio" else "relay"
        bridge = twilio(calls, functions=functions, serves=serves, has_desk=False)
        async with bridge as (served, _), ringing(served) as phone:
            yield phone


def session_of(phone: Any) -> str:
    return getattr(phone, "call_sid", None) or phone.conversation_id


def resumed_in_time(phone: Any, times: int = 1) -> bool:
    return phone.resumes == times and max(phone.resume_seconds) < 5 * RESUME_SECONDS


CARRIERS = ["audiocodes", "twilio", "relay"]


async def test_pulled_before_the_call_is_accepted(calls: Rig) -> None:
    async with audiocodes(calls) as (served, _):
        served.gate.open.clear()
        phone = VaicCall(url_of(served), VAIC, "call-1")
        running = asyncio.create_task(phone.run())
        await until(lambda: served.gate.waiting == 1)
        phone.cut()
        await until(lambda: served.gate.waiting == 0 or phone.ending)
        served.gate.open.set()
        await asyncio.wait_for(phone.answered(), 30)
        assert await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
        await running
        said = [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)]
        await calls.wait_said("call-1", said)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_pulled_while_the_user_speaks(calls: Rig, looking: Looking, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen())
        half = asyncio.create_task(phone.say("What is my"))
        await asyncio.sleep(0.05)
        await phone.drop()
        half.cancel()
        told = await play(phone, Say(THANKS), Listen(), HangUp())
        assert resumed_in_time(phone)
        assert told[-1][0] == "bot"
        await until(phone.over.is_set)
        texts = [text for who, text in await calls.said(session_of(phone)) if who == "assistant"]
        assert texts[0] == GREETING
        assert texts.count(GREETING) == 1


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_pulled_while_the_bot_speaks(calls: Rig, looking: Looking, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen(), Say(BALANCE))
        await phone.ear.until_words()
        await asyncio.sleep(0.5)
        await phone.drop()
        before = phone.ear.take_lines()
        told = await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
        assert resumed_in_time(phone)
        said = await calls.said(session_of(phone))
        assert [who for who, _ in said][:2] == ["assistant", "user"]
        spoken = " ".join(text for who, text in said if who == "assistant")
        assert spoken == f"{GREETING} {ANSWER} {WELCOME}", "nothing of the answer is lost or said twice"
        heard = [*before, *(text for who, text in told if who == "bot")]
        assert heard[-1] == WELCOME
        assert "".join(heard[:-1]).endswith("to be paid this month.")


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_pulled_inside_a_function_call(calls: Rig, looking: Looking, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen(), Say("Look it up."))
        await asyncio.wait_for(looking.asked.wait(), 30)
        said = [("assistant", GREETING), ("user", "Look it up."), ("call", "look_up")]
        await calls.wait_said(session_of(phone), said)
        await phone.drop()
        looking.go_on.set()
        assert await play(phone, Listen(), HangUp()) == [("bot", "It was found.")]
        assert resumed_in_time(phone)
        assert looking.runs == 1
        said += [("output", {"found": True}), ("assistant", "It was found.")]
        await calls.wait_said(session_of(phone), said)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_pulled_on_hold(calls: Rig, looking: Looking, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen())
        holding = asyncio.create_task(play(phone, Hold(1.0)))
        await asyncio.sleep(0.4)
        await phone.drop()
        await holding
        assert (await play(phone, Say(THANKS), Listen(), HangUp()))[-1] == ("bot", WELCOME)
        assert resumed_in_time(phone)
        said = [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)]
        await calls.wait_said(session_of(phone), said)
