"""The registry: which services there are, where, and whether they live. Records in warm, shared by all replicas.

    registered ─seen well→ ready ─missed three times→ disconnected ─seen well→ ready
        └─ not seen within the registration time-out → disconnected

A registered service may be asked at once; one that is disconnected is not. Registering again begins a new life: what
it was asked before it knows nothing of, so the sessions that count on it are told (`lost_at`, see `monitor.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

from sessionmanager.core.outgoing.endpoints import parse
from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.errors import AlreadyExists, Contended, DataCorrupt, NotFound, QuotaExceeded, RevConflict
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.model.services import Candidate
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, ServiceStatus

KIND: Final = "service"
SERVICES_PER_TENANT_MAX: Final = 1_000
FORGET_SECONDS: Final = 7 * 86_400.0
"""A service that nobody has heard of for so long is forgotten."""
MISSED_MAX: Final = 3
TRIES: Final = 5
REGISTRATION_SECONDS: Final = 30.0
HEALTH_SECONDS: Final = 10.0
REMOVED: Final = "removed"
GONE_CHECK_FACTOR: Final = 6.0
"""A disconnected service is asked for its health so much more seldom."""


class Service(Struct, frozen=True, kw_only=True):
    """An instance as its record holds it.

    owner: the subject that registered it, and alone may speak for it. registered_at: when its present life began.
    seen_at: its last news, by its own heartbeat or by a health check. check_at: when its health is asked for next.
    missed: health checks in a row without a good answer. load: what it says of itself, 0 to 1.
    lost_at: sessions that asked it before then are to be told that it is gone; told: how often they were.
    """

    tenant: str
    id: str
    type: str
    endpoint: str
    status: ServiceStatus
    owner: str
    registered_at: Instant
    check_at: Instant
    capabilities: tuple[str, ...] = ()
    metadata: dict[str, Raw] = {}
    seen_at: Instant | None = None
    missed: int = 0
    load: float = 0.0
    reason: str | None = None
    lost_at: Instant | None = None
    told: int = 0


class WantedService(NamedTuple):
    """What a service says of itself when it registers."""

    id: str
    type: str
    endpoint: str
    capabilities: tuple[str, ...] = ()
    metadata: Mapping[str, Raw] = {}


class Times(NamedTuple):
    """The settings of the registry, in seconds."""

    registration: float = REGISTRATION_SECONDS
    health: float = HEALTH_SECONDS


class Found(NamedTuple):
    """A service, and the rev of its record."""

    service: Service
    rev: int


Change = Callable[[Service, Instant], Service | None]
log = structlog.get_logger()
_form = RecordForm(Service, "the record of a service")


class ServiceRegistry:
    """Services of all tenants. Every write is a compare-and-set on the service's record."""

    def __init__(self, warm: Warm, times: Times) -> None:
        self._warm = warm
        self.times = times

    # -- what services do

    async def register(
        self, tenant: str, wanted: WantedService, owner: str, *, any_owner: bool = False
    ) -> tuple[Service, bool]:
        """Take a service in, or begin its new life; whether it is new. The endpoint was checked before.

        Raises AlreadyExists: the id is another subject's. QuotaExceeded, Contended, TierUnavailable, OutcomeUnknown.
        Cost: one read and one write of warm; for a new one a read more for each 200 services of the tenant.
        """
        for _ in range(TRIES):
            found = await self._find(tenant, wanted.id)
            before = found.service if found is not None else None
            if before is not None and before.owner != owner and not any_owner:
                raise AlreadyExists("another subject has registered a service of this id")
            if before is None and len(await self.list(tenant)) >= SERVICES_PER_TENANT_MAX:
                raise QuotaExceeded("services", SERVICES_PER_TENANT_MAX)
            now = self._warm.now()
            service = Service(
                tenant=tenant,
                id=wanted.id,
                type=wanted.type,
                endpoint=parse(wanted.endpoint).url,
                status="registered",
                owner=owner if before is None else before.owner,
                registered_at=now,
                check_at=now,
                capabilities=wanted.capabilities,
                metadata=dict(wanted.metadata),
                lost_at=now if before is not None else None,
            )
            if await self._put(service, found.rev if found is not None else 0):
                return service, before is None
        raise Contended

    async def heartbeat(self, tenant: str, service_id: str, owner: str | None, load: float | None) -> Service:
        """News of a service, from itself. owner: None = whoever may speak for all. Raises NotFound.

        Cost: one read and one write of warm.
        """

        def seen(before: Service, now: Instant) -> Service | None:
            if owner is not None and before.owner != owner:
                raise NotFound
            return self._seen(replace(before, load=before.load if load is None else load), now)

        return await self._change(tenant, service_id, seen)

    async def remove(self, tenant: str, service_id: str, owner: str | None) -> Service:
        """Take a service out. Its sessions are told before its record goes (`monitor`). Raises NotFound."""

        def gone(before: Service, now: Instant) -> Service | None:
            if before.reason == REMOVED or (owner is not None and before.owner != owner):
                raise NotFound("no such service")
            return self._gone(before, now, REMOVED)

        return await self._change(tenant, service_id, gone)

    # -- what others ask

    async def get(self, tenant: str, service_id: str) -> Service:
        """One service. Raises NotFound. Cost: one read of warm."""
        found = await self._find(tenant, service_id)
        if found is None or found.service.reason == REMOVED:
            raise NotFound("no such service")
        return found.service

    async def list(self, tenant: str) -> list[Service]:
        """All of a tenant's, by id. Cost: a read of warm for each 200."""
        everybody = self._all(f"{tenant}/")
        return [found.service async for found in everybody if found.service.reason != REMOVED]

    async def candidates(self, tenant: str, kinds: Sequence[str]) -> list[Candidate]:
        """Those that may be asked to join a session, of these kinds."""
        return [
            Candidate(service.id, service.type, service.load)
            for service in await self.list(tenant)
            if service.type in kinds and service.status != "disconnected"
        ]

    # -- what the monitor does

    async def everything(self) -> Sequence[Found]:
        """All services of all tenants. Cost: a read of warm for each 200."""
        return [found async for found in self._all("")]

    async def claim(self, found: Found, now: Instant) -> bool:
        """Take the health check that is due. False: somebody else has."""
        service = found.service
        factor = GONE_CHECK_FACTOR if service.status == "disconnected" else 1.0
        return await self._put(replace(service, check_at=instants.plus(now, self.times.health * factor)), found.rev)

    async def checked(self, service: Service, reason: str | None) -> Service:
        """Write down what a health check found; reason: why it was no good answer. Raises NotFound."""

        def after(before: Service, now: Instant) -> Service | None:
            if before.registered_at != service.registered_at or before.reason == REMOVED:
                return None  # it has begun another life since it was asked
            return self._seen(before, now) if reason is None else self._missed(before, now, reason)

        return await self._change(service.tenant, service.id, after)

    async def told(self, service: Service) -> None:
        """Its sessions have been told once more that it is gone; the second time nothing is left to tell."""

        def after(before: Service, now: Instant) -> Service | None:
            if before.lost_at != service.lost_at or before.told != service.told:
                return None
            if before.told == 0:
                return replace(before, told=1)
            return replace(before, lost_at=None, told=0)

        try:
            done = await self._change(service.tenant, service.id, after)
        except NotFound:
            return
        if done.reason == REMOVED and done.lost_at is None:
            found = await self._find(service.tenant, service.id)
            if found is not None and found.service == done:
                await self._drop(found)

    # -- inside

    def _seen(self, before: Service, now: Instant) -> Service | None:
        if before.reason == REMOVED:
            raise NotFound("no such service")
        check_at = instants.plus(now, self.times.health)
        return replace(before, status="ready", seen_at=now, check_at=check_at, missed=0, reason=None)

    def _missed(self, before: Service, now: Instant, reason: str) -> Service | None:
        if before.status == "disconnected":
            return None
        missed = replace(before, missed=before.missed + 1, reason=reason)
        if before.status == "registered":
            late = instants.seconds_between(before.registered_at, now) >= self.times.registration
            return self._gone(missed, now, reason) if late else missed
        return self._gone(missed, now, reason) if missed.missed >= MISSED_MAX else missed

    def _gone(self, before: Service, now: Instant, reason: str) -> Service:
        return replace(before, status="disconnected", reason=reason, lost_at=now, told=0)

    async def _change(self, tenant: str, service_id: str, change: Change) -> Service:
        for _ in range(TRIES):
            found = await self._find(tenant, service_id)
            if found is None:
                raise NotFound("no such service")
            after = change(found.service, self._warm.now())
            if after is None:
                return found.service
            if await self._put(after, found.rev):
                return after
        raise Contended

    async def _find(self, tenant: str, service_id: str) -> Found | None:
        record = await self._warm.get_record(ALL_TENANTS, KIND, f"{tenant}/{service_id}")
        return Found(_form.read(record.data), record.rev) if record is not None else None

    async def _put(self, service: Service, rev: int) -> bool:
        name = f"{service.tenant}/{service.id}"
        until = instants.plus(service.seen_at or service.registered_at, FORGET_SECONDS)
        try:
            await self._warm.put_record(ALL_TENANTS, KIND, name, _form.encode(service), rev=rev, expires_at=until)
        except RevConflict:
            return False
        return True

    async def _drop(self, found: Found) -> None:
        name = f"{found.service.tenant}/{found.service.id}"
        try:
            await self._warm.put_record(ALL_TENANTS, KIND, name, None, rev=found.rev)
        except RevConflict:
            return  # it has just been registered anew

    async def _all(self, prefix: str) -> AsyncIterator[Found]:
        async for record in every_record(self._warm, ALL_TENANTS, KIND, prefix=prefix):
            try:
                found = Found(_form.read(record.data), record.rev)
            except DataCorrupt:
                # One broken record must not take all other services from this replica.
                log.error("services.unreadable")
                continue
            yield found
