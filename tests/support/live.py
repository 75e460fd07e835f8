"""The whole service under its real server, in this process: what needs sockets and a hand on the parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from sessionmanager.api.serving.protocol import ServerBounds
from sessionmanager.api.serving.server import make_server
from sessionmanager.wiring import Service, open_service
from tests.support.server import NO_TLS, SYSTEM, TENANT, quick_folder, settings_for


class Live:
    """A service that listens. http: a client of an admin."""

    def __init__(self, service: Service, address: str) -> None:
        self.service = service
        self.address = address
        self.http = httpx2.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {self.token()}"}, timeout=20.0, verify=NO_TLS
        )

    @property
    def socket_address(self) -> str:
        return self.address.replace("http", "ws", 1)

    def token(self, *roles: str, subject: str = "alice", ttl_seconds: float = 600, **given: Any) -> str:
        named = {"tenant": TENANT, **given}
        minted = self.service.tokens.mint(
            SYSTEM, subject=subject, roles=roles or ("admin",), ttl_seconds=ttl_seconds, **named
        )
        return minted.token

    async def create(self, session: str) -> None:
        made = await self.http.post("/sessions", json={"id": session})
        assert made.status_code == 201, made.text

    async def say(self, session: str, *texts: str) -> None:
        entries = [{"type": "message", "role": "user", "content": text} for text in texts]
        done = await self.http.post(f"/sessions/{session}/entries", json={"entries": entries})
        assert done.status_code == 201, done.text

    async def newest(self, session: str) -> int:
        return (await self.http.get(f"/sessions/{session}")).json()["entry_count"]


@asynccontextmanager
async def live(bounds: ServerBounds | None = None, **changes: str) -> AsyncGenerator[Live]:
    """A service of its own on a free port; leaving stops it as a signal would."""
    with quick_folder() as folder:
        async with open_service(settings_for(folder, **changes)) as service:
            listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            server = make_server(
                service.app,
                port=0,
                bounds=bounds,
                on_listening=lambda host, port: listening.set_result(f"http://{host}:{port}"),
                on_draining=service.api.feeds.drain,
                takes_signals=False,
            )
            serving = asyncio.create_task(server.serve())
            try:
                running = Live(service, await listening)
                async with running.http:
                    yield running
            finally:
                server.should_exit = True
                await serving
