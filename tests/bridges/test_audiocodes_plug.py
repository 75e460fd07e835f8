"""The carrier's socket is pulled at five moments of a call, at VoiceAI Connect and at Twilio: the call goes on.

Nothing that was said is lost or doubled in the log, and nothing is said twice to the caller. A sentence that was broken
in two is one turn; a relay's turns come whole.
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
from sessionmanager.simulate.realtime.behaviour import Behaviour
from tests.bridges.carriers import VAIC, audiocodes, play, ringing, twilio, url_of, vaic
from tests.bridges.conftest import CameBack
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, rig, until
from tests.support.left_out import share

pytestmark = pytest.mark.fault

THANKS = "Thank you."
WELCOME = "You are welcome."
HALF, REST = "What is my", " balance?"
SLOW_SPEAKER_MS = 6000
"""A turn is not over before so much silence: whatever the machine does meanwhile, the line is lost within it."""


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


@pytest.mark.parametrize("carrier", share(("audiocodes", "twilio"), quick=("audiocodes",)))
async def test_pulled_while_the_user_speaks(calls: Rig, looking: Looking, came_back: CameBack, carrier: str) -> None:
    calls.model.behaviour = Behaviour(silence_ms=SLOW_SPEAKER_MS)
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen())
        await phone.say(HALF)
        await until(lambda: calls.model.connections[0].hears == HALF)
        await phone.drop()
        assert await play(phone, Say(REST), Listen(), HangUp()) == [("caller", REST), ("bot", ANSWER)]
        await came_back(phone)
        said = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)]
        await calls.wait_said(session_of(phone), said)
        heard = [(one.who, one.text) for one in calls.model.connections[-1].items.heard]
        assert heard == said, "one turn at the model, of both pieces"


@pytest.mark.parametrize("carrier", share(CARRIERS, quick=("twilio",)))
async def test_pulled_while_the_bot_speaks(calls: Rig, looking: Looking, came_back: CameBack, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen(), Say(BALANCE))
        await phone.ear.until_words()
        await asyncio.sleep(0.5)
        await phone.drop()
        before = phone.ear.take_lines()
        told = await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
        await came_back(phone)
        said = await calls.said(session_of(phone))
        assert [who for who, _ in said][:2] == ["assistant", "user"]
        spoken = " ".join(text for who, text in said if who == "assistant")
        assert spoken == f"{GREETING} {ANSWER} {WELCOME}", "nothing of the answer is lost or said twice"
        heard = [*before, *(text for who, text in told if who == "bot")]
        assert heard[-1] == WELCOME
        assert "".join(heard[:-1]).endswith("to be paid this month.")


@pytest.mark.parametrize("carrier", share(CARRIERS, quick=("relay",)))
async def test_pulled_inside_a_function_call(calls: Rig, looking: Looking, came_back: CameBack, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen(), Say("Look it up."))
        await asyncio.wait_for(looking.asked.wait(), 30)
        said = [("assistant", GREETING), ("user", "Look it up."), ("call", "look_up")]
        await calls.wait_said(session_of(phone), said)
        await phone.drop()
        looking.go_on.set()
        assert await play(phone, Listen(), HangUp()) == [("bot", "It was found.")]
        await came_back(phone)
        assert looking.runs == 1
        said += [("output", {"found": True}), ("assistant", "It was found.")]
        await calls.wait_said(session_of(phone), said)


@pytest.mark.parametrize("carrier", share(CARRIERS, quick=("audiocodes",)))
async def test_pulled_on_hold(calls: Rig, looking: Looking, came_back: CameBack, carrier: str) -> None:
    async with called(carrier, calls, looking) as phone:
        await play(phone, Listen())
        holding = asyncio.create_task(play(phone, Hold(1.0)))
        await asyncio.sleep(0.4)
        await phone.drop()
        await holding
        assert (await play(phone, Say(THANKS), Listen(), HangUp()))[-1] == ("bot", WELCOME)
        await came_back(phone)
        said = [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)]
        await calls.wait_said(session_of(phone), said)
