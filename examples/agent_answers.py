"""An agent that stays: it answers what users say in a running conversation, until that sleeps or ends.

SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… .venv/bin/python examples/agent_answers.py call-4711

Kill it at any moment and start it again: what is unanswered is in the session, and it comes back as who it was.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sessionmanager.client import AsyncClient, AsyncParticipant, Entry
from sessionmanager.errors import FloorLost, FloorTaken, NotFound


async def model(messages: Sequence[Mapping[str, Any]]) -> str:
    """What your model would answer; it gets what its API takes."""
    return f"I have read {len(messages)} messages, the last of them: {messages[-1]['content']}"


async def answer(me: AsyncParticipant, answered: int) -> int:
    """Answer what users have said after the entry `answered`. Gives the entry up to which all is answered."""
    window = await me.session.context(for_="openai")
    messages = window.messages or ()
    if window.included.to_seq > answered and messages and messages[-1]["role"] == "user":
        text = await model(messages)
        try:
            async with me.floor(policy="queue", wait_seconds=10) as floor:
                await floor.say(text)
                print(text, flush=True)
        except (FloorTaken, FloorLost):
            print("somebody else speaks", flush=True)  # a human, perhaps: what was to be said is not said any more
    return window.included.to_seq


async def stay(me: AsyncParticipant) -> None:
    answered = await answer(me, 0)
    # From where the window ends, so that nothing is missed between the two.
    async with me.session.events(after=answered) as feed:
        async for event in feed:
            match event:
                case Entry(type="message", role="user") if event.seq > answered:
                    answered = await answer(me, answered)
                case Entry(type="status", status="dormant" | "ended" | "error"):
                    return


async def main(url: str, token: str, session_id: str) -> None:
    async with (
        AsyncClient(url, token) as client,
        client.session(session_id).join(kind="agent", identity="answering-bot") as me,
    ):
        try:
            await stay(me)
        except NotFound:
            print("it takes part no longer", flush=True)  # the session ended meanwhile, or somebody took it out


asyncio.run(main(os.environ["SESSIONMANAGER_URL"], os.environ["SESSIONMANAGER_TOKEN"], sys.argv[1]))
