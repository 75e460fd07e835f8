"""The master key is replaced beside two replicas that serve: nobody waits, and at the end the old key opens nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from sessionmanager.cli.output import OK
from sessionmanager.core.keys.master import MasterKey
from tests.support.forge import claims, hs, token
from tests.support.process import Process, serving
from tests.support.server import NO_TLS
from tests.support.shared_tiers import JWT_SECRET, SharedTiers, shared_tiers

pytestmark = pytest.mark.server

NEW: Final = bytes(range(1, 33))
TENANT: Final = "acme"
AUDIO: Final = b"\0\1" * 40
SECONDS: Final = 240.0


@pytest.fixture
async def tiers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncGenerator[SharedTiers]:
    async with shared_tiers(monkeypatch, tmp_path) as tiers:
        yield tiers


class Replica:
    """One `serve` process after another; each requests in the name of an admin of any tenant."""

    def __init__(self, tiers: SharedTiers, folder: Path, name: str) -> None:
        self.tiers = tiers
        self.log = folder / f"{name}.log"
        self._folder = folder / name
        self._stack = ExitStack()
        self._process: Process | None = None

    async def start(self) -> None:
        running = serving(self._folder, outer=self.tiers.outer, **self.tiers.settings)
        self._process = await asyncio.to_thread(self._stack.enter_context, running)

    async def restart(self) -> None:
        assert self._process is not None
        assert await asyncio.to_thread(self._process.stop) == 0
        self.close()
        await self.start()

    def close(self) -> None:
        self._stack.close()

    async def ask(self, method: str, path: str, tenant: str = TENANT, **more: Any) -> httpx2.Response:
        assert self._process is not None
        now = int(time.time())
        named = claims(tenant=tenant, roles=["admin"], iat=now - 5, exp=now + 600, iss=..., aud=...)
        given = more.pop("headers", {})
        if "X-Api-Key" not in given:
            given = given | {"authorization": f"Bearer {token(named, sign=hs(JWT_SECRET.encode()))}"}
        address = self._process.address
        async with httpx2.AsyncClient(base_url=address, timeout=30.0, trust_env=False, verify=NO_TLS) as http:
            answer = await http.request(method, path, headers=given, **more)
        assert answer.status_code < 300, answer.text
        return answer


@asynccontextmanager
async def two_replicas(tiers: SharedTiers, folder: Path) -> AsyncGenerator[list[Replica]]:
    async with AsyncExitStack() as stack:
        replicas = [Replica(tiers, folder, name) for name in ("one", "two")]
        for replica in replicas:
            stack.callback(replica.close)
            await replica.start()
        yield replicas


def give(tiers: SharedTiers, *keys: bytes) -> None:
    """What the secret holds from now on; no process reads it again before it is restarted."""
    Path(tiers.settings["master_key_file"]).write_text("".join(f"{key.hex()}\n" for key in keys))


async def command(tiers: SharedTiers, name: str) -> list[dict[str, Any]]:
    """The lines of a command that runs with the settings of the replicas."""
    settings = {f"SESSIONMANAGER_{key.upper()}": value for key, value in tiers.settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionmanager", name, "--json",
        env=os.environ | settings | tiers.outer, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == OK, err
    return [json.loads(line) for line in out.splitlines()]


async def live(replicas: list[Replica], stop: asyncio.Event, said: list[str]) -> None:
    """A session of a new tenant, with bytes in cold, one after the other, at each replica in turn."""
    for number, replica in zip(itertools.count(), itertools.cycle(replicas)):
        if stop.is_set():
            return
        tenant = f"t{number}"
        await replica.ask("POST", "/sessions", tenant, json={"id": "s"})
        await replica.ask("PUT", "/sessions/s/attachments/audio", tenant, content=AUDIO)
        said.append(tenant)


async def test_the_steps_of_the_how_to_page_cost_no_request_and_what_callers_hold_stays_good(
    tiers: SharedTiers, tmp_path: Path
) -> None:
    old = bytes.fromhex(Path(tiers.settings["master_key_file"]).read_text())
    repeated: dict[str, Any] = {"json": {}, "headers": {"Idempotency-Key": "once"}}
    async with asyncio.timeout(SECONDS), two_replicas(tiers, tmp_path) as replicas:
        one, two = replicas
        session = (await one.ask("POST", "/sessions", **repeated)).json()["id"]
        await one.ask("PUT", f"/sessions/{session}/attachments/audio", content=AUDIO)
        await one.ask("POST", "/sessions", json={})
        cursor = (await one.ask("GET", "/sessions?limit=1")).json()["next_cursor"]
        key = (await one.ask("POST", "/api-keys", json={"name": "k", "roles": ["viewer"]})).json()["key"]

        give(tiers, NEW, old)
        for replica in replicas:
            await replica.restart()
            for each in replicas:
                assert (await each.ask("GET", f"/sessions/{session}/attachments/audio")).content == AUDIO
        stop, tenants = asyncio.Event(), list[str]()
        living = asyncio.create_task(live(replicas, stop, tenants))
        told = (await command(tiers, "rewrap"))[-1]
        stop.set()
        await living
        assert tenants, "the service was used meanwhile"
        assert told["nothing_hangs_on"] == [MasterKey(old).id]
        [found] = [line for line in await command(tiers, "doctor") if line["check"] == "master key"]
        assert f"nothing hangs on {MasterKey(old).id}" in found["detail"]

        give(tiers, NEW)
        for replica in replicas:
            await replica.restart()
            for tenant in tenants:
                assert (await replica.ask("GET", "/sessions/s/attachments/audio", tenant)).content == AUDIO
            assert (await replica.ask("GET", f"/sessions/{session}/attachments/audio")).content == AUDIO
        assert (await two.ask("POST", "/sessions", **repeated)).json()["id"] == session
        assert (await two.ask("GET", "/sessions", params={"limit": 1, "cursor": cursor})).json()["items"]
        assert (await two.ask("GET", f"/sessions/{session}", headers={"X-Api-Key": key})).json()
        assert not [line for each in replicas for line in each.log.read_text().splitlines() if "value_refused" in line]
