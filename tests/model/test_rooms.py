"""A session and its room by decisions and folds alone: asked for, opened, closed; what does not agree, when to look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionmanager.errors import IllegalTransition
from sessionmanager.model import decide, instants, participants
from sessionmanager.model.rooms import steps
from sessionmanager.model.rooms.config import config_of, deviations, merged, room_name
from sessionmanager.model.rooms.looking import wants_opening
from sessionmanager.model.timers import Policy, timers
from sessionmanager.words import Key
from tests.support.room_world import KEY, NAME, NOW, POLICY, SID, World, of, opened, there

pytestmark = pytest.mark.unit


# -- names and metadata


def test_a_room_has_one_name_and_no_two_sessions_share_one() -> None:
    keys = [Key(tenant, session) for tenant in ("a", "b", "a-b") for session in ("s", "s-1", "b-s")]
    assert len({room_name(key) for key in keys}) == len(keys)
    assert room_name(KEY) == room_name(Key("acme", "call-1"))
    assert room_name(KEY).startswith("call-1-")


@pytest.mark.parametrize(
    ("kind", "turns", "mode", "voice"),
    [
        (None, "none", None, False),
        ("text", "none", None, False),
        ("voice-ptt", "client", "push-to-talk", True),
        ("voice-vad", "server", "continuous", True),
    ],
)
def test_metadata_follows_from_the_type(kind: Any, turns: str, mode: str | None, voice: bool) -> None:
    said = config_of(KEY, kind)
    assert (said["sessionId"], said["roomId"], said["sessionType"]) == ("call-1", NAME, kind)
    assert (said["turnDetection"], said["voiceMode"], said["voiceActivityEnabled"]) == (turns, mode, voice)
    assert said["adaptiveStream"] is said["dynacast"] is True
    assert said["audioSettings"] == {"echoCancellation": True, "noiseSuppression": True, "autoGainControl": True}


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.integers(), max_size=4).map(json.dumps)))
def test_whatever_stands_in_the_metadata_ours_is_set_and_what_others_wrote_is_kept(metadata: str) -> None:
    wanted = config_of(KEY, "voice-vad")
    after = merged(wanted, metadata)
    assert deviations(wanted, after) == {}
    try:
        before = json.loads(metadata)
    except ValueError:
        before = None
    kept = before if isinstance(before, dict) else {}
    assert json.loads(after) == {**kept, **wanted}


# -- asked, opened, closed


def test_a_session_that_asks_for_its_room_is_due_at_once_and_looked_at_a_second_after_it_is_open() -> None:
    world = World()
    assert (world.room.sync_state, world.room.sid, world.due) == ("syncing", None, NOW)
    assert wants_opening(world.head, world.room, world.seen(sid=None))
    (data,) = of(world.look(world.seen(opened=True)), "room")
    assert (data["event"], data["reason"], data["room"]["sid"]) == ("room_state_change", "opened", SID)
    assert world.due == instants.plus(world.entries[-1].recorded_at, 1.0)
    (data,) = of(world.look(), "room")
    assert (data["event"], data["trigger"], world.room.sync_state) == ("session_state_sync", "initial", "active")
    assert world.room.sync_attempts == 0
    assert world.look() == [], "what agrees is written nowhere"


def test_asking_again_changes_nothing_but_whether_the_room_is_held_against_the_session() -> None:
    world = opened()
    assert steps.ask(world.head, enabled=None) == steps.ask(world.head, enabled=True) == ()
    world.commit(steps.ask(world.head, enabled=False))
    assert not world.room.sync_enabled
    assert world.due is None
    world.commit(steps.ask(world.head, enabled=True))
    assert (world.room.sync_enabled, world.room.sync_state) == (True, "syncing")


def test_a_room_that_was_asked_for_is_opened_although_sync_is_off() -> None:
    world = World(asks=False)
    world.commit(steps.ask(world.head, enabled=False))
    assert world.due is not None
    world.look(world.seen(opened=True))
    assert world.due is None


@pytest.mark.parametrize("name", ["end", "fail"])
def test_a_session_that_is_over_has_no_room_any_more_and_gets_none(name: Any) -> None:
    world = opened()
    world.transition(name)
    assert (world.room.sync_state, world.due) == ("ending", world.now)
    assert world.look() == []
    (data,) = of(world.commit(steps.closed(world.head)), "room")
    assert (data["event"], data["reason"]) == ("room_state_change", "closed")
    assert (world.room.sync_state, world.room.sid, world.due) == ("idle", None, None)
    assert steps.closed(world.head) == ()
    with pytest.raises(IllegalTransition):
        steps.ask(world.head, enabled=None)


def test_a_session_that_rests_closes_its_room_and_opens_it_when_it_wakes() -> None:
    world = opened()
    world.join("anna")
    world.look(world.seen(there()))
    world.transition("suspend")
    assert world.person("anna").room_sid is None
    world.commit(steps.closed(world.head))
    assert steps.ask(world.head, enabled=None) == (), "it is opened when the session wakes"
    world.commit(decide.resume(world.head, None, world.now))
    assert (world.room.sync_state, world.due) == ("syncing", world.now)
    assert wants_opening(world.head, world.room, world.seen(sid=None))


def test_a_room_that_livekit_closed_for_want_of_people_is_idle_until_somebody_comes() -> None:
    world = opened()
    seen = world.seen(sid=None)
    assert not wants_opening(world.head, world.room, seen)
    (data,) = of(world.look(seen), "room")
    assert (data["event"], data["reason"], data["room"]["sync_state"]) == ("room_state_change", "closed", "idle")
    assert "inconsistencies" not in data
    assert world.look(world.seen(sid=None)) == []
    assert world.due is not None, "somebody may come with a token that is still good"
    (data,) = of(world.look(world.seen(sid="RM_two", metadata="")), "room")
    assert (data["reason"], world.room.sid) == ("adopted", "RM_two")


def test_an_idle_room_is_opened_again_by_asking() -> None:
    world = opened()
    world.look(world.seen(sid=None))
    world.commit(steps.ask(world.head, enabled=None))
    assert wants_opening(world.head, world.room, world.seen(sid=None))


# -- what does not agree


def test_what_was_found_is_set_right_counted_and_told() -> None:
    world = opened("voice-vad")
    wrong = json.dumps({**config_of(KEY, "voice-ptt"), "theirs": 1})
    judged = world.judged(world.seen(metadata=wrong))
    assert [effect.do for effect in judged.effects] == ["configure"]
    assert json.loads(judged.effects[0].value) == {**config_of(KEY, "voice-vad"), "theirs": 1}
    (data,) = of(world.look(world.seen(metadata=wrong)), "room")
    assert (data["event"], data["trigger"]) == ("session_inconsistency", "timer")
    assert "turn_detection" in data["inconsistencies"]
    assert data["corrections"]["turnDetection"] == "server"
    assert (world.room.sync_attempts, world.room.inconsistency_detected) == (1, True)
    assert world.room.last_sync_at == world.entries[-1].recorded_at


def test_a_patch_of_the_type_reaches_the_room() -> None:
    world = opened("voice-vad")
    before = world.seen()
    world.commit(decide.patch(world.head, decide.Raw(b'{"type":"text"}'), is_merge=True, expected="*",
                              bounds=decide.Bounds()))  # fmt: skip
    judged = world.judged(before._replace(at=world.now))
    assert judged.corrections["turnDetection"] == "none"


def test_a_missing_microphone_is_told_once_when_its_owner_had_time_and_never_forced() -> None:
    world = opened("voice-vad")
    world.join("anna")
    world.look(world.seen(there()), "webhook")
    assert world.look(world.seen(there())) == [], "it may still come"
    world.later(5)
    (data,) = of(world.look(world.seen(there())), "room")
    assert (data["event"], data["inconsistencies"]) == ("session_inconsistency", ["microphone_missing:anna"])
    assert (world.room.inconsistencies, world.room.sync_attempts) == (("microphone_missing:anna",), 0)
    assert world.judged(world.seen(there())).effects == ()
    assert world.look(world.seen(there())) == []
    (data,) = of(world.look(world.seen(there(microphone="muted"))), "room")
    assert (data["event"], world.room.inconsistencies) == ("session_state_sync", ())


@pytest.mark.parametrize(("kind", "role"), [("agent", "bot"), ("service", "asr"), ("client", "viewer")])
def test_only_those_who_are_to_speak_are_asked_for_a_microphone(kind: Any, role: str) -> None:
    world = opened("voice-vad")
    world.join("one", kind, role=role)
    world.look(world.seen(there("one")), "webhook")
    world.later(60)
    assert world.look(world.seen(there("one"))) == []


def test_an_open_microphone_in_a_text_session_is_muted() -> None:
    for kind, effects in (("text", [("mute", "anna", "TR_1")]), (None, []), ("voice-ptt", [])):
        world = opened(kind)  # type: ignore[arg-type]
        world.join("anna")
        world.look(world.seen(there()), "webhook")
        judged = world.judged(world.seen(there(microphone="open", microphone_sid="TR_1")))
        assert [tuple(effect) for effect in judged.effects] == effects


def test_who_comes_and_goes_is_an_inconsistency_only_where_nobody_told() -> None:
    world = opened()
    world.join("anna")
    assert of(world.look(world.seen(there()), "webhook"), "room") == []
    (data,) = of(world.look(world.seen(), "timer"), "room")
    assert (data["event"], data["inconsistencies"]) == ("session_inconsistency", ["participant_missing:anna"])
    assert data["corrections"] == {"left": ["anna"]}


# -- interruptions


def test_a_silent_livekit_is_told_when_it_begins_and_aloud_when_it_lasts_and_nobody_is_given_up() -> None:
    world = opened()
    world.join("anna")
    world.look(world.seen(there()))

    def silent() -> list[str]:
        drafts = steps.unreachable(world.head, world.now, trigger="timer", error_seconds=10.0)
        return [data["event"] for data in of(world.commit(drafts), "room")]

    assert silent() == ["connection_interruption"]
    assert (world.room.sync_state, world.room.interrupted_at) == ("syncing", world.now)
    world.later(9)
    assert silent() == []
    world.later(1)
    assert silent() == ["session_inconsistency", "alert"]
    assert world.room.sync_state == "error"
    world.later(100)
    assert silent() == []
    assert world.person("anna").room_sid == "PA_1"
    (data,) = of(world.look(world.seen(there())), "room")
    assert (data["event"], data["trigger"]) == ("session_state_sync", "reconnect")
    assert (world.room.sync_state, world.room.interrupted_at) == ("active", None)


def test_a_room_that_was_lost_with_people_in_it_is_made_again_and_they_have_time_to_come_back() -> None:
    world = opened()
    world.join("anna", lease_seconds=None)
    world.look(world.seen(there()))
    assert wants_opening(world.head, world.room, world.seen(sid=None))
    (data,) = of(world.look(world.seen(sid="RM_two", opened=True)), "room")
    assert (data["event"], data["reason"]) == ("connection_interruption", "room-lost")
    assert "connection" in data["inconsistencies"]
    since = world.person("anna").room_since
    assert since is not None
    assert participants.due(world.head) == instants.plus(since, steps.RETURN_SECONDS)
    world.look(world.seen(there(sid="PA_2"), sid="RM_two"))
    assert (world.person("anna").room_sid, world.person("anna").status) == ("PA_2", "attached")
    assert (world.room.sync_state, world.room.sid) == ("active", "RM_two")


def test_a_room_that_somebody_else_made_anew_is_adopted() -> None:
    world = opened()
    (data,) = of(world.look(world.seen(sid="RM_two", metadata="")), "room")
    assert "room_id" in data["inconsistencies"]
    assert data["corrections"]["roomSid"] == "RM_two"
    assert world.room.sid == "RM_two"


# -- timers


def test_rooms_are_due_only_where_there_is_a_livekit_and_no_room_holds_up_archiving() -> None:
    world = opened()
    assert "rooms" in [due.work for due in timers(world.head, "warm", POLICY)]
    assert "rooms" not in [due.work for due in timers(world.head, "warm", Policy())]
    assert "rooms" not in [due.work for due in timers(world.head, "cold", POLICY)]


def test_while_somebody_is_in_the_room_a_quiet_session_is_not_suspended() -> None:
    world = opened()
    world.join("asr", "service", None)
    world.join("anna")
    world.look(world.seen(there("asr")))
    assert "suspend" in [due.work for due in timers(world.head, "warm", POLICY)], "services alone keep nothing awake"
    world.look(world.seen(there("asr"), there(sid="PA_2")))
    assert "suspend" not in [due.work for due in timers(world.head, "warm", POLICY)]
