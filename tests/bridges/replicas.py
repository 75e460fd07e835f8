"""Bridges that are real processes, and what stands before them as a load balancer does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from tests.bridges.carriers import TOKEN
from tests.bridges.rig import Rig
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


class Balancer:
    """Connects to the first replica that answers. port: where it listens."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []
        self.accepted = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/audiocodes"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            for one in self.replicas:
                with suppress(OSError):
                    there = await asyncio.open_connection("127.0.0.1", one.port)
                    await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
                    return
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        # A killed process is seen by the carrier at once, as its machine's kernel would tell it.
        writer.transport.abort()


@asynccontextmanager
async def balanced(calls: Rig, count: int, environ: Mapping[str, str]) -> AsyncGenerator[Balancer]:
    """So many replicas behind one address."""
    balancer = Balancer()
    server = await asyncio.start_server(balancer.handle, "127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        stack.callback(server.close)
        balancer.port = server.sockets[0].getsockname()[1]
        balancer.replicas = list(
            await asyncio.gather(*(stack.enter_async_context(replica(calls, environ)) for _ in range(count)))
        )
        yield balancer
