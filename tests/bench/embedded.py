"""The service inside this process, as `serve` wires it, with what its cold tier is asked for counted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from sessionmanager.core.assembly import Core
from sessionmanager.core.command import Who
from sessionmanager.model.entry import Draft
from sessionmanager.running.garbage import seldom
from sessionmanager.settings import Settings
from sessionmanager.settings_loader import load_settings
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.wiring import open_service
from tests.bench.load import REPOSITORY
from tests.bench.servers import SECRET

TENANT: Final = "default"
WHO: Final = Who("bench", "bench-1")


class CountingCold:
    """A cold tier that counts what is read of it."""

    def __init__(self, cold: Cold) -> None:
        self._cold = cold
        self.objects = 0
        self.bytes = 0

    def reset(self) -> None:
        self.objects = self.bytes = 0

    async def get(self, name: str) -> bytes:
        data = await self._cold.get(name)
        self.objects += 1
        self.bytes += len(data)
        return data

    async def put_once(self, name: str, data: bytes) -> None:
        await self._cold.put_once(name, data)

    async def list(self, prefix: str) -> list[str]:
        return await self._cold.list(prefix)

    async def remove(self, name: str) -> None:
        await self._cold.remove(name)


class Opened(NamedTuple):
    core: Core
    cold: CountingCold


@contextmanager
def scratch() -> Generator[Path]:
    """A folder on the disk of the repository, where `make run` keeps its data, too; gone afterwards."""
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as folder:
        yield Path(folder)


def settings_of(folder: Path, **flags: Any) -> Settings:
    """The defaults, with the data in `folder`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONMANAGER_")}
    given = {"data_dir": str(folder), "log_level": "error", **flags}
    return load_settings(given, environ={**environ, "JWT_SECRET": SECRET})


@asynccontextmanager
async def opened(folder: Path, **flags: Any) -> AsyncGenerator[Opened]:
    """The core over guarded tiers, its worker running, the collector of cycles as it is in the serving process."""
    async with open_service(settings_of(folder, **flags)) as service:
        bodies = service.core.bodies
        bodies.cold = cold = CountingCold(bodies.cold)
        with seldom():
            yield Opened(service.core, cold)


def drafts_of(entries: list[dict[str, Any]]) -> list[Draft]:
    """Entries as the core takes them."""
    return [_draft(entry) for entry in entries]


def _draft(entry: dict[str, Any]) -> Draft:
    raw = {name: Raw(msgspec.json.encode(entry[name])) for name in ("content", "arguments", "output") if name in entry}
    return Draft(
        type=entry["type"],
        role=entry.get("role", UNSET),
        call_id=entry.get("call_id", UNSET),
        name=entry.get("name", UNSET),
        content=raw.get("content", UNSET),
        arguments=raw.get("arguments", UNSET),
        output=raw.get("output", UNSET),
    )
