"""Rates of requests: what a bucket lets through, what one noisy caller costs the others, and how much is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.core.tenancy.quotas import Buckets, QuotaJudge
from sessionmanager.core.tenancy.tenants import Quotas, Tenants, TenantSettings
from sessionmanager.errors import RateLimited
from sessionmanager.model.timers import Policy

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def quotas(clock: Clock, *, subject: float | None, tenant: float | None = None, places: int = 100) -> QuotaJudge:
    defaults = TenantSettings(quotas=Quotas(requests_per_second=tenant))
    nothing: object = None  # records of warm, which no rate asks for
    tenants = Tenants(nothing, Policy(), defaults)  # type: ignore[arg-type]
    return QuotaJudge(nothing, tenants, clock, subject_rate=subject, subjects_max=places)  # type: ignore[arg-type]


def let_in(asked: QuotaJudge, tenant: str, subject: str) -> bool:
    """A request, in the order in which the gate asks."""
    try:
        asked.take_of_subject(tenant, subject)
        asked.take_request(tenant)
    except RateLimited:
        return False
    return True


def test_one_noisy_subject_starves_no_other_of_its_tenant() -> None:
    """Its refused requests take nothing of what the tenant may send."""
    clock = Clock()
    asked = quotas(clock, subject=5.0, tenant=20.0)
    noisy = calm = 0
    for _ in range(100):  # ten seconds
        clock.seconds += 0.1
        noisy += sum(let_in(asked, "acme", "noisy") for _ in range(50))
        calm += let_in(asked, "acme", "calm") if round(clock.seconds * 10) % 5 == 0 else 0
    assert noisy == pytest.approx(10 * 5, abs=6)
    assert calm == 20, "two a second, each let in"


def test_without_the_setting_a_subject_sends_as_many_as_its_tenant_may() -> None:
    asked = quotas(Clock(), subject=None)
    assert all(let_in(asked, "acme", "noisy") for _ in range(10_000))


def test_one_name_in_two_tenants_is_two_subjects() -> None:
    asked = quotas(Clock(), subject=1.0)
    assert let_in(asked, "acme", "bot")
    assert not let_in(asked, "acme", "bot")
    assert let_in(asked, "umbrella", "bot")


def test_the_refusal_names_the_rate_and_whoever_waits_as_told_is_let_in() -> None:
    clock = Clock()
    clock.seconds = 1_795_262_400.3  # where sums of floats are coarse
    asked = quotas(clock, subject=3.0)
    for _ in range(3):
        asked.take_of_subject("acme", "bot")
    for _ in range(1_000):
        with pytest.raises(RateLimited, match="3 requests a second") as refused:
            asked.take_of_subject("acme", "bot")
        assert refused.value.retry_after_seconds is not None
        assert refused.value.retry_after_seconds == pytest.approx(1 / 3, abs=1e-5)
        clock.seconds += refused.value.retry_after_seconds
        asked.take_of_subject("acme", "bot")


def test_what_is_remembered_is_bounded_and_whoever_is_refused_is_not_forgotten_for_it() -> None:
    clock = Clock()
    buckets = Buckets[str](100, clock)
    assert buckets.take("noisy", 1.0) == 0
    for number in range(10_000):
        buckets.take(f"other-{number}", 1.0)
        assert buckets.take("noisy", 1.0) > 0
    assert len(buckets) == 100


@given(
    st.floats(0.01, 1_000.0),
    st.lists(st.floats(0, 10.0), min_size=1, max_size=100),
)
def test_in_any_span_no_more_is_let_in_than_a_second_ahead_of_the_rate(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets[str](10, clock)
    taken = 0
    for pause in pauses:
        clock.seconds += pause
        taken += buckets.take("one", rate) == 0
        assert taken <= max(1.0, rate) + clock.seconds * rate - pauses[0] * rate + 1e-3
