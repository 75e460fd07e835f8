"""`examples/custom_bridge.py`, run as a user would run it: killed, started again, and beside a service that went
away."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.client.proxy import proxy
from tests.support.house import ROOT
from tests.support.live import Live, live

pytestmark = pytest.mark.fault

PATIENCE_SECONDS = 60.0
GREETING = "Good day. What can I do for you?"


class Running:
    """The example as a process. Lines go in, lines come out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await self.process.stdout.readline()).decode().strip()

    async def asked(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await self.says()

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await self.process.wait() == 0


@asynccontextmanager
async def running(service: Live, address: str, outbox: Path) -> AsyncGenerator[Running]:
    environ = {
        **os.environ,
        "SESSIONMANAGER_URL": address,
        "SESSIONMANAGER_TOKEN": service.token("bridge"),
        "OUTBOX": str(outbox),
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples/custom_bridge.py"),
        "call-4711",
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(service: Live, count: int) -> list[str]:
    """What was said, once there is so much of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            items = (await service.http.get("/sessions/call-4711/entries")).json()["items"]
            said = [item["content"] for item in items if item["type"] == "message"]
            if len(said) >= count:
                return said
            await asyncio.sleep(0.05)


async def test_a_bridge_in_fifty_lines_is_killed_and_goes_on_and_its_outbox_is_sent(tmp_path: Path) -> None:
    async with live() as service, proxy(random.Random(1)) as line:
        line.upstream = service.address
        outbox = tmp_path / "outbox"
        async with running(service, line.address, outbox) as first:
            assert await first.says() == GREETING
            assert await first.asked("one") == "You have said 1 things, the last of them: one"
            await told(service, 3)
            line.upstream = None
            await line.close()
            assert await first.asked("two") == "You have said 2 things, the last of them: two"
            await first.kill()
        assert len(await told(service, 3)) == 3
        line.upstream = service.address
        async with running(service, line.address, outbox) as second:
            # What the first one had said while the service was away comes first.
            assert len(await told(service, 5)) == 5
            assert "three" in await second.asked("three")
            await second.leave()
        said = await told(service, 7)
        assert said[0] == GREETING
        assert said.count(GREETING) == 1
        assert [line for line in said if " " not in line] == ["one", "two", "three"]
        session = (await service.http.get("/sessions/call-4711")).json()
        assert [person["identity"] for person in session["participants"]] == ["custom-bridge"]


def test_the_example_is_as_short_as_it_is_said_to_be() -> None:
    text = (ROOT / "examples/custom_bridge.py").read_text()
    code = text.split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 50
