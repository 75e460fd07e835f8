"""The floor: one speaker, growing numbers, and no word under an old one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessionmanager.errors import FloorLost, FloorTaken
from sessionmanager.model import floor as floors
from sessionmanager.model import instants
from sessionmanager.model.floor import Floor
from sessionmanager.words import Instant

pytestmark = pytest.mark.unit

NOW: Instant = "2026-11-21T12:00:00.000Z"


def later(seconds: float) -> Instant:
    return instants.plus(NOW, seconds)


def claimed(floor: Floor | None, pid: str, now: Instant = NOW, **how: Any) -> Floor:
    given = {"human": False, "lease_seconds": 30.0, "policy": "reject", **how}
    after = floors.claim(floor, pid, now=now, **given)
    assert after.floor is not None
    return after.floor


def test_the_first_claim_gets_number_one_and_the_next_holder_a_greater_one() -> None:
    first = claimed(None, "a")
    assert (first.holder, first.number) == ("a", 1)
    second = claimed(floors.leave_floor(first, "a", NOW), "b")
    assert (second.holder, second.number) == ("b", 2)


def test_a_holder_that_claims_again_keeps_its_number_and_gets_a_whole_lease() -> None:
    again = claimed(claimed(None, "a"), "a", later(20))
    assert (again.number, again.lease_expires_at) == (1, later(50))


def test_a_claim_on_a_held_floor_is_refused_with_who_holds_it_and_for_how_long() -> None:
    with pytest.raises(FloorTaken) as refused:
        floors.claim(claimed(None, "a"), "b", human=False, lease_seconds=30, policy="reject", now=later(10))
    assert (refused.value.holder, refused.value.number, refused.value.retry_after_seconds) == ("a", 1, 20.0)


def test_a_queued_claim_is_served_when_the_holder_gives_the_floor_back() -> None:
    waiting = claimed(claimed(None, "a"), "b", policy="queue")
    assert (waiting.holder, [w.participant for w in waiting.queue]) == ("a", ["b"])
    assert floors.claim(waiting, "b", human=False, lease_seconds=30, policy="queue", now=NOW).position == 1
    served = floors.leave_floor(waiting, "a", later(1))
    assert served is not None
    assert (served.holder, served.number, served.queue, served.since) == ("b", 2, (), later(1))


def test_a_queue_that_is_full_refuses() -> None:
    floor = claimed(None, "a")
    for i in range(floors.QUEUE_MAX):
        floor = claimed(floor, f"w{i}", policy="queue")
    with pytest.raises(FloorTaken, match="waiting"):
        claimed(floor, "late", policy="queue")


def test_interrupt_takes_the_floor_from_a_bot() -> None:
    taken = claimed(claimed(None, "a"), "b", policy="interrupt")
    assert (taken.holder, taken.number) == ("b", 2)


def test_nobody_but_a_human_takes_the_floor_from_a_human() -> None:
    human = claimed(claimed(None, "bot"), "anna", policy="interrupt", human=True)
    with pytest.raises(FloorTaken):
        claimed(human, "bot", policy="interrupt")
    assert claimed(human, "ben", policy="interrupt", human=True).holder == "ben"


def test_after_its_lease_the_holder_says_nothing_more_though_nobody_else_has_claimed() -> None:
    floor = claimed(None, "a")
    floors.check_number(floor, 1, later(29.9), speaks=True)
    with pytest.raises(FloorLost):
        floors.check_number(floor, 1, later(30), speaks=True)


def test_an_old_number_is_refused_whoever_holds_the_floor_now() -> None:
    floor = claimed(claimed(None, "a"), "b", policy="interrupt")
    with pytest.raises(FloorLost) as lost:
        floors.check_number(floor, 1, NOW, speaks=True)
    assert lost.value.number == 2


def test_speech_without_a_number_is_refused_where_the_floor_is_required_or_a_human_has_it() -> None:
    free = Floor()
    floors.check_number(free, None, NOW, speaks=True)
    required = replace(free, required=True)
    floors.check_number(required, None, NOW, speaks=False)
    with pytest.raises(FloorLost, match="requires"):
        floors.check_number(required, None, NOW, speaks=True)
    human = claimed(None, "anna", human=True)
    with pytest.raises(FloorLost, match="human"):
        floors.check_number(human, None, NOW, speaks=True)
    floors.check_number(human, None, later(30), speaks=True)


def test_a_hand_over_is_claimed_whatever_the_policy_by_whom_it_is_for_and_by_nobody_else() -> None:
    offered = floors.offer(claimed(None, "bot"), "bot", "human", 20, NOW)
    assert offered.holder == "bot", "the bot speaks on until somebody takes over"
    with pytest.raises(FloorTaken):
        claimed(offered, "other")
    taken = claimed(offered, "anna", human=True)
    assert (taken.holder, taken.human, taken.offer, taken.number) == ("anna", True, None, 2)


def test_a_hand_over_that_nobody_claims_expires_and_the_bot_keeps_the_floor() -> None:
    offered = floors.offer(claimed(None, "bot"), "bot", "anna", 20, NOW)
    assert floors.due(offered) == later(20)
    assert floors.expire(offered, later(19.9)) is None
    after = floors.expire(offered, later(20))
    assert after is not None
    assert (after.holder, after.offer, after.number) == ("bot", None, 1)
    with pytest.raises(FloorTaken):
        claimed(offered, "anna", later(20))


def test_only_the_holder_hands_over() -> None:
    with pytest.raises(FloorLost):
        floors.offer(claimed(None, "a"), "b", "human", 20, NOW)
    with pytest.raises(FloorLost):
        floors.offer(None, "b", "human", 20, NOW)


def test_when_a_lease_is_over_the_next_in_the_queue_has_the_floor() -> None:
    waiting = claimed(claimed(None, "a"), "b", policy="queue")
    with pytest.raises(FloorTaken):
        claimed(waiting, "c", later(31))
    after = floors.expire(waiting, later(31))
    assert after is not None
    assert (after.holder, after.number) == ("b", 2)


def test_when_everybody_has_gone_the_number_stays() -> None:
    after = floors.emptied(claimed(claimed(None, "a"), "b", policy="queue"))
    assert after == Floor(number=1)
    assert floors.emptied(None) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["claim", "leave", "offer", "expire"]),
            st.sampled_from(["a", "b", "c", "human"]),
            st.sampled_from(["reject", "queue", "interrupt"]),
            st.floats(0, 40),
        ),
        max_size=40,
    )
)
def test_numbers_only_grow_and_two_holders_never_have_the_same(steps: list[tuple[str, str, Any, float]]) -> None:
    floor: Floor | None = None
    seconds = 0.0
    holders: dict[int, str] = {}
    for step, pid, policy, wait in steps:
        seconds += wait
        now = later(seconds)
        before = floor.number if floor is not None else 0
        try:
            match step:
                case "claim":
                    floor = claimed_or_same(floor, pid, policy, now)
                case "leave":
                    floor = floors.leave_floor(floor, pid, now) or floor
                case "offer":
                    floor = floors.offer(floor, pid, "human", 10, now)
                case _:
                    floor = floors.expire(floor, now) or floor
        except (FloorTaken, FloorLost):
            continue
        if floor is None:
            continue
        assert floor.number >= before
        if floor.holder is not None:
            assert holders.setdefault(floor.number, floor.holder) == floor.holder
            assert floor.holder not in {waiting.participant for waiting in floor.queue}
        assert len({waiting.participant for waiting in floor.queue}) == len(floor.queue) <= floors.QUEUE_MAX


def claimed_or_same(floor: Floor | None, pid: str, policy: Any, now: Instant) -> Floor | None:
    claim = floors.claim(floor, pid, human=pid == "human", lease_seconds=15, policy=policy, now=now)
    return claim.floor or floor
