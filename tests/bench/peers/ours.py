"""The same work here: at the core within the process, and over HTTP against a process of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sessionmanager.client import AsyncClient, message
from sessionmanager.core.command import Who
from sessionmanager.model.entry import Draft
from sessionmanager.settings_loader import load_settings
from sessionmanager.wiring import open_service
from tests.bench.peers.measure import ASSISTANT, KEPT, USER
from tests.support.process import serving

TURNS_A_BATCH = 100


class Core:
    """The embedded tiers, without HTTP: what a library would be."""

    async def open(self, folder: Path) -> None:
        self._stack = AsyncExitStack()
        settings = load_settings({"data_dir": str(folder), "log_level": "error"}, environ={})
        service = await self._stack.enter_async_context(open_service(settings))
        self._sessions = service.core.sessions
        self._who = Who("bench", "bench")
        self._key, _ = await self._sessions.create("default", "peer", {}, [], self._who)

    async def fill(self, turns: int) -> None:
        for begun in range(0, turns, TURNS_A_BATCH):
            await self._append(min(TURNS_A_BATCH, turns - begun))

    async def append(self) -> None:
        await self._append(1)

    async def _append(self, turns: int) -> None:
        await self._sessions.append(self._key, _drafts() * turns, self._who)

    async def resume(self) -> int:
        view = await self._sessions.view(self._key, lines=KEPT, min_version=0, latest=True)
        return len(view.lines)

    async def close(self) -> None:
        await self._stack.aclose()


def _drafts() -> list[Draft]:
    from msgspec import Raw
    from msgspec.json import encode

    return [
        Draft(type="message", role=role, content=Raw(encode(text)))
        for role, text in (("user", USER), ("assistant", ASSISTANT))
    ]


class Http:
    """A service in a process of its own, by its own client."""

    async def open(self, folder: Path) -> None:
        self._stack = AsyncExitStack()
        service = self._stack.enter_context(serving(folder / "data"))
        client = await self._stack.enter_async_context(AsyncClient(service.address, service.token))
        await client.create(id="peer")
        self._session = client.session("peer")

    async def fill(self, turns: int) -> None:
        for begun in range(0, turns, TURNS_A_BATCH):
            await self._session.append(_messages() * min(TURNS_A_BATCH, turns - begun))

    async def append(self) -> None:
        await self._session.append(_messages())

    async def resume(self) -> int:
        return len((await self._session.resume(entries=KEPT)).entries)

    async def close(self) -> None:
        await self._stack.aclose()


def _messages() -> list[Any]:
    return [message("user", USER), message("assistant", ASSISTANT)]
