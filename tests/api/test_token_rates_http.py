"""`TOKEN_REQUESTS_PER_SECOND` over HTTP: 429 with a time, for one subject by all its tokens, and for nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import Served, problem, served

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(token_requests_per_second="0.001") as running:
        yield running


def test_a_subject_over_its_rate_is_told_when_to_come_back_and_others_go_on(service: Served) -> None:
    noisy, calm = service.caller(subject="noisy"), service.caller(subject="calm")
    assert noisy.get("/sessions").status_code == 200
    for _ in range(20):
        refused = noisy.get("/sessions")
        assert problem(refused, 429, "rate-limited")["remedy"] == "wait"
        assert 900 <= int(refused.headers["retry-after"]) <= 1_000
    assert calm.get("/sessions").status_code == 200
    assert service.nobody().get("/livez").status_code == 200


def test_another_token_for_the_same_subject_is_no_way_around_it_and_another_tenants_namesake_is_somebody_else(
    service: Served,
) -> None:
    assert service.caller(subject="two").get("/sessions").status_code == 200
    problem(service.caller(subject="two", ttl_seconds=300).get("/sessions"), 429, "rate-limited")
    assert service.caller(subject="two", tenant="umbrella").get("/sessions").status_code == 200


def test_what_a_refused_request_asked_for_is_not_done(service: Served) -> None:
    maker = service.caller(subject="maker")
    assert maker.post("/sessions", {"id": "first"}).status_code == 201
    problem(maker.post("/sessions", {"id": "second"}), 429, "rate-limited")
    problem(service.caller(subject="looker").get("/sessions/second"), 404, "not-found")


def test_a_token_that_is_none_is_counted_for_nobody(service: Served) -> None:
    for _ in range(5):
        problem(service.nobody("no.such.token").get("/sessions"), 401, "unauthenticated")
    forged = service.token(subject="victim")[:-4] + "AAAA"
    for _ in range(5):
        problem(service.nobody(forged).get("/sessions"), 401, "unauthenticated")
    assert service.caller(subject="victim").get("/sessions").status_code == 200
