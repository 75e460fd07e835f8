"""A process that holds the floor is stopped past its lease and woken: nothing that it says with its old number lands.

Real processes, a real service: SIGSTOP is what a long pause of a garbage collector, a suspended machine or a debugger
looks like from outside. Whoever sleeps cannot know that its lease is over, so only the service can refuse it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionmanager.client import AsyncClient, AsyncFloor, AsyncSession
from sessionmanager.wire.answers import Entry
from tests.support.house import ROOT
from tests.support.process import INHERITED, serving
from tests.support.process import Process as Running

pytestmark = pytest.mark.fault

PATIENCE_SECONDS = 120.0
HOLD_SECONDS = 600.0
"""The next holder's lease: a slow machine must not end it while the old one is being woken."""
LOOK_SECONDS = 0.02


@asynccontextmanager
async def speaker(address: str, token: str, session: str, how: str) -> AsyncIterator[Process]:
    environ = {name: os.environ[name] for name in INHERITED if name in os.environ} | {"PYTHONPATH": str(ROOT)}
    program = (sys.executable, "-m", "tests.support.speaker", address, token, session, how)
    process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, env=environ, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def heard(process: Process, word: str) -> list[str]:
    """What it tells up to its first line that begins with `word`, that one included."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for raw in process.stdout:
            lines.append(raw.decode().strip())
            if lines[-1].split(" ")[0] == word:
                return lines
    raise AssertionError(f"it ended without {word!r}: {lines[-5:]}")


async def until_stopped(process: Process) -> None:
    """Until the kernel says that none of its threads runs."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return
            await asyncio.sleep(LOOK_SECONDS)


async def log_of(session: AsyncSession) -> list[Entry]:
    return [entry async for entry in session.history()]


async def speak_instead(floor: AsyncFloor) -> None:
    for n in range(3):
        await floor.say(f"the next one says {n}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("floor") / "data") as running:
        yield running


@pytest.mark.parametrize(
    ("how", "rule"), [("sdk", "required"), ("raw", "required"), ("raw", "optional"), ("half", "optional")]
)
async def test_a_holder_that_was_stopped_past_its_lease_says_nothing_more(
    how: str, rule: str, service: Running
) -> None:
    """Whether the session requires the floor or not: who sends a number is held to it."""
    async with AsyncClient(service.address, service.token) as client:
        session = client.session((await client.create(floor=rule)).id)
        async with speaker(service.address, service.token, session.id, how) as old:
            told = await heard(old, "said")
            if how != "half":  # that one stops itself, where it hurts most
                old.send_signal(signal.SIGSTOP)
            await until_stopped(old)
            async with (
                session.join(kind="agent", identity="next") as me,
                # In the queue it is given the floor when the lease is over, and by nothing that the old one does.
                me.floor(lease_seconds=HOLD_SECONDS, policy="queue", wait_seconds=PATIENCE_SECONDS) as new,
            ):
                await speak_instead(new)
                old.send_signal(signal.SIGCONT)
                told += await heard(old, "over")
                await speak_instead(new)
                log = await log_of(session)
    number = int(told[0].removeprefix("has "))
    given = next(line.seq for line in log if line.type == "participant" and gives(line) == new.number)
    assert new.number > number
    assert [line.id for line in log if line.floor == number and line.seq > given] == []
    acknowledged = {line.split(" ")[1] for line in told if line.startswith("said ")}
    assert acknowledged <= {line.id for line in log if line.floor == number}, "what was acknowledged is there"
    assert any(line.startswith("refused") for line in told), "it was told so"
    assert sum(line.floor == new.number for line in log) == 6


def gives(line: Entry) -> int | None:
    """The floor's number that a line says."""
    floor = line.data.get("floor")
    return None if floor is None or floor["holder"] is None else floor["number"]
