"""The robot-session flow against a real LiveKit: two services and a client meet in the room with the tokens that they
were given, and the end of the session ends it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.house import ROOT
from tests.support.live import Live
from tests.support.process import INHERITED
from tests.support.rooms import Joiner, LiveKitAddress, Relay, Session, joined, livekit_address, roomy, until
from tests.support.services import owned

pytestmark = pytest.mark.server

EXAMPLE = ROOT / "examples" / "ping_pong_room.py"
QUICK = {"SERVICE_HEARTBEAT_SECONDS": "0.5", "SERVICE_BEAT_SECONDS": "0.5"}


@pytest.fixture
async def livekit(tmp_path: Path) -> AsyncIterator[LiveKitAddress]:
    async with owned("livekit", tmp_path) as server:
        yield livekit_address(server.url)


@pytest.fixture
async def service(livekit: LiveKitAddress) -> AsyncIterator[tuple[Live, Relay | None]]:
    async with roomy(livekit, webhooks=True) as running:
        yield running


@contextmanager
def example(service: Live, name: str) -> Iterator[None]:
    """One instance of the example, as a process of its own."""
    inherited = {one: os.environ[one] for one in INHERITED if one in os.environ}
    told = {
        "SESSIONMANAGER_URL": service.address,
        "SESSIONMANAGER_TOKEN": service.token(subject=name),
        "SERVICE_ID": f"{name}-1",
        "SERVICE_TYPE": name,
        **QUICK,
    }
    with subprocess.Popen([sys.executable, str(EXAMPLE)], env={**inherited, **told}, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


async def until_registered(service: Live, *names: str) -> None:
    async def look() -> bool:
        items = (await service.http.get("/services")).json()["items"]
        return {one["type"] for one in items if one["status"] == "ready"} == set(names)

    await until(look, f"services {names}")


async def test_services_and_a_client_meet_in_the_room_and_leave_with_its_end(
    service: tuple[Live, Relay | None],
) -> None:
    manager, relay = service
    with ExitStack() as running:
        for name in ("ping", "pong"):
            running.enter_context(example(manager, name))
        await until_registered(manager, "ping", "pong")
        made = await manager.http.post(
            "/api/v1/create-session", json={"required_services": ["ping", "pong"], "user_identity": "anna"}
        )
        assert made.status_code == 200, made.text
        told = made.json()
        session = Session(manager, told["session_id"])
        await session.until_session("ready")
        await session.until_in("ping-1", "pong-1")
        access = {"url": told["livekit_url"], "token": told["access_token"]}
        async with joined(access) as anna:
            assert anna.room.name == told["room_name"]
            await session.until_session("active")
            await session.until_in("ping-1", "pong-1", "anna")
            await _both_answer(anna)
            # Whoever ends the session ends the room: everybody is disconnected by LiveKit.
            await session.post("/end", {"reason": "done"})
            await until(_gone(anna), "the end of the room")
        await session.until_open("idle")
        assert relay is not None
        assert relay.came > 0
        names = [(one["data"]["event"], one["data"].get("reason")) for one in await session.entries("room")]
        assert names[0] == ("room_state_change", "asked")
        assert names[-1] == ("room_state_change", "closed")
        joins = [
            one["data"]["participant"]["identity"]
            for one in await session.entries("participant")
            if one["data"]["event"] == "joined"
        ]
        assert sorted(joins) == ["anna", "ping-1", "pong-1"]


async def _both_answer(anna: Joiner) -> None:
    """Packets may be sent before the others' channels are open: asked again until both have answered."""

    async def look() -> bool:
        await anna.say("ping")
        await asyncio.sleep(0)
        return sum(topic == "pong" for topic, _ in anna.heard) >= 2

    await until(look, "two pongs")


def _gone(joiner: Joiner) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not joiner.room.isconnected()

    return look
