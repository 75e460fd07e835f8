"""Bridges that are real processes, and what stands before them as a load balancer does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, NamedTuple

from tests.bridges.carriers import TOKEN
from tests.bridges.rig import Rig
from tests.support.balancer import Balancer
from tests.support.house import ROOT

START_SECONDS: Final = 60
INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PATCH")


class Replica:
    """One bridge process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()


@asynccontextmanager
async def replica(calls: Rig, environ: Mapping[str, str]) -> AsyncGenerator[Replica]:
    """`sessionmanager bridge audiocodes` as a process of its own."""
    command = ["-m", "sessionmanager", "bridge", "audiocodes", "--upstream", calls.model.url, "--port", "0", "--json"]
    command += ["--url", calls.service.address, "--functions", "tests.bridges.plug_functions:functions"]
    whole = {name: os.environ[name] for name in INHERITED if name in os.environ}
    whole |= {"SESSIONMANAGER_TOKEN": calls.service.token("bridge", subject="the-bridge", ttl_seconds=3600)}
    whole |= {"AUDIOCODES_TOKEN": TOKEN, **environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=whole, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            told = json.loads(await process.stdout.readline())
        yield Replica(process, int(told["address"].rpartition(":")[2].partition("/")[0]))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Balanced(NamedTuple):
    """Bridges behind one address."""

    balancer: Balancer
    replicas: list[Replica]

    @property
    def url(self) -> str:
        return f"{self.balancer.address.replace('http', 'ws')}/audiocodes"


@asynccontextmanager
async def balanced(calls: Rig, count: int, environ: Mapping[str, str]) -> AsyncGenerator[Balanced]:
    """So many replicas behind one address: calls go to the first that answers."""
    async with AsyncExitStack() as stack:
        replicas = await asyncio.gather(*(stack.enter_async_context(replica(calls, environ)) for _ in range(count)))
        addresses = [f"http://127.0.0.1:{one.port}" for one in replicas]
        balancer = await stack.enter_async_context(Balancer(addresses, probes=False).balancing())
        yield Balanced(balancer, replicas)
