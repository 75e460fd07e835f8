"""A bridge of your own: a conversation over stdin and stdout that outlives this process.

SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… .venv/bin/python examples/custom_bridge.py call-4711

Kill it at any moment and start it again: it goes on where it was, greets nobody twice, and what it had said while the
service was away is in the session, once. The token needs the role `bridge`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence

from sessionmanager.client import AsyncClient, message
from sessionmanager.errors import AlreadyExists


async def lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


def answer(said: Sequence[str]) -> str:
    """The bot, in place of a model: everything it knows comes from the session."""
    return f"You have said {len(said)} things, the last of them: {said[-1]}"


async def main(url: str, token: str, conversation: str, outbox: str) -> None:
    async with AsyncClient(url, token) as client, client.outbox(outbox) as kept:
        try:
            await client.create(id=conversation, type="text", bridge_type="custom")
        except AlreadyExists:
            await client.resume(conversation, replay="none")
        session = client.session(conversation)
        # Heartbeats go out until the end; `leave=False`: whoever comes back is the participant who was there before.
        async with session.join(kind="bridge", identity="custom-bridge", leave=False):
            window = await session.context(for_="openai")
            said = [one["content"] for one in window.messages or () if one["role"] == "user"]

            async def say(text: str) -> None:
                # Kept first: whatever was heard is in the session, wherever this process is killed.
                await kept.append(conversation, [message("assistant", text)])
                print(text, flush=True)

            if not window.messages:
                await say("Good day. What can I do for you?")
            async for line in lines():
                said.append(line)
                await kept.append(conversation, [message("user", line)])
                await say(answer(said))


if __name__ == "__main__":
    where = os.environ
    file = where.get("OUTBOX", "custom-bridge.outbox")
    asyncio.run(main(where["SESSIONMANAGER_URL"], where["SESSIONMANAGER_TOKEN"], sys.argv[1], file))
