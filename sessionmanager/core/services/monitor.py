"""Watching over services: asks for their health, and tells sessions when one that they count on is gone.

Any number may run, one a process: a check is claimed by a compare-and-set on the service's record, so that a service is
asked once in `health` seconds however many replicas there are. A service that sends heartbeats is not asked at all.

Sessions are told twice that an instance is gone, at once and `TELL_AGAIN_SECONDS` later: lists may be 10 s behind, and
until the second time the record says that it is still to be done, whoever dies in between.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from sessionmanager.core.services.asking import Asking
from sessionmanager.core.services.registry import Found, Service, ServiceRegistry
from sessionmanager.core.services.seating import Seating
from sessionmanager.errors import Erased, NotFound, SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.listing import term
from sessionmanager.model.services import LIVE
from sessionmanager.tiers.warm.protocol import ListQuery, Position, Warm
from sessionmanager.waits.pause import pause
from sessionmanager.words import Instant, Key

POLL_SECONDS: Final = 2.0
CHECKS_MAX: Final = 16
"""Health checks of this process at once."""
TELL_AGAIN_SECONDS: Final = 15.0
PAGE: Final = 200
PAGES_MAX: Final = 1_000
LOST: Final = "service-lost"

log = structlog.get_logger()


class Monitor:
    """One a process; `run` ends when `stop` is set, after the checks under way."""

    def __init__(
        self,
        warm: Warm,
        registry: ServiceRegistry,
        seating: Seating,
        asking: Asking,
        *,
        poll_seconds: float,
    ) -> None:
        self._warm = warm
        self._registry = registry
        self._seating = seating
        self._asking = asking
        self._poll_seconds = poll_seconds
        self._checks = asyncio.Semaphore(CHECKS_MAX)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set. While warm is down nothing is asked and nobody is given up."""
        blind = False
        while not stop.is_set():
            try:
                await self.turn()
            except SessionManagerError as error:
                if not blind:
                    log.warning("services.cannot_look", error=type(error).__name__)
                blind = True
            except Exception as error:
                log.error("services.failed", error=type(error).__name__)
            else:
                blind = False
            await pause(stop, self._poll_seconds)

    async def turn(self) -> None:
        """Everything that is due now, once. Cost: a read of warm for each 200 services."""
        now = self._warm.now()
        everything = await self._registry.everything()
        owed = [found for found in everything if _check_is_due(found.service, now)]
        results = await asyncio.gather(*(self._check(found, now) for found in owed), return_exceptions=True)
        for found in everything:
            if _telling_is_due(found.service, now):
                await self._tell(found.service)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, NotFound):
                raise result

    async def _check(self, found: Found, now: Instant) -> None:
        async with self._checks:
            if not await self._registry.claim(found, now):
                return
            reason = await self._asking.health(found.service)
            after = await self._registry.checked(found.service, reason)
        if _telling_is_due(after, self._warm.now()):
            await self._tell(after)

    async def _tell(self, service: Service) -> None:
        """Tell every living session that has asked this instance before it was lost. Safe to repeat."""
        assert service.lost_at is not None, "told of a loss"
        for status in LIVE:
            after: Position | None = None
            for _ in range(PAGES_MAX):
                terms = (term("participant", service.id), term("status", status))
                page = await self._warm.list(ListQuery(service.tenant, PAGE, terms, after=after))
                for stored in page.items:
                    if stored.placement == "cold":
                        continue  # nobody speaks there; whoever wakes it finds out
                    await self._lose(stored.key, service)
                after = page.next
                if after is None:
                    break
        # Crash here: some know, some do not; the record still says that they are to be told.
        await self._registry.told(service)

    async def _lose(self, key: Key, service: Service) -> None:
        assert service.lost_at is not None, "told of a loss"
        try:
            await self._seating.lose(key, service.id, service.lost_at, LOST)
        except (NotFound, Erased):
            return


def _check_is_due(service: Service, now: Instant) -> bool:
    return service.check_at <= now and service.reason != "removed"


def _telling_is_due(service: Service, now: Instant) -> bool:
    if service.lost_at is None:
        return False
    return service.told == 0 or instants.plus(service.lost_at, TELL_AGAIN_SECONDS) <= now
