"""The example, as its reader runs it: two processes, a real manager and the service, and what happens to either."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import pytest

from sessionmanager.client import AsyncClient, AsyncSession, message
from sessionmanager.wire.answers import Session
from tests.support.house import ROOT
from tests.support.process import INHERITED, Process, serving

pytestmark = pytest.mark.fault

EXAMPLE = ROOT / "examples" / "ping_pong_service.py"
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 30.0
"""After which a failed attempt to fill a seat is repeated."""
LOOK_SECONDS = 0.02
QUICK = {"SERVICE_HEARTBEAT_SECONDS": "0.5", "SERVICE_BEAT_SECONDS": "0.5"}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Process]:
    with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def client(manager: Process) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(manager.address, manager.token) as client:
        yield client


@contextmanager
def ping_pong(manager: Process, out: IO[bytes] | None = None, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """The example as a process of its own. out: where its log goes."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    told = {"SESSIONMANAGER_URL": manager.address, "SESSIONMANAGER_TOKEN": manager.token, **QUICK, **changes}
    command = [sys.executable, str(EXAMPLE)]
    with subprocess.Popen(command, env={**inherited, **told}, cwd=ROOT, stderr=out) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


async def until(look: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> None:
    """Until it is so; the other processes say it only when they are asked."""
    async with asyncio.timeout(seconds):
        while True:
            if await look():
                return
            await asyncio.sleep(LOOK_SECONDS)


async def until_status(client: AsyncClient, service: str, status: str | None) -> None:
    """Until the registry says so of a service; None = it knows it no more."""

    async def look() -> bool:
        items = (await client.call("GET", "/services")).json()["items"]
        return next((item["status"] for item in items if item["id"] == service), None) == status

    await until(look)


async def until_seated(session: AsyncSession, service: str, *, epoch: int = 0) -> Session:
    """Until this instance fills the session's seat. epoch: of its stay, 0 for the first; the version says nothing of
    that, since the session goes on while nobody has noticed yet that an instance died."""
    head = await session.get()

    async def look() -> bool:
        nonlocal head
        head = await session.get()
        stays = [one.epoch for one in head.participants if one.identity == service and one.status == "attached"]
        return head.ready_services == (service,) and stays == [epoch]

    await until(look)
    return head


async def seconds_empty(session: AsyncSession) -> float:
    """How long nobody had the seat, from the first loss to the next request to an instance; by the log's own clock."""
    lines = (await session.entries(type="service")).items
    lost = next(line for line in lines if line.data["event"] == "disconnected")
    asked = next(line for line in lines if line.data["event"] == "asked" and line.seq > lost.seq)
    return (datetime.fromisoformat(asked.at) - datetime.fromisoformat(lost.at)).total_seconds()


async def pong(session: AsyncSession) -> None:
    """Say ping, and wait for the answer."""
    sent = await session.append([message("user", "ping")])
    async with asyncio.timeout(PATIENCE_SECONDS), session.events(after=sent.seqs[0]) as feed:  # type: ignore[index]
        async for event in feed:
            if getattr(event, "content", None) == "pong":
                return


async def test_a_session_that_requires_it_is_ready_and_hears_pong(manager: Process, client: AsyncClient) -> None:
    with ping_pong(manager):
        await until_status(client, "ping-pong-1", "ready")
        session = client.session((await client.create(required_services=["ping-pong"])).id)
        head = await until_seated(session, "ping-pong-1")
        assert head.status in ("waiting_for_services", "ready")

        async def ready() -> bool:
            return (await session.get()).status == "ready"

        await until(ready)
        assert [(one.identity, one.kind, one.status) for one in head.participants] == [
            ("ping-pong-1", "service", "attached")
        ]
        for _ in range(3):
            await pong(session)


async def test_an_api_key_is_credential_enough(manager: Process, client: AsyncClient) -> None:
    made = (await client.call("POST", "/api-keys", body={"name": "ping-pong", "roles": ["service"]})).json()
    with ping_pong(manager, SESSIONMANAGER_TOKEN="", SESSIONMANAGER_API_KEY=made["key"]):
        await until_status(client, "ping-pong-1", "ready")
        session = client.session((await client.create(required_services=["ping-pong"])).id)
        await until_seated(session, "ping-pong-1")
        await pong(session)


async def test_a_stopped_service_hands_its_sessions_to_another_at_once(manager: Process, client: AsyncClient) -> None:
    """At once, and not after the 30 s in which a failed attempt is repeated."""
    with ping_pong(manager) as first:
        await until_status(client, "ping-pong-1", "ready")
        session = client.session((await client.create(required_services=["ping-pong"])).id)
        await until_seated(session, "ping-pong-1")
        with ping_pong(manager, SERVICE_ID="ping-pong-2"):
            await until_status(client, "ping-pong-2", "ready")
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait, PATIENCE_SECONDS) == 0
            await until_status(client, "ping-pong-1", None)
            await until_seated(session, "ping-pong-2")
            await pong(session)
        assert await seconds_empty(session) < RETRY_SECONDS


async def test_a_killed_service_that_comes_back_is_asked_in_again(manager: Process, client: AsyncClient) -> None:
    with ping_pong(manager) as first:
        await until_status(client, "ping-pong-1", "ready")
        session = client.session((await client.create(required_services=["ping-pong"])).id)
        await until_seated(session, "ping-pong-1")
        first.kill()
        first.wait(PATIENCE_SECONDS)
    with ping_pong(manager):
        await until_seated(session, "ping-pong-1", epoch=1)
        await pong(session)
        assert len((await session.get()).participants) == 1


async def test_it_goes_on_in_its_sessions_when_the_manager_was_killed_and_came_back(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder) as first:
        port = first.address.rpartition(":")[2]
        async with AsyncClient(first.address, first.token) as client:
            with ping_pong(first):
                await until_status(client, "ping-pong-1", "ready")
                session = client.session((await client.create(required_services=["ping-pong"])).id)
                await until_seated(session, "ping-pong-1")
                await pong(session)
                first.kill()
                with serving(folder, "--port", port) as second:
                    assert second.address == first.address
                    await until_status(client, "ping-pong-1", "ready")
                    await pong(session)


async def test_the_end_of_a_session_reaches_the_handler(manager: Process, client: AsyncClient, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("wb") as out, ping_pong(manager, out) as process:
        await until_status(client, "ping-pong-1", "ready")
        session = client.session((await client.create(required_services=["ping-pong"])).id)
        await until_seated(session, "ping-pong-1")
        await pong(session)
        await session.end("bye")

        async def told() -> bool:
            return re.search(r"1 pings, ended$", log.read_text(), re.MULTILINE) is not None

        await until(told)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 0
    assert manager.token not in log.read_text()
