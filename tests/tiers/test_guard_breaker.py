"""The circuit breaker by itself: when it opens, whom it lets probe, when it closes."""

from __future__ import annotations

import pytest

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.breaker import PROBE_SECONDS, Breaker, CircuitOpen, Status

pytestmark = pytest.mark.unit
DOWN = TierUnavailable("warm")


class Bench:
    """A breaker with its clock and its changes. `rand` 0.5 means a reset of exactly 10 s."""

    def __init__(self, rand: float = 0.5) -> None:
        self.now = 100.0
        self.changes: list[Status] = []
        self.breaker = Breaker(3, 10.0, on_change=self.changes.append, clock=lambda: self.now, rand=lambda: rand)

    def call(self, error: Exception | None = None) -> bool:
        trial = self.breaker.admit()
        if error is None:
            self.breaker.succeeded(trial=trial)
        else:
            self.breaker.failed(error, trial=trial)
        return trial

    def open(self) -> None:
        for _ in range(3):
            self.call(DOWN)

    def wait(self) -> float:
        with pytest.raises(CircuitOpen) as refused:
            self.breaker.admit()
        return refused.value.retry_after_seconds


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_opens_after_so_many_failures_in_a_row(bench: Bench) -> None:
    bench.call(DOWN)
    bench.call(DOWN)
    assert bench.breaker.status == "ok"
    bench.call(DOWN)
    assert bench.breaker.status == "open"
    assert bench.changes == ["open"]
    assert bench.wait() == 10.0


def test_an_answer_between_begins_the_count_anew(bench: Bench) -> None:
    for _ in range(10):
        bench.call(DOWN)
        bench.call(DOWN)
        bench.call()
    assert bench.breaker.status == "ok"
    assert bench.changes == []


def test_while_open_it_says_how_long_to_the_next_probe(bench: Bench) -> None:
    bench.open()
    bench.now += 4
    assert bench.wait() == 6.0
    assert bench.breaker.state() == {
        "status": "open",
        "failures": 3,
        "last_error": "TierUnavailable",
        "reason": "the warm tier is unavailable",
        "away_seconds": 4.0,
        "retry_after_seconds": 6.0,
    }


def test_half_open_it_lets_one_call_try_and_no_other(bench: Bench) -> None:
    """pybreaker's own `calling()` lets every call that waits probe at once."""
    bench.open()
    bench.now += 10
    assert bench.breaker.admit() is True
    for _ in range(5):
        assert bench.wait() == PROBE_SECONDS
    assert bench.breaker.state()["status"] == "half-open"


def test_a_trial_that_succeeds_closes_it(bench: Bench) -> None:
    bench.open()
    bench.now += 10
    assert bench.call() is True
    assert bench.changes == ["open", "half-open", "ok"]
    assert bench.call() is False
    assert bench.breaker.state() == {
        "status": "ok",
        "failures": 0,
        "last_error": "TierUnavailable",
        "reason": "the warm tier is unavailable",
        "away_seconds": None,
        "retry_after_seconds": None,
    }
    bench.call(DOWN)
    assert bench.breaker.status == "ok"


def test_a_trial_that_fails_opens_it_for_another_reset(bench: Bench) -> None:
    bench.open()
    bench.now += 10
    assert bench.call(ConnectionResetError()) is True
    assert bench.changes == ["open", "half-open", "open"]
    assert bench.wait() == 10.0
    state = bench.breaker.state()
    assert (state["last_error"], state["reason"]) == ("ConnectionResetError", "ConnectionResetError")
    assert state["away_seconds"] == 10.0, "counted from when it opened first"


def test_a_trial_that_tells_nothing_makes_way_for_the_next(bench: Bench) -> None:
    """A cancelled probe is neither a failure nor the last one for ever."""
    bench.open()
    bench.now += 10
    for _ in range(3):
        assert bench.breaker.admit() is True
        bench.breaker.undecided(trial=True)
    assert bench.breaker.status == "half-open"
    assert bench.call() is True
    assert bench.breaker.status == "ok"


def test_calls_from_before_it_opened_prove_nothing(bench: Bench) -> None:
    early = [bench.breaker.admit() for _ in range(3)]
    bench.open()
    bench.now += 5
    bench.breaker.succeeded(trial=early[0])
    bench.breaker.failed(DOWN, trial=early[1])
    assert bench.breaker.status == "open"
    assert bench.wait() == 5.0
    bench.now += 5
    trial = bench.breaker.admit()
    bench.breaker.failed(DOWN, trial=early[2])
    assert bench.breaker.status == "half-open"
    bench.breaker.succeeded(trial=trial)
    assert bench.breaker.status == "ok"


@pytest.mark.parametrize(("rand", "seconds"), [(0.0, 5.0), (0.25, 7.5), (1.0, 15.0)])
def test_resets_are_spread_so_that_replicas_do_not_probe_in_step(rand: float, seconds: float) -> None:
    bench = Bench(rand)
    bench.open()
    assert bench.wait() == seconds
