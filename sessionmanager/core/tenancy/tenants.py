"""Settings of tenants: what a tenant may choose for itself, small records that every process holds in memory.

Timers, resumes and creates ask without a wait. Another replica's change is seen within REFRESH_SECONDS.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Final, Literal

import structlog
from msgspec import Struct

from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.errors import Contended, DataCorrupt, RevConflict, SessionManagerError
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.model.timers import Policy
from sessionmanager.tiers.warm.protocol import Record, WarmRecords
from sessionmanager.waits.pause import pause
from sessionmanager.words import Instant

KIND: Final = "tenant-settings"
REFRESH_SECONDS: Final = 10.0
REFRESH_DEADLINE_SECONDS: Final = 8.0
TRIES: Final = 5

log = structlog.get_logger()


class Quotas(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of one tenant; None = the service's own, which may be none."""

    sessions: int | None = None
    requests_per_second: float | None = None


class ResumeWithin(Struct, frozen=True, kw_only=True):
    """A later call goes on with a session of the same party that was active within so many seconds."""

    resume_within: float


ResumePolicy = Literal["new", "always"] | ResumeWithin


class TenantSettings(Struct, frozen=True, kw_only=True):
    """What a tenant may choose; None = the service's own.

    resume_policy: whether a later call of the same party goes on with its session. max_age_seconds: how old a session
    may be to be resumed. archive_after_days: quiet for so long, its body moves to cold. retention_days: ended for so
    long, it is erased.
    """

    resume_policy: ResumePolicy | None = None
    max_age_seconds: float | None = None
    archive_after_days: float | None = None
    retention_days: float | None = None
    quotas: Quotas = Quotas()


class _Kept(Struct, frozen=True, kw_only=True):
    """What a record holds. put_at: when the request came that put it, by which a late repeat knows that it is old."""

    tenant: str
    settings: TenantSettings
    put_at: Instant


_OLD_POLICY: Final = re.compile(rb'"resume_policy":"resume_(?:open|last)"')
"""Words of the policy before calls were there to read it; a record may still have them."""
_form = RecordForm(_Kept, "the record of a tenant's settings")
NONE: Final = TenantSettings()


class Tenants:
    """All tenants that have settings of their own, in memory (under 1 KiB each), read from one list in warm.

    base: the service's policy. defaults: the service's values of everything else.
    """

    def __init__(self, records: WarmRecords, base: Policy, defaults: TenantSettings = NONE) -> None:
        self._records = records
        self._base = base
        self.defaults = defaults
        self._known: dict[str, _Kept] = {}
        self._policies: dict[str, Policy] = {}

    # -- asked in passing: no call

    def own(self, tenant: str) -> TenantSettings:
        """What the tenant has chosen, as far as this process knows."""
        kept = self._known.get(tenant)
        return kept.settings if kept is not None else NONE

    def policy(self, tenant: str) -> Policy:
        """What timers go by: the service's policy with the tenant's own values in it."""
        return self._policies.get(tenant, self._base)

    def policies(self) -> Iterator[tuple[str, Policy]]:
        """The tenants whose timers are not the service's."""
        yield from list(self._policies.items())

    def max_age_seconds(self, tenant: str) -> float | None:
        """How old a session may be to be resumed, where the caller does not say; None = for ever."""
        return self.own(tenant).max_age_seconds or self.defaults.max_age_seconds

    def resume_policy(self, tenant: str) -> Literal["new", "always"] | float:
        """Whether a later call of the same party goes on with its session: `new` = never, `always`, or so many seconds
        after it was active last."""
        policy = self.own(tenant).resume_policy or self.defaults.resume_policy or "new"
        return policy.resume_within if isinstance(policy, ResumeWithin) else policy

    def quotas(self, tenant: str) -> Quotas:
        """The bounds that hold for the tenant."""
        kept, ours = self._known.get(tenant), self.defaults.quotas
        if kept is None:
            return ours
        own = kept.settings.quotas
        rate = own.requests_per_second
        return Quotas(
            sessions=ours.sessions if own.sessions is None else own.sessions,
            requests_per_second=ours.requests_per_second if rate is None else rate,
        )

    # -- read and written

    async def settings(self, tenant: str) -> TenantSettings:
        """The newest settings, defaults where none were put. Raises TierUnavailable. Cost: one warm read."""
        record = await self._records.get_record(ALL_TENANTS, KIND, tenant)
        if record is None:
            self._forget(tenant)
            return NONE
        return self._remember(_read(record)).settings

    async def put(self, tenant: str, settings: TenantSettings, begun: Begun) -> TenantSettings:
        """Replace the settings; a repeat of a request that others came after changes nothing.

        Raises Contended, TierUnavailable, OutcomeUnknown. Cost: one read and one write of warm.
        """
        for _ in range(TRIES):
            record = await self._records.get_record(ALL_TENANTS, KIND, tenant)
            before = _read(record) if record is not None else None
            if before is not None and begun.replayed and before.put_at >= begun.at:
                self._remember(before)
                return settings
            put_at = begun.at if before is None else max(begun.at, before.put_at)
            kept = _Kept(tenant=tenant, settings=settings, put_at=put_at)
            try:
                rev = record.rev if record is not None else 0
                await self._records.put_record(ALL_TENANTS, KIND, tenant, _form.encode(kept), rev=rev)
            except RevConflict:
                continue
            return self._remember(kept).settings
        raise Contended

    async def refresh(self) -> None:
        """Read all settings anew. Raises TierUnavailable and changes nothing. Cost: one read for 200 tenants."""
        read: dict[str, _Kept] = {}
        async for record in every_record(self._records, ALL_TENANTS, KIND):
            try:
                kept = _read(record)
            except DataCorrupt:
                # One broken record must not take the settings of all other tenants from this replica.
                log.error("tenants.unreadable")
                continue
            mine = self._known.get(kept.tenant)  # put here while the pages were read
            read[kept.tenant] = mine if mine is not None and mine.put_at > kept.put_at else kept
        self._known, self._policies = {}, {}
        for kept in read.values():
            self._remember(kept)

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh until `stop` is set; while warm is down the last view goes on."""
        while not stop.is_set():
            await pause(stop, REFRESH_SECONDS)
            if stop.is_set():
                return
            try:
                async with asyncio.timeout(REFRESH_DEADLINE_SECONDS):
                    await self.refresh()
            except (SessionManagerError, TimeoutError):
                continue  # the guard round the tier has counted the failure

    def _remember(self, kept: _Kept) -> _Kept:
        self._known[kept.tenant] = kept
        settings, base = kept.settings, self._base
        archive, retention = settings.archive_after_days, settings.retention_days
        policy = base._replace(
            archive_after_days=base.archive_after_days if archive is None else archive,
            retention_days=base.retention_days if retention is None else retention,
        )
        if policy == base:
            self._policies.pop(kept.tenant, None)
        else:
            self._policies[kept.tenant] = policy
        return kept

    def _forget(self, tenant: str) -> None:
        self._known.pop(tenant, None)
        self._policies.pop(tenant, None)


def _read(record: Record) -> _Kept:
    return _form.read(_OLD_POLICY.sub(rb'"resume_policy":"always"', record.data, count=1))
