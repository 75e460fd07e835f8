"""Cold as a dict, and its way over the network."""

from __future__ import annotations

from sessionmanager.errors import AlreadyExists, NotFound
from sessionmanager.tiers.cold.names import check_name, check_prefix
from sessionmanager.tiers.cold.protocol import Cold
from tests.support.sim.network import Link


class ModelCold:
    """The plainest cold tier: what the others are measured by."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put_once(self, name: str, data: bytes) -> None:
        check_name(name)
        if self.objects.setdefault(name, data) != data:
            raise AlreadyExists(f"{name} holds other bytes")

    async def get(self, name: str) -> bytes:
        check_name(name)
        if name not in self.objects:
            raise NotFound(f"there is no object {name}")
        return self.objects[name]

    async def list(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        return sorted(name for name in self.objects if name.startswith(prefix))

    async def remove(self, name: str) -> None:
        check_name(name)
        self.objects.pop(name, None)


class FarCold:
    """The same at the far end of a link."""

    def __init__(self, cold: Cold, link: Link) -> None:
        self._cold = cold
        self._link = link

    async def put_once(self, name: str, data: bytes) -> None:
        await self._link.write(f"put_once {name}", lambda: self._cold.put_once(name, data))

    async def get(self, name: str) -> bytes:
        return await self._link.read(f"get {name}", lambda: self._cold.get(name))

    async def list(self, prefix: str) -> list[str]:
        return await self._link.read("list", lambda: self._cold.list(prefix))

    async def remove(self, name: str) -> None:
        await self._link.write(f"remove {name}", lambda: self._cold.remove(name))
