"""All feeds of a process: who follows what, and how they end when it stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.feed.reader import Reader, Sources
from sessionmanager.core.feed.session_subscription import SessionSubscription
from sessionmanager.core.feed.signals import Signals
from sessionmanager.core.feed.slots import Slots
from sessionmanager.core.feed.subscription import FeedEnded, Subscription
from sessionmanager.core.feed.tenant import TenantReader
from sessionmanager.core.feed.tenant_subscription import TenantSubscription
from sessionmanager.core.reads import Reads
from sessionmanager.errors import Draining, Erased
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant, Key


class Feeds:
    """One a process. clock: seconds, monotonic."""

    def __init__(
        self,
        hot: Hot,
        warm: Warm,
        reads: Reads,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        limits: FeedLimits,
    ) -> None:
        self.limits = limits
        self.rng = rng
        self.signals = Signals(hot, clock)
        self._warm = warm
        self._slots = Slots(limits, rng)
        self._sources = Sources(hot, warm, reads, limits, rng, asyncio.Semaphore(limits.catch_ups_max))
        self._readers: dict[Key, Reader] = {}
        self._tenants: dict[str, TenantReader] = {}
        self._open: set[Subscription] = set()
        self._draining = False

    def __len__(self) -> int:
        """Feeds that are open here."""
        return len(self._open)

    @property
    def readers(self) -> int:
        """Sessions that are read here for those who follow them."""
        return len(self._readers)

    async def follow(self, key: Key, *, subject: str, after: int | None = None) -> SessionSubscription:
        """Follow a session from the seq `after`, or from now. It must be closed.

        Raises: NotFound, Erased, RateLimited, Draining, TierUnavailable. Cost: one warm read.
        """
        give = self._slot(key.tenant, subject, key)
        try:
            stored = (await self._warm.load(key)).stored
            if stored.tombstone is not None:
                raise Erased
            if self._draining:
                raise Draining
        except BaseException:
            give()
            raise
        newest = stored.head.pulse.entry_count
        reader = self._readers.get(key)
        if reader is None:
            reader = Reader(key, newest, stored.version, self._sources, lambda: self._forget(key, reader))
            self._readers[key] = reader

        def close() -> None:
            give()
            self._open.discard(subscription)
            if not reader.subscribers:
                reader.close()
                self._forget(key, reader)

        subscription = SessionSubscription(reader, after, newest, self.limits, close)
        self._open.add(subscription)
        return subscription

    async def follow_tenant(self, tenant: str, *, subject: str, since: Instant | None = None) -> TenantSubscription:
        """Follow everything of a tenant from an instant that a feed of it has said, or from now. It must be closed.

        Raises: RateLimited, Draining.
        """
        give = self._slot(tenant, subject, None)
        reader = self._tenants.get(tenant)
        if reader is None:
            reader = self._tenants[tenant] = TenantReader(tenant, self._warm, self._sources, self._forget_tenant)

        def close() -> None:
            give()
            self._open.discard(subscription)
            if not reader.subscribers:
                reader.close()
                self._forget_tenant(reader)

        subscription = TenantSubscription(reader, since, self.limits, close)
        self._open.add(subscription)
        return subscription

    def drain(self) -> None:
        """Send everybody away and let nobody in. Safe to repeat."""
        self._draining = True
        for subscription in tuple(self._open):
            subscription.end(FeedEnded("draining"))

    async def close(self) -> None:
        """`drain`, and stop reading."""
        self.drain()
        readers = [*self._readers.values(), *self._tenants.values()]
        self._readers.clear()
        self._tenants.clear()
        for reader in readers:
            reader.close()
        for reader in readers:
            await reader.closed()

    # -- inside

    def _slot(self, tenant: str, subject: str, session: Key | None) -> Callable[[], None]:
        if self._draining:
            raise Draining
        return self._slots.take(tenant, subject, session)

    def _forget(self, key: Key, reader: Reader | None) -> None:
        if self._readers.get(key) is reader:
            del self._readers[key]

    def _forget_tenant(self, reader: TenantReader) -> None:
        if self._tenants.get(reader.tenant) is reader:
            del self._tenants[reader.tenant]
