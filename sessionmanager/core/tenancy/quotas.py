"""Quotas: how many sessions a tenant may have, how many requests a second it and each of its subjects may send."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from sessionmanager.core.tenancy.tenants import Tenants
from sessionmanager.errors import QuotaExceeded, RateLimited
from sessionmanager.tiers.warm.protocol import WarmRecords

TENANTS_MAX: Final = 10_000
"""Tenants whose counts are remembered; of the one asked for longest ago they are forgotten."""
SUBJECTS_MAX: Final = 20_000
"""Subjects whose requests are counted; the one heard of longest ago is forgotten. 6 MB when all are there."""
ROUNDING: Final = 1e-6
"""Of a request: whoever waits exactly as long as it was told is let in, whatever the sums of clocks come to."""
COUNT_SECONDS: Final = 10.0
"""How long a count of sessions is gone by, as long as it leaves room."""

T = TypeVar("T")
K = TypeVar("K")


class Buckets(Generic[K]):
    """Rates of many, each a bucket of one second's requests, at least one, that fills at its rate (decision 0049).

    Memory: `places` buckets. Whoever is refused keeps its place, so that a flood of others does not free it.
    """

    def __init__(self, places: int, clock: Callable[[], float]) -> None:
        self._places = places
        self._clock = clock
        self._kept: OrderedDict[K, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, name: K, rate: float) -> float:
        """Take one request out; answers 0, or the seconds until there is room for it. No call."""
        now = self._clock()
        size = max(1.0, rate)
        at, left = self._kept.get(name, (now, size))
        left = min(size, left + (now - at) * rate)
        missing = 1.0 - left
        refused = missing > ROUNDING
        _keep(self._kept, name, (now, left if refused else left - 1.0), self._places)
        return missing / rate if refused else 0.0


class QuotaJudge:
    """Judges by what this process counts and by warm's counts, which may lag 10 s: a bound, not a lock.

    clock: seconds that never go back. subject_rate: requests a second of each subject; None = any number.
    """

    def __init__(
        self,
        records: WarmRecords,
        tenants: Tenants,
        clock: Callable[[], float],
        *,
        subject_rate: float | None,
        subjects_max: int = SUBJECTS_MAX,
    ) -> None:
        self._records = records
        self._tenants = tenants
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._of_tenants = Buckets[str](TENANTS_MAX, clock)
        self._of_subjects = Buckets[tuple[str, str]](subjects_max, clock)
        self._subject_rate = subject_rate

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
        _keep(self._counts, tenant, (at, count + 1), TENANTS_MAX)

    def take_of_subject(self, tenant: str, subject: str) -> None:
        """Count one request of whoever calls, by whatever token or key. tenant: that of the token. Raises RateLimited.

        To be asked before `take_request`: what a noisy one is refused is not taken from the others of its tenant.
        """
        if self._subject_rate is not None:
            wait = self._of_subjects.take((tenant, subject), self._subject_rate)
            if wait:
                raise _refusal("whoever this token or key speaks for", self._subject_rate, wait)

    def take_request(self, tenant: str) -> None:
        """Count one request. Raises RateLimited with the time until there is room again. No call; of this process
        alone."""
        rate = self._tenants.quotas(tenant).requests_per_second
        if rate is not None:
            wait = self._of_tenants.take(tenant, rate)
            if wait:
                raise _refusal("this tenant", rate, wait)


def _refusal(who: str, rate: float, wait_seconds: float) -> RateLimited:
    refusal = RateLimited(f"{who} may send {rate:g} requests a second")
    refusal.retry_after_seconds = wait_seconds
    return refusal


def _keep(kept: OrderedDict[K, T], name: K, value: T, places: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > places:
        kept.popitem(last=False)
