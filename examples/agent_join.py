"""An agent joins a running conversation, catches up, takes the floor, speaks and leaves.

SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… .venv/bin/python examples/agent_join.py call-4711
"""

import asyncio
import os
import sys

from sessionmanager.client import AsyncClient


async def main(url: str, token: str, session_id: str) -> None:
    async with (
        AsyncClient(url, token) as client,
        client.session(session_id).join(kind="agent", identity="support-bot") as me,
    ):
        # A window that the model's API accepts, whatever happened before: it is what the agent has to catch up with.
        window = await me.session.context(for_="openai")
        print(f"{me.id} joined at version {window.version} and read {len(window.messages or ())} messages")
        # Whoever speaks now is waited for; what is said with an old number is never taken.
        async with me.floor(policy="queue", wait_seconds=30) as floor:
            said = await floor.say("Yes, in two parts. Shall I set that up?")
        print(f"spoke with floor {floor.number}; the session is at version {said.version}")


asyncio.run(main(os.environ["SESSIONMANAGER_URL"], os.environ["SESSIONMANAGER_TOKEN"], sys.argv[1]))
