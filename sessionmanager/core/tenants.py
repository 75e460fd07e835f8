"""Settings of a tenant: one small record each, remembered for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from sessionmanager.errors import Contended, DataCorrupt, RevConflict
from sessionmanager.tiers.warm.protocol import WarmRecords

KIND: Final = "settings"
REMEMBERED_SECONDS: Final = 10.0
TENANTS_MAX: Final = 10_000
TRIES: Final = 5


class TenantSettings(Struct, frozen=True, kw_only=True):
    """What a tenant may choose; None = the service's own. max_age_seconds: how old a session may be to be resumed."""

    max_age_seconds: float | None = None


_decoder = msgspec.json.Decoder(TenantSettings)
_encode = msgspec.json.Encoder().encode
_DEFAULT: Final = TenantSettings()


class Tenants:
    """Reads and writes settings. Other replicas see a change within REMEMBERED_SECONDS."""

    def __init__(self, records: WarmRecords, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock
        self._known: dict[str, tuple[float, TenantSettings]] = {}

    async def settings(self, tenant: str) -> TenantSettings:
        """The settings, defaults where none were put. Raises TierUnavailable. Cost: one warm read each 10 seconds."""
        known = self._known.get(tenant)
        if known is not None and self._clock() - known[0] < REMEMBERED_SECONDS:
            return known[1]
        record = await self._records.get_record(tenant, KIND, KIND)
        return self._remember(tenant, _read(record.data) if record is not None else _DEFAULT)

    async def put(self, tenant: str, settings: TenantSettings) -> TenantSettings:
        """Replace the settings. Raises Contended, TierUnavailable, OutcomeUnknown."""
        for _ in range(TRIES):
            record = await self._records.get_record(tenant, KIND, KIND)
            try:
                rev = record.rev if record is not None else 0
                await self._records.put_record(tenant, KIND, KIND, _encode(settings), rev=rev)
            except RevConflict:
                continue
            return self._remember(tenant, settings)
        raise Contended

    def _remember(self, tenant: str, settings: TenantSettings) -> TenantSettings:
        self._known[tenant] = (self._clock(), settings)
        if len(self._known) > TENANTS_MAX:
            del self._known[next(iter(self._known))]
        return settings


def _read(data: bytes) -> TenantSettings:
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("stored settings do not read as such") from error
