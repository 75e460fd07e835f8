"""Which session a room belongs to: written down before the room is opened, and asked when LiveKit names one.

What a room's name says is never believed: whoever holds the API key may open rooms of any name.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec import Struct

from sessionmanager.core.records import RecordForm
from sessionmanager.errors import RevConflict
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key

KIND: Final = "room"
KNOWN_MAX: Final = 10_000


class _Owner(Struct, frozen=True):
    tenant: str
    id: str


_form = RecordForm(_Owner, "the record of a room")


class RoomNames:
    """Records of warm, one a room that was ever opened; they go with their session's erasure."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._known: OrderedDict[str, None] = OrderedDict()

    async def find(self, name: str) -> Key | None:
        """The session of a room. Raises DataCorrupt, TierUnavailable. Cost: one warm read."""
        record = await self._warm.get_record(ALL_TENANTS, KIND, name)
        if record is None:
            return None
        owner = _form.read(record.data)
        return Key(owner.tenant, owner.id)

    async def remember(self, name: str, key: Key) -> None:
        """Cost: one warm read and write the first time, then none for a while."""
        if name in self._known:
            return
        if await self._warm.get_record(ALL_TENANTS, KIND, name) is None:
            try:
                owner = _form.encode(_Owner(key.tenant, key.id))
                await self._warm.put_record(ALL_TENANTS, KIND, name, owner, rev=0)
            except RevConflict:
                pass  # another replica has just written the same
        self._known[name] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def forget(self, name: str) -> None:
        """Its session is erased."""
        self._known.pop(name, None)
        record = await self._warm.get_record(ALL_TENANTS, KIND, name)
        if record is None:
            return
        try:
            await self._warm.put_record(ALL_TENANTS, KIND, name, None, rev=record.rev)
        except RevConflict:
            return
