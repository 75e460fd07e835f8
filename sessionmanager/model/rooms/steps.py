"""From a look at a room to the entries of one commit. Decided on the newest head, so that a late look does no harm.

Participants: coming into the room is the best news there is, so whoever is in it needs no lease. Leaving it begins a
short grace, so that a reconnect is neither a farewell nor a welcome; a heartbeat within it makes the lease whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from sessionmanager.errors import Full, IllegalTransition
from sessionmanager.model import instants, participants
from sessionmanager.model.entry import Draft
from sessionmanager.model.head import Head, Participant
from sessionmanager.model.participants import Join
from sessionmanager.model.rooms.config import room_name
from sessionmanager.model.rooms.events import OWN_TRIGGERS, RoomData, asked, draft
from sessionmanager.model.rooms.looking import Judgement, Moved, Person, Seen, judge
from sessionmanager.model.rooms.state import Room
from sessionmanager.model.services import LIVE
from sessionmanager.words import TERMINAL_STATUSES, Instant, ParticipantKind

LEFT_SECONDS: Final = 5.0
"""Whoever has left the room, and lets nothing be heard, is given up after this."""
RETURN_SECONDS: Final = 30.0
"""The same where the room itself was lost: clients try again for about so long."""
KINDS: Final[dict[str, ParticipantKind]] = {"agent": "agent", "ingress": "bridge", "bridge": "bridge"}
"""What those are who came by somebody else's token, by LiveKit's kind; all others are clients."""


def ask(head: Head, *, enabled: bool | None) -> tuple[Draft, ...]:
    """A session asks for its room, for it to be opened again, or for sync to be switched. Raises IllegalTransition."""
    if head.status in TERMINAL_STATUSES:
        raise IllegalTransition(head.status, (), f"a session that is {head.status} has no room")
    room, rests = head.detail.room, head.status not in LIVE
    if room is None:
        return (asked(room_name(head.key), enabled=enabled is not False, rests=rests),)
    drafts: list[Draft] = []
    if enabled is not None and enabled != room.sync_enabled:
        room = replace(room, sync_enabled=enabled)
        # Switched on again, it is held against the session as one that was just opened.
        room = replace(room, sync_state="syncing") if enabled and room.sid is not None and not rests else room
        drafts.append(_change(room, "manual", "sync-on" if enabled else "sync-off"))
    if not rests and room.sync_state == "idle":
        drafts.append(_change(replace(room, sync_state="syncing"), "manual", "asked"))
    return tuple(drafts)


def _change(room: Room, trigger: str, reason: str) -> Draft:
    return draft(RoomData(event="room_state_change", trigger=trigger, reason=reason, room=room))


def closed(head: Head) -> tuple[Draft, ...]:
    """The room of a session that rests or is over has been closed."""
    room = head.detail.room
    if room is None or room.sync_state != "ending":
        return ()
    after = replace(room, sid=None, sync_state="idle", interrupted_at=None)
    return (_change(after, "session", "closed"),)


def unreachable(head: Head, now: Instant, *, trigger: str, error_seconds: float) -> tuple[Draft, ...]:
    """LiveKit gives no answer: said once when it begins, and once more, aloud, when it lasts."""
    room = head.detail.room
    if room is None or head.status not in LIVE:
        return ()
    if room.interrupted_at is None:
        after = replace(room, sync_state="syncing", interrupted_at=now)
        return (draft(RoomData(event="connection_interruption", trigger=trigger, reason="unreachable", room=after)),)
    if room.sync_state == "error" or instants.seconds_between(room.interrupted_at, now) < error_seconds:
        return ()
    after = replace(room, sync_state="error", inconsistency_detected=True)
    found = RoomData(
        event="session_inconsistency",
        trigger=trigger,
        reason="unreachable",
        room=after,
        inconsistencies=("connection",),
        corrections={"state": "error"},
        critical=True,
    )
    return draft(found), draft(
        RoomData(event="alert", trigger=trigger, reason="unreachable", room=after, critical=True)
    )


def settle(
    head: Head, seen: Seen, now: Instant, *, trigger: str, new_pid: Callable[[], str]
) -> tuple[tuple[Draft, ...], Judgement]:
    """Everything that a look found, written down; what was to be done at LiveKit has been done. Nothing where all
    agrees."""
    room = head.detail.room
    if room is None or head.status not in LIVE or room.sync_state == "ending":
        return (), Judgement()
    judged = judge(head, room, seen, now)
    lost = room.sid is not None and seen.sid != room.sid
    drafts: list[Draft] = []
    for moved in judged.moved:
        made, head = _move(head, moved, now, lost=lost, new_pid=new_pid)
        drafts += made
    said = _said(room, seen, judged, now, trigger=trigger, lost=lost)
    return (*drafts, *([draft(said)] if said is not None else [])), judged


def _said(room: Room, seen: Seen, judged: Judgement, now: Instant, *, trigger: str, lost: bool) -> RoomData | None:
    """The entry about the room itself, None where there is nothing to say."""
    if seen.sid is None:
        if room.sid is None:
            return None
        after = replace(room, sid=None, sync_state="idle", inconsistencies=(), interrupted_at=None)
        return RoomData(event="room_state_change", trigger=trigger, reason="closed", room=after)
    if room.sid is None:
        after = replace(
            room,
            sid=seen.sid,
            sync_state="syncing",
            inconsistency_detected=False,
            inconsistencies=(),
            interrupted_at=None,
        )
        reason = "opened" if seen.opened else "adopted"
        return RoomData(event="room_state_change", trigger=trigger, reason=reason, room=after)
    if lost:
        after = replace(
            room,
            sid=seen.sid,
            sync_state="syncing",
            inconsistency_detected=True,
            interrupted_at=room.interrupted_at or now,
        )
        return _found("connection_interruption", trigger, _corrected(after, now), judged, reason="room-lost")
    corrected = _is_news(judged, trigger)
    if room.sync_state != "active" or room.interrupted_at is not None:
        settled = replace(
            room, sync_state="active", interrupted_at=None, last_sync_at=now, inconsistencies=judged.remaining
        )
        if trigger in OWN_TRIGGERS:
            trigger = "initial" if room.interrupted_at is None else "reconnect"
        return _found("session_state_sync", trigger, _corrected(settled, now) if corrected else settled, judged)
    after = replace(room, inconsistencies=judged.remaining)
    if corrected:
        return _found("session_inconsistency", trigger, _corrected(after, now), judged)
    if judged.remaining == room.inconsistencies:
        return None
    if judged.remaining:
        return _found("session_inconsistency", trigger, replace(after, inconsistency_detected=True), judged)
    return _found("session_state_sync", trigger, replace(after, last_sync_at=now), judged)


def _is_news(judged: Judgement, trigger: str) -> bool:
    """Whether something was set right. Who came and went is no inconsistency where LiveKit has said that it is time to
    look: that is how it is meant to be."""
    told = trigger == "webhook"
    return any(
        one not in judged.remaining and not (told and one.startswith(("participant_missing:", "participant_unknown:")))
        for one in judged.found
    )


def _corrected(room: Room, now: Instant) -> Room:
    return replace(room, sync_attempts=room.sync_attempts + 1, last_sync_at=now, inconsistency_detected=True)


def _found(event: Any, trigger: str, room: Room, judged: Judgement, *, reason: str | None = None) -> RoomData:
    return RoomData(
        event=event,
        trigger=trigger,
        reason=reason,
        room=room,
        inconsistencies=judged.found,
        corrections=dict(judged.corrections),
    )


# -- participants


def _move(
    head: Head, moved: Moved, now: Instant, *, lost: bool, new_pid: Callable[[], str]
) -> tuple[tuple[Draft, ...], Head]:
    person, there = moved
    if there is None:
        assert person is not None, "somebody has moved"
        return _written(head, "changed", _gone(person, now, lost=lost), "room-lost" if lost else "room-left")
    if person is None or person.status == "left":
        return _let_in(head, there, now, new_pid())
    after = replace(person, status="attached", lease_expires_at=None, room_sid=there.sid, room_since=now)
    event = {"joining": "joined", "disconnected": "reattached"}.get(person.status, "changed")
    return _written(head, event, after, "room")


def _gone(person: Participant, now: Instant, *, lost: bool) -> Participant:
    gone = replace(person, room_sid=None, room_since=now)
    if person.status != "attached":
        return gone
    return replace(gone, lease_expires_at=instants.plus(now, RETURN_SECONDS if lost else LEFT_SECONDS))


def _let_in(head: Head, there: Person, now: Instant, pid: str) -> tuple[tuple[Draft, ...], Head]:
    """Somebody whom LiveKit let in by another's token: a caller by SIP, an agent that was dispatched."""
    kind = KINDS.get(there.kind, "client")
    role = kind if there.kind in ("standard", kind) else there.kind
    try:
        _, person = participants.join(head, Join(pid, kind, there.identity, role, None), now)
    except Full:
        return (), head
    return _written(head, "joined", replace(person, room_sid=there.sid, room_since=now), "room")


def _written(head: Head, event: Any, person: Participant, reason: str) -> tuple[tuple[Draft, ...], Head]:
    made = participants.draft(event, person, reason=reason)
    assert made.data is not UNSET, "an event of a participant has data"
    return (made,), participants.folded(head, participants.decode_event(made.data))
