"""A look at a room, and what does not agree with its session: pure, so that it can be judged again on a newer head.

Where two replicas look at once, the older look must not undo what the newer one found: a look says nothing about a
participant whose place in the room was written down after the look began (`seen.at`). Events of LiveKit never get here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from sessionmanager.model import instants
from sessionmanager.model.head import Head, Participant
from sessionmanager.model.rooms.config import MODES, config_of, deviations, merged
from sessionmanager.model.rooms.grants import GRANTS, role_of
from sessionmanager.model.rooms.state import Room
from sessionmanager.words import Instant

MICROPHONE_SECONDS: Final = 5.0
"""So long after it came into the room a front end may take to publish its microphone."""
FOUND_MAX: Final = 64

Microphone = Literal["none", "open", "muted"]


class Person(NamedTuple):
    """Somebody in the room, as LiveKit lists it. kind: LiveKit's word in lower case. active: media can flow.

    bound: the participant that a token of ours names; None = it came by a token of somebody else. counts: no recorder
    or the like.
    """

    identity: str
    sid: str
    kind: str = "standard"
    active: bool = True
    hidden: bool = False
    counts: bool = True
    bound: str | None = None
    microphone: Microphone = "none"
    microphone_sid: str = ""
    attributes: Mapping[str, str] = {}


class Seen(NamedTuple):
    """A room at LiveKit. at: a moment before it was asked for, by warm's clock. sid: None = there is no such room.

    opened: it was made by whoever looked, just now.
    """

    at: Instant
    sid: str | None
    metadata: str = ""
    people: tuple[Person, ...] = ()
    opened: bool = False


class Effect(NamedTuple):
    """What is to be done at LiveKit; twice does no harm. value: the metadata, or a track's sid."""

    do: Literal["configure", "remove", "mute"]
    identity: str = ""
    value: str = ""


class Moved(NamedTuple):
    """A participant whose place is not what the head says. there: None = it is not in the room."""

    person: Participant | None
    there: Person | None


class Judgement(NamedTuple):
    """found: every inconsistency. remaining: those of them that only participants can mend. corrections: by name."""

    found: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    corrections: Mapping[str, Any] = {}
    moved: tuple[Moved, ...] = ()


def wants_opening(head: Head, room: Room, seen: Seen) -> bool:
    """Whether a room that is not there is to be made: one was asked for, or people were in it when it was lost."""
    if seen.sid is not None:
        return False
    return room.sync_state in ("syncing", "error") or any(person.room_sid for person in head.detail.participants)


def judge(head: Head, room: Room, seen: Seen, now: Instant) -> Judgement:
    """Everything in which a session and its open room differ. Cost: one pass over both lists."""
    found: list[str] = []
    effects: list[Effect] = []
    corrections: dict[str, Any] = {}
    # A room that LiveKit has closed because nobody was in it is no fault: then there is none now.
    if room.sid is not None and seen.sid not in (None, room.sid):
        found.append("connection" if seen.opened else "room_id")
        corrections["roomSid"] = seen.sid
    if seen.sid is not None:
        wrong = deviations(config_of(head.key, head.profile.type), seen.metadata)
        if wrong and not seen.opened:
            found += [_named(name) for name in wrong]
            corrections |= wrong
        if wrong:
            effects.append(Effect("configure", value=merged(wrong, seen.metadata)))
    moved = _moved(head, seen, found, effects, corrections)
    silent = _microphones(head, seen, now, found, effects, corrections)
    return Judgement(tuple(found[:FOUND_MAX]), silent[:FOUND_MAX], tuple(effects), corrections, moved)


def _named(member: str) -> str:
    return {"turnDetection": "turn_detection", "roomId": "room_id"}.get(member, f"config:{member}")


def _moved(
    head: Head, seen: Seen, found: list[str], effects: list[Effect], corrections: dict[str, Any]
) -> tuple[Moved, ...]:
    there = {person.identity: person for person in seen.people if person.counts}
    moved: list[Moved] = []
    for known in head.detail.participants:
        one = there.pop(known.identity, None)
        if known.room_since is not None and known.room_since >= seen.at:
            continue
        if one is None:
            if known.room_sid is not None:
                moved.append(Moved(known, None))
                found.append(f"participant_missing:{known.identity}")
        elif known.status == "left" and (one.bound is not None or one.sid == known.room_sid):
            # Its token outlives it, LiveKit knows nothing of that.
            effects.append(Effect("remove", known.identity))
            found.append(f"participant_left:{known.identity}")
        elif one.active and (one.sid != known.room_sid or known.status != "attached"):
            moved.append(Moved(known, one))
            found.append(f"participant_unknown:{known.identity}")
    for one in there.values():
        if one.active and not one.hidden:
            moved.append(Moved(None, one))
            found.append(f"participant_unknown:{one.identity}")
    if moved or effects:
        removed = [effect.identity for effect in effects if effect.do == "remove"]
        corrections |= {"removed": removed} if removed else {}
        came = [move.there.identity for move in moved if move.there is not None]
        left = [move.person.identity for move in moved if move.there is None and move.person is not None]
        corrections |= {name: value for name, value in (("joined", came), ("left", left)) if value}
    return tuple(moved)


def _microphones(
    head: Head, seen: Seen, now: Instant, found: list[str], effects: list[Effect], corrections: dict[str, Any]
) -> tuple[str, ...]:
    """Voice needs a microphone, which only its owner can open; in a text session an open one is muted."""
    kind, people = head.profile.type, {person.identity: person for person in seen.people}
    silent: list[str] = []
    for known in head.detail.participants:
        one = people.get(known.identity)
        if kind is None or one is None or known.status != "attached" or known.kind not in ("client", "human"):
            continue
        if kind == "text" and one.microphone == "open":
            effects.append(Effect("mute", known.identity, one.microphone_sid))
            found.append(f"microphone_open:{known.identity}")
            corrections.setdefault("muted", []).append(known.identity)
        settled = known.room_since is not None and instants.seconds_between(known.room_since, now) >= MICROPHONE_SECONDS
        speaks = GRANTS[role_of(known.kind, known.role)].publish
        if MODES[kind].voice and settled and speaks and one.microphone == "none":
            silent.append(f"microphone_missing:{known.identity}")
    found += silent
    return tuple(silent)
