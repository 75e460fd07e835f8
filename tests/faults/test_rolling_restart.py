"""Three replicas behind a balancer are restarted one after another under load: nobody who uses the client notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from sessionmanager.client import AsyncClient, message
from tests.services.processes import free_ports
from tests.support.balancer import Balancer
from tests.support.process import Process, serving
from tests.support.shared_tiers import SharedTiers, shared_tiers

pytestmark = pytest.mark.server

REPLICAS: Final = 3
WRITERS: Final = 6
SECONDS: Final = 420


@pytest.fixture
async def tiers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncGenerator[SharedTiers]:
    async with shared_tiers(monkeypatch, tmp_path) as tiers:
        yield tiers


class Fleet:
    """Replicas on ports that stay theirs."""

    def __init__(self, tiers: SharedTiers, folder: Path) -> None:
        self._tiers = tiers
        self._folder = folder
        self._ports = free_ports(REPLICAS)
        self._stacks = [ExitStack() for _ in self._ports]
        self._running: list[Process | None] = [None] * REPLICAS
        self.addresses = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.token = ""

    def start(self, n: int) -> None:
        place = self._folder / f"replica-{n}"
        process = self._stacks[n].enter_context(
            serving(place, "--port", str(self._ports[n]), outer=self._tiers.outer, **self._tiers.settings)
        )
        self._running[n] = process
        self.token = self.token or process.token

    def stop(self, n: int) -> int:
        """As Kubernetes does it: SIGTERM; the exit status."""
        process = self._running[n]
        assert process is not None
        status = process.stop()
        self._stacks[n].close()
        return status

    def close(self) -> None:
        for stack in self._stacks:
            stack.close()


class Writer:
    """Says one line after another to a session of its own until it is told to stop."""

    def __init__(self, client: AsyncClient, name: str, moved: asyncio.Condition) -> None:
        self._client = client
        self._moved = moved
        self._name = name
        self.said = 0

    async def run(self, stop: asyncio.Event) -> None:
        session = self._client.session((await self._client.create(id=self._name)).id)
        while not stop.is_set():
            await session.append([message("user", str(self.said))])
            self.said += 1
            async with self._moved:
                self._moved.notify_all()


async def follow(client: AsyncClient, name: str, heard: list[str], until: asyncio.Event) -> None:
    """Everything that is said, as the feed tells it."""
    async with client.session(name).events(after=0) as feed:
        async for event in feed:
            content = getattr(event, "content", None)
            if getattr(event, "type", "") == "message" and isinstance(content, str):
                if content == "the end":
                    return
                heard.append(content)
            if until.is_set():
                return


async def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_stream(
    tiers: SharedTiers, tmp_path: Path
) -> None:
    fleet = Fleet(tiers, tmp_path)
    try:
        await asyncio.gather(*(asyncio.to_thread(fleet.start, n) for n in range(REPLICAS)))
        async with (
            asyncio.timeout(SECONDS),
            Balancer(fleet.addresses).balancing() as balancer,
            AsyncClient(balancer.address, fleet.token) as client,
        ):
            await roll(fleet, balancer, client)
    finally:
        fleet.close()


async def roll(fleet: Fleet, balancer: Balancer, client: AsyncClient) -> None:
    stop, cut = asyncio.Event(), asyncio.Event()
    moved = asyncio.Condition()
    writers = [Writer(client, f"rolling-{n}", moved) for n in range(WRITERS)]

    async def until_all_said(more: list[int]) -> None:
        async with moved:
            await moved.wait_for(lambda: all(w.said > least for w, least in zip(writers, more, strict=True)))

    heard: list[list[str]] = [[] for _ in writers]
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(writer.run(stop)) for writer in writers]
        await until_all_said([0] * WRITERS)
        for n in range(WRITERS):
            group.create_task(follow(client, f"rolling-{n}", heard[n], cut))
        for n in range(REPLICAS):
            assert await asyncio.to_thread(fleet.stop, n) == 0
            await balancer.until_away(fleet.addresses[n])
            await until_all_said([writer.said + 2 for writer in writers])
            await asyncio.to_thread(fleet.start, n)
            await balancer.until_ready(fleet.addresses[n])
            await until_all_said([writer.said + 2 for writer in writers])
        stop.set()
        await asyncio.gather(*writing)
        for n in range(WRITERS):
            await client.session(f"rolling-{n}").append([message("user", "the end")])
    for writer, lines in zip(writers, heard, strict=True):
        assert lines == [str(n) for n in range(writer.said)]
