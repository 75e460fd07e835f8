"""`examples/agent_answers.py`, run as a user would run it: killed in mid-conversation and started again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from sessionmanager.client import AsyncClient, AsyncSession, message
from tests.support.house import ROOT
from tests.support.live import Live, live

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def running(service: Live, session: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    env = {
        "PATH": os.environ["PATH"],
        "SESSIONMANAGER_URL": service.address,
        "SESSIONMANAGER_TOKEN": service.token("agent"),
    }
    command = [sys.executable, str(ROOT / "examples/agent_answers.py"), session]
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.DEVNULL, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said(session: AsyncSession, count: int) -> list[str]:
    """What was said, once it is so much."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = [str(entry.content) async for entry in session.history(type="message")]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_the_agent_answers_everything_once_through_a_kill_until_the_session_ends() -> None:
    async with live() as service, AsyncClient(service.address, service.token()) as client:
        session = client.session((await client.create(entries=[message("user", "one")])).id)
        async with running(service, session.id):
            assert await said(session, 2) == ["one", "I have read 1 messages, the last of them: one"]
            await session.append([message("user", "two")])
            assert (await said(session, 4))[-1] == "I have read 3 messages, the last of them: two"
        await session.append([message("user", "three"), message("user", "four")])
        async with running(service, session.id) as again:
            assert (await said(session, 7))[-1] == "I have read 6 messages, the last of them: four"
            everybody = await session.participants()
            assert [(one.identity, one.status) for one in everybody] == [("answering-bot", "attached")]
            await session.end("done")
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await again.wait() == 0
        assert len(await said(session, 7)) == 7
