"""What passes a load test: from rows as locust writes them, and the pace that the profiles ask for."""

from __future__ import annotations

from typing import Any

import pytest

from sessionmanager.loadtest.kept import Kept
from sessionmanager.loadtest.plan import PLANS, Criteria, users_of
from sessionmanager.loadtest.verdict import Route, growth, judge, routes_of

pytestmark = pytest.mark.unit

CSV = (
    "Type,Name,Request Count,Failure Count,Median Response Time,Max Response Time,50%,99%\r\n"
    "POST,/sessions,200,0,5,40.5,5,30\r\n"
    "CHECK,entries that were acknowledged,1,1,0,0,N/A,N/A\r\n"
    ",Aggregated,201,1,5,40.5,5,30\r\n"
)
FINE = [Route("POST /sessions", 200, 0, 5, 30, 40), Route("Aggregated", 200, 0, 5, 30, 40)]


KEPT = Kept(sessions=2, entries=40)


def missed(
    routes: list[Route], memory: dict[str, list[float]] | None = None, kept: Kept = KEPT, **criteria: Any
) -> list[str]:
    return [each.what for each in judge(Criteria(**criteria), routes, memory or {}, kept) if not each.passed]


def test_rows_are_read_as_locust_writes_them() -> None:
    assert routes_of(CSV.splitlines()) == [
        Route("POST /sessions", 200, 0, 5, 30, 40.5),
        Route("CHECK entries that were acknowledged", 1, 1, 0, 0, 0),
        Route("Aggregated", 201, 1, 5, 30, 40.5),
    ]


def test_a_run_within_every_criterion_passes() -> None:
    assert missed(FINE, {"service": [100.0] * 100}) == []


def test_one_failed_request_is_one_too_many() -> None:
    assert missed(routes_of(CSV.splitlines())) == ["failed requests"]
    assert missed(routes_of(CSV.splitlines()), error_share_max=0.01) == []


def test_a_slow_route_fails_by_name_and_a_rare_one_is_not_judged() -> None:
    slow, rare = Route("GET /sessions/{id}", 100, 0, 10, 251, 300), Route("GET /stats", 99, 0, 10, 900, 900)
    assert missed([slow, rare, *FINE]) == ["p99 of GET /sessions/{id}"]


def test_tries_that_no_user_heard_of_are_neither_failures_nor_slow_calls() -> None:
    assert missed([Route("REPEATED /sessions/{id}/entries", 500, 0, 9_000, 10_000, 10_000), *FINE]) == []


@pytest.mark.parametrize(
    "kept",
    [
        Kept(sessions=2, entries=40, lost=["call-1 user-3"]),
        Kept(sessions=2, entries=40, doubled=["call-1 user-3"]),
        Kept(sessions=2, entries=40, unread=["call-1 tier-unavailable"]),
        Kept(),
    ],
)
def test_a_run_passes_only_if_all_that_was_acknowledged_was_read_back_and_found_once(kept: Kept) -> None:
    assert missed(FINE, kept=kept) == ["acknowledged entries"]


def test_memory_that_grows_in_the_second_half_fails() -> None:
    filling = [float(n) for n in range(50)] + [50.0] * 50
    assert missed(FINE, {"service": filling}) == []
    assert missed(FINE, {"one": filling, "two": [float(n) for n in range(1, 101)]}) == ["memory of two"]
    assert growth([1.0] * 19) is None


@pytest.mark.parametrize("routes", [[], [Route("Aggregated", 0, 0, 0, 0, 0)]])
def test_a_run_that_measured_nothing_fails(routes: list[Route]) -> None:
    assert missed(routes) == ["requests"]


@pytest.mark.parametrize("name", PLANS)
def test_a_profile_holds_as_many_sessions_as_its_name_says_and_lets_all_begin(name: str) -> None:
    plan = PLANS[name]
    assert plan.sessions == int(name) == users_of(plan)["sessions"]
    assert sum(users_of(plan).values()) / plan.spawn_per_second < plan.seconds / 2


def test_a_tenth_of_ten_thousand_talk_at_a_time_with_a_turn_in_three_seconds() -> None:
    plan = PLANS["10000"]
    talking = plan.turn_seconds * plan.burst_turns
    assert talking / (talking + plan.quiet_seconds) == pytest.approx(0.1)
    assert plan.turns_per_second == pytest.approx(333, abs=1)
