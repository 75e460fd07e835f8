"""A bridge process is killed (`kill -9`) at five moments of a call: the call goes on at another process.

What dies with a process is what it alone knew: the sound of a half sentence, which the caller says again, and up
to `note_seconds` of how far the bot had come, which is said twice rather than left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionmanager.simulate.audiocodes.phone import VaicCall, dial
from sessionmanager.simulate.calling.script import HangUp, Hold, Listen, Say
from tests.bridges.carriers import VAIC, play
from tests.bridges.conftest import CameBack
from tests.bridges.plug_functions import FOLDER
from tests.bridges.replicas import Balanced, balanced
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, rig, until
from tests.support.left_out import FULL

pytestmark = pytest.mark.fault

THANKS = "Thank you."
WELCOME = "You are welcome."
ID = "call-1"


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


@asynccontextmanager
async def called(calls: Rig, folder: Path) -> AsyncGenerator[tuple[VaicCall, Balanced]]:
    """A call that the first of two processes has answered and greeted."""
    async with balanced(calls, 2, {FOLDER: str(folder)}) as bridges, dial(bridges.url, VAIC, ID) as phone:
        assert await play(phone, Listen()) == [("bot", GREETING)]
        await calls.wait_said(ID, [("assistant", GREETING)])
        yield phone, bridges


@FULL
async def test_killed_before_the_call_is_accepted(calls: Rig, tmp_path: Path) -> None:
    async with balanced(calls, 2, {FOLDER: str(tmp_path)}) as bridges:
        phone = VaicCall(bridges.url, VAIC, ID)
        running = asyncio.create_task(phone.run())
        await until(lambda: bridges.balancer.accepted == 1)
        bridges.replicas[0].kill()
        await asyncio.wait_for(phone.answered(), 30)
        assert (await play(phone, Listen(), Say(THANKS), Listen(), HangUp()))[-1] == ("bot", WELCOME)
        await running
        await calls.wait_said(ID, [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)])


@FULL
async def test_killed_while_the_user_speaks(calls: Rig, tmp_path: Path, came_back: CameBack) -> None:
    async with called(calls, tmp_path) as (phone, bridges):
        half = asyncio.create_task(phone.say("What is my"))
        await asyncio.sleep(0.05)
        bridges.replicas[0].kill()
        await came_back(phone)
        half.cancel()
        await play(phone, Say(THANKS), Listen(), HangUp())
        said = await calls.said(ID)
        assert said[0] == ("assistant", GREETING)
        assert said.count(("assistant", GREETING)) == 1
        assert said[-1][0] == "assistant"


async def test_killed_while_the_bot_speaks(calls: Rig, tmp_path: Path, came_back: CameBack) -> None:
    async with called(calls, tmp_path) as (phone, bridges):
        await play(phone, Say(BALANCE))
        await phone.ear.until_words()
        await asyncio.sleep(1.2)
        bridges.replicas[0].kill()
        await came_back(phone)
        before = phone.ear.take_lines()
        told = await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
        said = await calls.said(ID)
        assert said[:2] == [("assistant", GREETING), ("user", BALANCE)]
        assert said[-2:] == [("user", THANKS), ("assistant", WELCOME)]
        spoken = " ".join(text for who, text in said[2:-2] if who == "assistant")
        assert spoken == ANSWER, "in the log nothing of the answer is lost or stands twice"
        heard = "".join([*before, *(text for who, text in told if who == "bot")]).removesuffix(WELCOME)
        assert heard.endswith("to be paid this month.")


async def test_killed_inside_a_function_call(calls: Rig, tmp_path: Path, came_back: CameBack) -> None:
    async with called(calls, tmp_path) as (phone, bridges):
        await play(phone, Say("Look it up."))
        said = [("assistant", GREETING), ("user", "Look it up."), ("call", "look_up")]
        await calls.wait_said(ID, said)
        bridges.replicas[0].kill()
        await came_back(phone)
        (tmp_path / "go-on").touch()
        assert await play(phone, Listen(), HangUp()) == [("bot", "It was found.")]
        # It may be repeated, so it was run again; the log has one call and one output.
        assert (tmp_path / "runs").read_text().count("run") == 2
        await calls.wait_said(ID, [*said, ("output", {"found": True}), ("assistant", "It was found.")])


@FULL
async def test_killed_on_hold(calls: Rig, tmp_path: Path, came_back: CameBack) -> None:
    async with called(calls, tmp_path) as (phone, bridges):
        holding = asyncio.create_task(play(phone, Hold(1.5)))
        await asyncio.sleep(0.4)
        bridges.replicas[0].kill()
        await came_back(phone)
        await holding
        assert (await play(phone, Say(THANKS), Listen(), HangUp()))[-1] == ("bot", WELCOME)
        await calls.wait_said(ID, [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)])
