"""Participants come, go, come back as themselves, and are given up when their lease is missed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from sessionmanager.errors import AlreadyExists, Full, IllegalTransition, NotFound, Unauthenticated
from sessionmanager.model import decide, participants
from sessionmanager.model import floor as floors
from sessionmanager.model.head import PARTICIPANTS_GONE_MAX, PARTICIPANTS_MAX, Head, Participant
from sessionmanager.model.participants import Join
from sessionmanager.words import Instant
from tests.support.heads import NOW, a_head, commit, later

pytestmark = pytest.mark.unit


def joined(head: Head, identity: str, now: Instant = NOW, **how: Any) -> tuple[Head, Participant]:
    wanted = Join(how.pop("id", f"par_{identity}"), how.pop("kind", "agent"), identity, how.pop("role", "bot"), **how)
    drafts, person = participants.join(head, wanted, now)
    return commit(head, drafts, now), person


def test_whoever_joins_is_in_the_head_with_a_lease() -> None:
    head, person = joined(a_head(), "anna", lease_seconds=20.0, metadata={"n": Raw(b"1.10")})
    assert head.detail.participants == (person,)
    assert (person.status, person.epoch, person.lease_expires_at) == ("attached", 0, later(20))
    assert bytes(person.metadata["n"]) == b"1.10"


def test_the_same_identity_again_is_the_same_participant() -> None:
    head, first = joined(a_head(), "anna")
    head, again = joined(head, "anna", later(5), id="par_other")
    assert (again.id, again.epoch, again.joined_at) == (first.id, 0, NOW)
    assert len(head.detail.participants) == 1


def test_an_identity_of_another_kind_is_refused_while_it_is_there() -> None:
    head, _ = joined(a_head(), "anna")
    with pytest.raises(AlreadyExists):
        joined(head, "anna", kind="human")


def test_a_token_made_before_somebody_left_is_void_for_ever() -> None:
    head, person = joined(a_head(), "anna")
    participants.require_present(head, person.id, person.epoch)
    head = commit(head, participants.leave(head, person.id, later(1), "removed"), later(1))
    with pytest.raises(Unauthenticated):
        participants.require_present(head, person.id, person.epoch)
    head, back = joined(head, "anna", later(2))
    assert (back.id, back.epoch, back.left_at) == (person.id, 1, None)
    with pytest.raises(Unauthenticated):
        participants.require_present(head, person.id, person.epoch)
    participants.require_present(head, back.id, back.epoch)


def test_leaving_twice_is_one_leave() -> None:
    head, person = joined(a_head(), "anna")
    head = commit(head, participants.leave(head, person.id, NOW))
    assert participants.leave(head, person.id, NOW) == ()
    with pytest.raises(NotFound):
        participants.leave(head, "par_nobody", NOW)


def test_a_missed_lease_disconnects_and_news_attaches_again_under_the_same_token() -> None:
    head, person = joined(a_head(), "anna", lease_seconds=20.0)
    assert participants.due(head) == later(20)
    assert participants.expire(head, later(19.9)) == ()
    head = commit(head, participants.expire(head, later(20)), later(20))
    assert participants.find(head, person.id).status == "disconnected"
    assert participants.due(head) is None
    head = commit(head, participants.reattach(head, person.id, later(30)), later(30))
    back = participants.find(head, person.id)
    assert (back.status, back.epoch, back.lease_expires_at) == ("attached", 0, later(50))


def test_without_a_lease_nobody_is_given_up() -> None:
    head, _ = joined(a_head(), "anna", lease_seconds=None)
    assert participants.expire(head, later(10**8)) == ()
    assert participants.due(head) is None


@pytest.mark.parametrize("how", ["leave", "lease", "suspend", "end"])
def test_whoever_goes_gives_the_floor_to_the_next_in_the_queue_or_to_nobody(how: str) -> None:
    head, anna = joined(a_head(), "anna", lease_seconds=20.0)
    head, ben = joined(head, "ben", lease_seconds=None)
    floor = floors.claim(None, anna.id, human=False, lease_seconds=600, policy="reject", now=NOW).floor
    floor = floors.claim(floor, ben.id, human=False, lease_seconds=600, policy="queue", now=NOW).floor
    head = replace(head, detail=replace(head.detail, floor=floor))
    match how:
        case "leave":
            drafts = participants.leave(head, anna.id, later(20))
        case "lease":
            drafts = participants.expire(head, later(20))
        case _:
            drafts = decide.transition(head, "suspend" if how == "suspend" else "end")
    after = commit(head, drafts, later(20)).detail.floor
    assert after is not None
    everybody_gone = how in ("suspend", "end")
    assert (after.holder, after.number) == ((None, 1) if everybody_gone else (ben.id, 2))


def test_somebody_in_the_queue_who_goes_is_not_served() -> None:
    head, anna = joined(a_head(), "anna", lease_seconds=None)
    head, ben = joined(head, "ben", lease_seconds=None)
    floor = floors.claim(None, anna.id, human=False, lease_seconds=600, policy="reject", now=NOW).floor
    floor = floors.claim(floor, ben.id, human=False, lease_seconds=600, policy="queue", now=NOW).floor
    head = replace(head, detail=replace(head.detail, floor=floor))
    head = commit(head, participants.leave(head, ben.id, later(1)), later(1))
    head = commit(head, participants.leave(head, anna.id, later(2)), later(2))
    assert head.detail.floor is not None
    assert head.detail.floor.holder is None


def test_a_floor_lease_that_is_over_is_passed_on_though_its_holder_lives() -> None:
    head, anna = joined(a_head(), "anna", lease_seconds=None)
    floor = floors.claim(None, anna.id, human=False, lease_seconds=10, policy="reject", now=NOW).floor
    head = replace(head, detail=replace(head.detail, floor=floor))
    assert participants.due(head) == later(10)
    head = commit(head, participants.expire(head, later(10)), later(10))
    assert head.detail.floor is not None
    assert head.detail.floor.holder is None
    assert participants.find(head, anna.id).status == "attached"


def test_what_was_seen_only_grows_and_never_beyond_the_newest_version() -> None:
    head, anna = joined(a_head(), "anna")
    head = commit(head, participants.change(head, anna.id, None, 2))
    assert participants.find(head, anna.id).last_seen_version == 2
    assert participants.change(head, anna.id, None, 1) == ()
    head = commit(head, participants.change(head, anna.id, None, 10**6))
    assert participants.find(head, anna.id).last_seen_version == 3


def test_a_session_holds_so_many_and_remembers_the_last_who_left() -> None:
    head = a_head()
    for i in range(PARTICIPANTS_MAX):
        head, _ = joined(head, f"p{i}")
    with pytest.raises(Full):
        joined(head, "one too many")
    for i in range(PARTICIPANTS_GONE_MAX + 5):
        head = commit(head, participants.leave(head, f"par_p{i}", later(i)), later(i))
    gone = [person.id for person in head.detail.participants if person.status == "left"]
    assert gone == [f"par_p{i}" for i in range(5, PARTICIPANTS_GONE_MAX + 5)]
    assert len(head.detail.participants) == PARTICIPANTS_MAX - 5


def test_nobody_joins_what_is_over() -> None:
    head = a_head()
    head = commit(head, decide.transition(head, "end"))
    with pytest.raises(IllegalTransition):
        joined(head, "anna")


def test_a_renewal_is_written_when_less_than_half_of_the_lease_is_left() -> None:
    _, person = joined(a_head(), "anna", lease_seconds=20.0)
    assert not participants.needs_renewal(person, later(10))
    assert participants.needs_renewal(person, later(10.001))
    assert participants.renewed(person, later(11)).lease_expires_at == later(31)
