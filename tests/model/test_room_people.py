"""Who is in a room, as a look finds it: coming, leaving, coming back, and looks that are late."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionmanager.model import decide, instants, participants
from sessionmanager.model.fold import replay
from sessionmanager.model.rooms import steps
from sessionmanager.model.rooms.looking import Seen
from tests.support.room_world import KEY, SID, World, of, opened, there

pytestmark = pytest.mark.unit


# -- who is there


def test_whoever_comes_into_the_room_is_attached_and_needs_no_lease() -> None:
    world = opened()
    world.join("anna")
    (data,) = of(world.look(world.seen(there()), "webhook"), "participant")
    anna = world.person("anna")
    assert data["reason"] == "room"
    assert (anna.room_sid, anna.status, anna.lease_expires_at) == ("PA_1", "attached", None)
    assert participants.due(world.head) is None
    assert world.look(world.seen(there())) == []


@pytest.mark.parametrize(("status", "event"), [("joining", "joined"), ("disconnected", "reattached")])
def test_coming_is_news_of_somebody_who_was_expected_or_given_up(status: Any, event: str) -> None:
    world = opened()
    world.join("asr", "service", None)
    person = participants.find(world.head, world.person("asr").id)
    world.commit((participants.draft("changed", participants.replace(person, status=status)),))
    (data,) = of(world.look(world.seen(there("asr"))), "participant")
    assert (data["event"], world.person("asr").status) == (event, "attached")


@pytest.mark.parametrize("lease_seconds", [None, 3_600.0])
def test_whoever_leaves_the_room_is_given_up_after_a_short_grace(lease_seconds: float | None) -> None:
    world = opened()
    world.join("anna", lease_seconds=lease_seconds)
    world.look(world.seen(there()))
    world.look(world.seen())
    assert (world.person("anna").room_sid, world.person("anna").status) == (None, "attached")
    left_at = world.person("anna").room_since
    assert left_at is not None
    assert participants.due(world.head) == instants.plus(left_at, steps.LEFT_SECONDS)
    world.later(steps.LEFT_SECONDS)
    world.commit(participants.expire(world.head, world.now))
    assert world.person("anna").status == "disconnected"
    world.look(world.seen(there(sid="PA_2")))
    assert (world.person("anna").status, world.person("anna").epoch) == ("attached", 0)


def test_a_reconnect_between_two_looks_is_one_change() -> None:
    world = opened()
    world.join("anna")
    world.look(world.seen(there()))
    (data,) = of(world.look(world.seen(there(sid="PA_2")), "webhook"), "participant")
    assert (data["event"], data["participant"]["room_sid"]) == ("changed", "PA_2")


def test_somebody_who_has_not_come_yet_has_not_come() -> None:
    world = opened()
    world.join("anna")
    assert world.look(world.seen(there(active=False))) == []


def test_whoever_left_the_session_is_taken_out_of_the_room_however_good_the_token() -> None:
    world = opened()
    world.join("anna")
    world.look(world.seen(there(bound="par_1")), "webhook")
    world.commit(participants.leave(world.head, world.person("anna").id, world.now))
    for person in (there(bound="par_1"), there(bound=None)):
        judged = world.judged(world.seen(person))
        assert [(effect.do, effect.identity) for effect in judged.effects] == [("remove", "anna")]
    world.look(world.seen(there(bound="par_1")))
    assert world.person("anna").status == "left"
    assert world.room.sync_attempts == 1
    again = world.judged(world.seen(there(sid="PA_2", bound="par_1")))
    assert [effect.do for effect in again.effects] == ["remove"], "its token is still good at LiveKit"


def test_whoever_comes_by_another_s_token_is_let_in_and_let_in_again() -> None:
    world = opened()
    world.look(world.seen(there("sip_1", kind="sip"), there("agent-1", "PA_2", kind="agent")))
    assert {one.identity: (one.kind, one.role, one.status) for one in world.head.detail.participants} == {
        "sip_1": ("client", "sip", "attached"),
        "agent-1": ("agent", "agent", "attached"),
    }
    world.transition("suspend")
    world.later(1).commit(decide.resume(world.head, None, world.now))
    world.later(1).look(world.seen(there("agent-1", "PA_3", kind="agent"), opened=True))
    assert (world.person("agent-1").status, world.person("agent-1").epoch) == ("attached", 1)


def test_recorders_and_hidden_strangers_are_nobody() -> None:
    world = opened()
    assert world.look(world.seen(there("eg", kind="egress", counts=False), there("x", "PA_2", hidden=True))) == []


def test_a_full_session_lets_nobody_more_in() -> None:
    world = opened()
    people = [there(f"p{i}", f"PA_{i}", kind="sip") for i in range(70)]
    world.look(world.seen(*people))
    assert len(world.head.detail.participants) == 64


# -- late looks


def test_a_look_that_began_before_somebody_came_does_not_send_them_away() -> None:
    world = opened()
    world.join("anna")
    old = world.seen()
    world.later(0.01)
    world.look(world.seen(there()))
    assert world.look(old) == []
    assert world.person("anna").room_sid == "PA_1"


def test_a_look_that_began_before_somebody_left_does_not_bring_them_back() -> None:
    world = opened()
    world.join("anna")
    world.look(world.seen(there()))
    old = world.seen(there())
    world.later(0.01)
    world.look(world.seen())
    assert of(world.look(old), "participant") == []
    assert world.person("anna").room_sid is None


# -- everything together

MOVES = st.lists(
    st.sampled_from(["anna in", "bert in", "anna out", "bert out", "lost", "silent", "look", "hint", "sleep", "wake"]),
    max_size=25,
)


@settings(deadline=None)
@given(MOVES)
def test_whatever_happens_the_log_makes_the_head_and_one_quiet_look_brings_agreement(moves: list[str]) -> None:
    world = opened("voice-ptt")
    inside: dict[str, str] = {}
    sid = SID
    for counter, move in enumerate(moves):
        world.later(1)
        name, _, what = move.partition(" ")
        if what == "in" and name not in inside and world.head.status != "dormant":
            world.join(name)
            inside[name] = f"PA_{counter}"
        elif what == "out":
            inside.pop(name, None)
        elif move == "lost":
            inside, sid = {}, f"RM_{counter}"
        elif move == "silent":
            world.commit(steps.unreachable(world.head, world.now, trigger="timer", error_seconds=5.0))
        elif move == "sleep" and world.head.status != "dormant":
            world.transition("suspend")
            world.commit(steps.closed(world.head))
            inside = {}
        elif move == "wake":
            world.commit(decide.resume(world.head, None, world.now))
        elif move in ("look", "hint"):
            _agree(world, sid, inside, "timer" if move == "look" else "webhook")
    world.later(1)
    if world.head.status == "dormant":
        world.commit(decide.resume(world.head, None, world.now))
    for _ in range(2):
        world.later(1)
        _agree(world, sid, inside, "timer")
    seen = {one.identity: one.room_sid for one in world.head.detail.participants if one.room_sid is not None}
    assert seen == inside
    assert world.room.sync_state == "active"
    assert world.look(_seen(world, sid, inside)) == [], "and is quiet from then on"
    made = replay(KEY, world.entries, [1] * len(world.entries))
    assert (made.detail.room, made.detail.participants) == (world.room, world.head.detail.participants)


def _seen(world: World, sid: str, inside: dict[str, str]) -> Seen:
    people = [there(name, one, microphone="muted") for name, one in inside.items()]
    return world.seen(*people, sid=sid)


def _agree(world: World, sid: str, inside: dict[str, str], trigger: str) -> None:
    world.look(_seen(world, sid, inside), trigger)
