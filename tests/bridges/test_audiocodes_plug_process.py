"""A bridge process is killed (`kill -9`) at five moments of a call: the call goes on at another process.

What dies with a process is what it alone knew: the last moments of a half sentence (`checkpoint_seconds`), and up to
`note_seconds` of how far the bot had come, which is said twice rather than left out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from sessionmanager.simulate.audiocodes.phone import VaicCall, dial
from sessionmanager.simulate.calling.script import HangUp, Hold, Listen, Say
from sessionmanager.simulate.realtime.behaviour import Behaviour
from tests.bridges.carriers import VAIC, play
from tests.bridges.conftest import CameBack
from tests.bridges.plug_functions import FOLDER
from tests.bridges.replicas import Balanced, Replica, balanced
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, eventually, rig, until
from tests.support.left_out import FULL

pytestmark = pytest.mark.fault

THANKS = "Thank you."
WELCOME = "You are welcome."
ID = "call-1"
HALF, REST = "What is my", " balance?"
SLOW_SPEAKER_MS = 12_000
"""A turn is not over before so much silence, three seconds on this line: within it the process is killed."""
KEPT = re.compile(r'sessionmanager_bridge_checkpoints_total\{outcome="kept"\} ([0-9.]+)')


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


@asynccontextmanager
async def called(calls: Rig, folder: Path) -> AsyncGenerator[tuple[VaicCall, Balanced]]:
    """A call that the first of two processes has answered and greeted."""
    environ = {FOLDER: str(folder), "BRIDGE_CHECKPOINT_SECONDS": "0.1"}
    async with balanced(calls, 2, environ) as bridges, dial(bridges.url, VAIC, ID) as phone:
        assert await play(phone, Listen()) == [("bot", GREETING)]
        await calls.wait_said(ID, [("assistant", GREETING)])
        yield phone, bridges


async def kept(bridge: Replica) -> None:
    """Wait until the service has what the caller has said by now."""
    async with httpx2.AsyncClient() as http:

        async def count() -> float:
            page = (await http.get(f"http://127.0.0.1:{bridge.port}/metrics")).text
            return sum(float(value) for value in KEPT.findall(page))

        before = await count()
        await eventually(count, lambda now: now >= before + 2)


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


async def test_killed_while_the_user_speaks_the_next_model_hears_the_beginning_too(
    calls: Rig, tmp_path: Path, came_back: CameBack
) -> None:
    calls.model.behaviour = Behaviour(silence_ms=SLOW_SPEAKER_MS)
    async with called(calls, tmp_path) as (phone, bridges):
        await phone.say(HALF)
        await until(lambda: calls.model.connections[0].hears == HALF)
        await kept(bridges.replicas[0])
        bridges.replicas[0].kill()
        await came_back(phone)
        assert await play(phone, Say(REST), Listen(), HangUp()) == [("caller", REST), ("bot", ANSWER)]
        said = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)]
        await calls.wait_said(ID, said)
        heard = [(one.who, one.text) for one in calls.model.connections[-1].items.heard]
        assert heard == said, "one turn at the model, of both pieces"


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
