"""Load on several replicas, one of which is killed: where users go, what they repeat, what is looked at afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessionmanager.loadtest.addresses import AWAY_SECONDS, Addresses
from sessionmanager.loadtest.kept import Kept, Talk
from sessionmanager.loadtest.samples import Samples, latencies, marks

pytestmark = pytest.mark.unit

TWO = ("http://one:1", "http://two:2/")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# -- where users go


def test_users_are_spread_and_each_stays_where_it_is() -> None:
    addresses = Addresses(TWO)
    assert [addresses.of(user) for user in (0, 1, 2, 3, 0)] == [
        "http://one:1",
        "http://two:2",
        "http://one:1",
        "http://two:2",
        "http://one:1",
    ]


def test_who_gives_no_answer_is_left_for_a_while_and_then_tried_again() -> None:
    clock = Clock()
    addresses = Addresses(TWO, clock)
    addresses.is_away("http://two:2")
    assert {addresses.of(user) for user in range(4)} == {"http://one:1"}
    clock.now += AWAY_SECONDS
    assert addresses.of(1) == "http://two:2"


def test_where_nobody_answers_everybody_asks_its_own_again() -> None:
    addresses = Addresses(TWO, Clock())
    for address in addresses.all:
        addresses.is_away(address)
    assert [addresses.of(0), addresses.of(1)] == list(addresses.all)


def test_with_one_address_nothing_is_said_twice_and_no_key_is_needed() -> None:
    alone = Addresses(TWO[:1])
    assert not alone.repeats
    assert alone.pause(1, None, None, 0.0) is None


@pytest.mark.parametrize("remedy", [None, "wait", "repeat"])
def test_what_the_client_repeats_is_repeated_and_never_before_its_time(remedy: str | None) -> None:
    addresses = Addresses(TWO, chance=lambda: 1.0)
    first, second = addresses.pause(1, remedy, None, 0.0), addresses.pause(2, remedy, None, 0.0)
    assert first is not None
    assert second == 2 * first
    assert addresses.pause(1, remedy, 3.0, 0.0) == 3.0


@pytest.mark.parametrize(
    ("tries", "remedy", "spent"),
    [(1, "fix", 0.0), (1, "reload", 0.0), (1, "none", 0.0), (8, None, 0.0), (2, None, 30.0)],
)
def test_what_the_client_tells_its_caller_is_a_failure(tries: int, remedy: str | None, spent: float) -> None:
    assert Addresses(TWO).pause(tries, remedy, None, spent) is None


# -- what was acknowledged


def test_an_acknowledged_entry_that_is_missing_and_any_that_is_there_twice_are_told() -> None:
    talk = Talk("call-1")
    for turn in (talk.begin(), talk.begin()):
        talk.acknowledged(turn)
    talk.begin()  # nobody answered: it may be there, or not
    assert talk.promised == 4
    all = ["user-0", "assistant-0", "user-1", "assistant-1"]
    for found, lost, doubled in (
        (all, [], []),
        ([*all, "user-2", "assistant-2", "said by another"], [], []),
        (all[:-1], ["call-1 assistant-1"], []),
        ([*all, "user-1"], [], ["call-1 user-1"]),
        ([*all, "user-2", "user-2"], [], ["call-1 user-2"]),
    ):
        kept = Kept()
        kept.look(talk, found)
        assert (kept.sessions, kept.entries, kept.lost, kept.doubled) == (1, 4, lost, doubled)


# -- what the report shows


def line(second: int, **server: tuple[float, float, float]) -> str:
    told: dict[str, Any] = {
        name: {"started": started, "memory_bytes": memory, "processor_seconds": used}
        for name, (started, memory, used) in server.items()
    }
    sample = {"at": 1_000.0 + second, "users": 5, "requests": 10 * second, "failures": 0, "server": told}
    return json.dumps(sample) + "\n"


def killed_and_started_again() -> Samples:
    lines = [line(second, one=(1.0, 50.0, second / 2), two=(1.0, 60.0, second / 2)) for second in range(10)]
    lines += [line(second, one=(1.0, 50.0, second / 2)) for second in (10, 11)]
    lines += [
        line(second, one=(1.0, 50.0, second / 2), two=(1_012.0, 30.0, (second - 12) / 4)) for second in range(12, 21)
    ]
    return Samples(lines)


def test_a_process_that_was_started_again_is_another_one() -> None:
    samples = killed_and_started_again()
    assert list(samples.memory) == ["one", "two", "two, start 2"]
    assert {share for _, share in samples.processor["two"]} == {0.5}
    assert {share for _, share in samples.processor["two, start 2"]} == {0.25}, "no negative one at its start"
    assert {value for _, value in samples.throughput} == {10.0}


def test_memory_is_judged_of_those_who_are_there_at_the_end() -> None:
    lasting = killed_and_started_again().lasting()
    assert {name: set(values) for name, values in lasting.items()} == {"one": {50.0}, "two, start 2": {30.0}}


def test_pictures_and_marks_have_one_beginning() -> None:
    samples = killed_and_started_again()
    rows = ["Timestamp,Type,Name,50%,99%", "1003,GET,/sessions,5,9", "1004,GET,/sessions,N/A,N/A"]
    assert latencies(rows, samples.began) == {"GET /sessions": {"50%": [(3.0, 5.0)], "99%": [(3.0, 9.0)]}}
    assert marks([json.dumps({"at": 1_009.5, "what": "kill -9 of two"})], samples.began) == [(9.5, "kill -9 of two")]


def test_a_line_that_was_cut_in_the_middle_is_left_out() -> None:
    assert Samples([line(0), line(1), line(2)[:20]]).throughput == [(1.0, 10.0)]
