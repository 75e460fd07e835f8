"""Reads the conversations of a run back when the load is over, by the client of the service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sessionmanager.client import AsyncClient
from sessionmanager.errors import SessionManagerError
from sessionmanager.loadtest.kept import Kept, Talk

READERS: Final = 16
SESSIONS_MAX: Final = 10_000
"""Of more sessions so many are read back, chosen by chance."""
PAGE: Final = 200


async def read_back(addresses: Sequence[str], token: str, talks: Sequence[Talk]) -> Kept:
    """Compare what was said with what there is, by all replicas in turns. Cost: a request for each 200 messages."""
    chosen = random.sample(talks, min(len(talks), SESSIONS_MAX))
    kept = Kept()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(address, token)) for address in addresses]
        waiting = iter(enumerate(chosen))

        async def reader() -> None:
            for n, talk in waiting:
                try:
                    messages = clients[n % len(clients)].history(talk.session, type="message", limit=PAGE)
                    kept.look(talk, [entry.id async for entry in messages])
                except SessionManagerError as error:
                    kept.unread.append(f"{talk.session} {error.type}")

        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(reader())
    return kept
