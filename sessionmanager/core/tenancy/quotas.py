"""Quotas of a tenant: how many sessions it may have, how many requests a second it may send."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.errors import QuotaExceeded, RateLimited
from sessionmanager.tiers.warm.protocol import WarmRecords

TENANTS_MAX: Final = 10_000
"""Tenants whose counts are remembered; of the one asked for longest ago they are forgotten."""
COUNT_SECONDS: Final = 10.0
"""How long a count of sessions is gone by, as long as it leaves room."""

T = TypeVar("T")


class Quotas:
    """Judges by what this process counts and by warm's counts, which may lag 10 s: a bound, not a lock.

    clock: seconds that never go back.
    """

    def __init__(self, records: WarmRecords, tenants: Tenants, clock: Callable[[], float]) -> None:
        self._records = records
        self._tenants = tenants
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def room_for_a_session(self, tenant: str) -> None:
        """Raises QuotaExceeded where the tenant has as many sessions as it may; erased ones do not count.

        Cost: none without a quota, else one read of warm each COUNT_SECONDS, and for each refusal.
        """
        bound = self._tenants.quotas(tenant).sessions
        if bound is None:
            return
        at, count = self._counts.get(tenant, (0.0, bound))
        now = self._clock()
        if count >= bound or now - at >= COUNT_SECONDS:
            count = sum((await self._records.counts(tenant)).values())
            at = now
        if count >= bound:
            raise QuotaExceeded("sessions", bound)
        _keep(self._counts, tenant, (at, count + 1))

    def take_request(self, tenant: str) -> None:
        """Count one request. Raises RateLimited with the time until there is room again: a bucket of one second's
        requests, at least one, that fills at the tenant's rate. No call; of this process alone."""
        rate = self._tenants.quotas(tenant).requests_per_second
        if rate is None:
            return
        now = self._clock()
        at, left = self._buckets.get(tenant, (now, max(1.0, rate)))
        left = min(max(1.0, rate), left + (now - at) * rate)
        if left < 1.0:
            refusal = RateLimited(f"this tenant may send {rate:g} requests a second")
            refusal.retry_after_seconds = (1.0 - left) / rate
            raise refusal
        _keep(self._buckets, tenant, (now, left - 1.0))


def _keep(kept: OrderedDict[str, tuple[float, T]], tenant: str, value: tuple[float, T]) -> None:
    kept[tenant] = value
    kept.move_to_end(tenant)
    if len(kept) > TENANTS_MAX:
        kept.popitem(last=False)
