"""A session's services: asked, told, joined, lost; what is due when, and what the session's status makes of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest
from msgspec.structs import replace

from sessionmanager.model import decide, instants, participants, service_steps, services
from sessionmanager.model.entry import Draft
from sessionmanager.model.service_steps import JOIN_TIMEOUT, TELL_SECONDS
from sessionmanager.model.services import ATTEMPTS_MAX, Candidate
from sessionmanager.model.timers import Policy, due_now, next_due
from sessionmanager.words import Key
from tests.support.seats import ASR, KEY, NOW, World, ready

pytestmark = pytest.mark.unit

POLICY: Final = Policy(idle_suspend_seconds=0, archive_after_days=0)


# -- the way to ready


def test_a_session_that_requires_services_waits_for_them_and_is_due_at_once() -> None:
    world = World("asr", "tts", "asr")
    assert world.head.status == "waiting_for_services"
    assert world.head.profile.required_services == ("asr", "tts")
    assert world.due == NOW
    assert due_now(world.head, "warm", POLICY, NOW) == ["services"]


def test_one_that_requires_none_is_never_due() -> None:
    world = World()
    assert (world.head.status, world.due, world.step()) == ("initiated", None, ())
    assert next_due(world.head, "warm", POLICY) is None


def test_who_is_asked_is_a_participant_that_has_yet_to_come() -> None:
    world = World("asr")
    world.step()
    seat = world.seat()
    assert (seat.status, seat.service, seat.attempts, seat.asked_version) == ("registered", "asr-1", 1, 2)
    person = services.person_of(world.head, seat)
    assert person is not None
    assert (person.kind, person.identity, person.role, person.status) == ("service", "asr-1", "asr", "joining")
    assert (world.head.profile.registered_services, world.head.profile.ready_services) == (("asr-1",), ())
    assert seat.due_at == instants.plus(NOW, TELL_SECONDS)


def test_one_that_says_it_has_joined_is_ready_and_so_is_its_session() -> None:
    world = World("asr")
    world.step()
    world.answer("joined")
    assert (world.seat().status, world.head.profile.ready_services) == ("ready", ("asr-1",))
    assert world.head.status == "waiting_for_services"
    world.step()
    assert world.head.status == "ready"
    assert world.due == instants.plus(NOW, 300)


def test_one_that_accepted_is_ready_with_its_first_heartbeat() -> None:
    world = World("asr")
    world.step()
    world.answer("accepted")
    assert (world.seat().status, world.due) == ("joining", instants.plus(NOW, 60))
    world.later(59).commit(participants.reattach(world.head, world.pid(), world.now))
    assert world.due is not None
    assert world.due <= world.now
    world.step()
    assert (world.seat().status, world.head.status) == ("ready", "ready")
    assert world.events() == ["required", "asked", "joining", "ready"]


def test_a_heartbeat_before_the_answer_counts_and_the_answer_then_says_nothing() -> None:
    world = World("asr")
    world.step()
    world.commit(participants.reattach(world.head, world.pid(), world.now))
    world.step()
    before = world.head.version
    world.answer("accepted")
    world.answer("joined")
    world.answer("refused", "late")
    assert (world.seat().status, world.head.version) == ("ready", before)


def test_joining_twice_is_joining_once() -> None:
    world = World("asr")
    world.step()
    version = world.seat().asked_version
    world.answer("joined")
    before = world.head
    world.answer("joined", version=version)
    world.commit(participants.reattach(world.head, world.pid(), world.now))
    assert world.head == before


def test_the_first_client_makes_a_ready_session_active() -> None:
    world = ready()
    world.client()
    assert world.due is not None
    assert world.due <= world.now
    world.step()
    assert (world.head.status, world.due) == ("active", None)


def test_a_client_that_was_there_before_makes_it_active_in_the_commit_that_makes_it_ready() -> None:
    world = World("asr")
    world.client()
    world.step()
    world.answer("joined")
    drafts = world.step()
    assert [draft.status for draft in drafts if draft.type == "status"] == ["ready", "active"]


@pytest.mark.parametrize("kind", ["service", "agent"])
def test_no_service_and_no_agent_counts_as_the_client(kind: Any) -> None:
    world = ready()
    wanted = participants.Join("par_x", kind, "x", "x", None)
    world.commit(participants.join(world.head, wanted, world.now)[0])
    assert world.step() == ()
    assert world.head.status == "ready"


def test_whoever_speaks_before_all_have_joined_makes_it_active_and_they_still_join() -> None:
    world = World("asr")
    world.step()
    said = (Draft(type="message", role="user"),)
    world.commit(decide.append(world.head, said, {}, world.now).drafts)
    assert world.head.status == "active"
    world.answer("joined")
    assert world.step() == ()
    assert (world.seat().status, world.due) == ("ready", None)


# -- what goes wrong


def test_one_that_never_comes_is_given_up_when_its_time_is_over_and_tried_again() -> None:
    world = World("asr")
    world.step()
    world.answer("accepted")
    pid = world.pid()
    world.later(60).step()
    seat = world.seat()
    assert (seat.status, seat.service, seat.reason) == ("disconnected", None, JOIN_TIMEOUT)
    assert seat.due_at == instants.plus(world.now, 30)
    assert participants.find(world.head, pid).status == "left", "its token is void"
    assert "asr" in (world.head.pulse.last_error or "")
    assert world.later(29.9).step() == ()
    world.later(0.1).step()
    assert (world.seat().status, world.seat().attempts) == ("registered", 2)


def test_one_that_comes_too_late_is_let_in_only_when_it_is_asked_again() -> None:
    world = World("asr")
    world.step()
    world.answer("accepted")
    pid, epoch = world.pid(), participants.find(world.head, world.pid()).epoch
    world.later(60).step()
    assert participants.reattach(world.head, pid, world.now) == ()
    world.later(30).step()
    again = participants.find(world.head, world.pid())
    assert (again.id, again.epoch) == (pid, epoch + 1)


def test_a_late_answer_to_an_earlier_request_changes_nothing() -> None:
    world = World("asr")
    world.step()
    old = world.seat().asked_version
    world.answer("refused", "status-500")
    world.later(30).step()
    before = world.head
    for outcome in ("joined", "accepted", "refused"):
        world.answer(outcome, version=old)
    assert world.head == before


def test_a_failed_one_is_asked_again_only_where_there_is_no_other() -> None:
    world = World("asr")
    world.candidates = [Candidate(f"asr-{i}", "asr") for i in range(1, 4)]
    asked = []
    for _ in range(4):
        world.step()
        asked.append(world.seat().service)
        world.answer("refused", "status-500")
        world.later(30)
    assert len(set(asked[:3])) == 3
    assert asked[3] in asked[:3]


def test_after_so_many_attempts_it_is_left_alone_until_the_session_wakes_anew() -> None:
    world = World("asr")
    world.commit(decide.transition(world.head, "activate"))
    for _ in range(ATTEMPTS_MAX):
        world.step()
        world.answer("refused", "status-500")
        world.later(30)
    assert (world.seat().due_at, world.due, world.events()[-1]) == (None, None, "abandoned")
    assert world.step() == ()
    world.commit(decide.transition(world.head, "suspend"))
    world.commit(decide.resume(world.head, None, world.now))
    assert (world.seat().attempts, world.due) == (0, world.now)


def test_a_seat_that_was_given_up_is_tried_again_when_somebody_speaks_a_while_later() -> None:
    world = World("asr")
    world.commit(decide.transition(world.head, "activate"))
    for _ in range(ATTEMPTS_MAX):
        world.step()
        world.answer("refused", "status-500")
        world.later(30)
    said = Draft(type="message", role="user")
    world.commit(decide.append(world.head, (said,), {}, world.now).drafts)
    assert world.due is None, "not with every word"
    world.later(services.ABANDONED_SECONDS).commit(decide.append(world.head, (said,), {}, world.now).drafts)
    assert (world.due, world.seat().attempts) == (world.now, 0)
    world.step()
    assert world.seat().status == "registered"


def test_where_nobody_has_looked_who_there_is_nobody_is_given_up() -> None:
    world = World("asr")
    how = {"client_seconds": 300.0, "new_pid": lambda: "par_x"}
    assert service_steps.step(world.head, world.now, choose=None, **how) == ()


def test_where_nobody_has_registered_it_looks_again_and_says_so() -> None:
    world = World("asr")
    world.candidates = [Candidate("tts-1", "tts")]
    world.step()
    assert (world.seat().reason, world.seat().due_at) == ("no-instance", instants.plus(NOW, 30))
    world.candidates = [ASR]
    world.later(30).step()
    assert world.seat().service == "asr-1"


def test_whoever_was_to_tell_it_and_died_is_followed_by_another() -> None:
    world = World("asr")
    world.step()
    first = world.seat()
    assert world.later(TELL_SECONDS - 0.1).step() == ()
    world.later(0.1).step()
    again = world.seat()
    assert (again.service, again.participant) == (first.service, first.participant)
    assert again.asked_version > first.asked_version
    assert services.effect_name(KEY, again) != services.effect_name(KEY, first)
    assert services.effect_name(KEY, again) == services.effect_name(KEY, replace(again, attempts=99))


def test_a_participant_that_leaves_empties_its_seat() -> None:
    world = ready()
    world.later(1).commit(participants.leave(world.head, world.pid(), world.now, "bored"))
    assert world.due is not None
    assert world.due <= world.now
    world.step()
    assert (world.seat().status, world.seat().reason) == ("disconnected", "gone")
    assert (world.head.status, world.head.profile.ready_services) == ("ready", ())


def test_one_that_is_lost_is_replaced_at_once() -> None:
    world = ready()
    pid = world.pid()
    world.candidates = [ASR, Candidate("asr-2", "asr")]
    world.later(5).commit(service_steps.lost(world.head, "asr-1", world.now, "service-lost", world.now))
    assert (world.seat().status, world.seat().due_at) == ("disconnected", world.now)
    assert participants.find(world.head, pid).status == "left"
    world.step()
    assert world.seat().service == "asr-2"


def test_news_of_a_loss_before_it_was_asked_says_nothing_about_its_new_life() -> None:
    world = ready()
    assert service_steps.lost(world.head, "asr-1", NOW, "service-lost", world.now) == ()
    assert service_steps.lost(world.head, "asr-2", instants.plus(NOW, 99), "service-lost", world.now) == ()


def test_an_identity_that_somebody_else_has_is_a_failure_not_an_error() -> None:
    world = World("asr")
    wanted = participants.Join("par_x", "agent", "asr-1", "x", None)
    world.commit(participants.join(world.head, wanted, world.now)[0])
    world.step()
    assert (world.seat().status, world.seat().reason) == ("disconnected", "already-exists")
    assert participants.find(world.head, "par_x").status == "attached"


# -- optional ones


def test_the_session_goes_on_without_an_optional_one() -> None:
    world = World("asr", "tts")
    world.candidates = [ASR, Candidate("tts-1", "tts")]
    world.step()
    world.answer("joined")
    assert world.step() == (), "the optional one may still come"
    world.answer("refused", "status-500", kind="tts")
    world.step()
    assert world.head.status == "ready"
    assert (world.head.pulse.error_count, world.told("error")) == (0, [])


def test_optional_ones_are_tried_before_the_session_goes_on_without_them() -> None:
    world = World("tts")
    assert services.due(world.head, 300.0) == NOW
    assert not services.must_move(world.head)
    world.candidates = [Candidate("tts-1", "tts")]
    world.step()
    assert (world.seat("tts").service, world.head.status) == ("tts-1", "waiting_for_services")


def test_an_optional_one_has_times_of_its_own() -> None:
    world = World("tts")
    world.candidates = [Candidate("tts-1", "tts")]
    world.step()
    world.answer("accepted", kind="tts")
    assert world.seat("tts").due_at == instants.plus(NOW, 20)
    world.later(20).step()
    assert world.seat("tts").due_at == instants.plus(world.now, 5)


# -- nobody comes


def test_a_session_that_lacks_a_service_when_the_client_time_is_over_has_failed() -> None:
    world = World("asr")
    world.candidates = []
    world.later(300).step()
    assert (world.head.status, world.due) == ("error", None)
    assert "asr" in (world.head.pulse.last_error or "")


def test_a_ready_session_to_which_no_client_came_has_ended_and_its_services_are_let_go() -> None:
    world = ready()
    pid = world.pid()
    assert world.later(299.9).step() == ()
    world.later(0.1).step()
    assert (world.head.status, world.head.pulse.end_reason, world.due) == ("ended", "client-timeout", None)
    assert participants.find(world.head, pid).status == "left"
    assert (world.seat().status, world.head.profile.registered_services) == ("disconnected", ())


def test_a_client_that_came_at_the_last_moment_is_not_turned_away() -> None:
    world = ready()
    world.later(299.9).client()
    world.later(0.1).step()
    assert world.head.status == "active"


@pytest.mark.parametrize("move", ["suspend", "end", "fail"])
def test_a_session_that_rests_or_is_over_is_owed_nothing(move: Any) -> None:
    for world in (World("asr"), ready()):
        world.commit(decide.transition(world.head, move))
        assert (world.due, world.step()) == (None, ())
        assert {seat.status for seat in world.head.detail.services} == {"disconnected"}
        assert service_steps.lost(world.head, "asr-1", instants.plus(NOW, 99), "x", world.now) == ()


def test_a_session_that_wakes_asks_for_its_services_anew() -> None:
    world = ready()
    world.commit(decide.transition(world.head, "suspend"))
    world.later(1_000).commit(decide.append(world.head, (Draft(type="message", role="user"),), {}, world.now).drafts)
    assert (world.head.status, world.due) == ("active", world.now)
    world.step()
    assert world.seat().service == "asr-1"


# -- who is chosen


def test_sessions_are_spread_over_instances() -> None:
    candidates = [Candidate(f"asr-{i}", "asr") for i in range(5)]
    seat = World("asr").seat()
    chosen = Counter(services.choose(Key("acme", f"call-{i}"), seat, candidates) for i in range(1_000))
    assert set(chosen) == {one.id for one in candidates}
    assert max(chosen.values()) < 2 * min(chosen.values())


def test_of_two_the_one_with_less_to_do_is_chosen() -> None:
    seat = World("asr").seat()
    for i in range(20):
        key = Key("acme", f"call-{i}")
        assert services.choose(key, seat, [Candidate("a", "asr", 0.9), Candidate("b", "asr", 0.1)]) == "b"
