"""Head + entries → head. The log says everything: whoever replays it from the first entry gets the same public head.

A fold never refuses: what may happen was decided before the entries were written (`model/decide.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from sessionmanager.model import participants, patching, services, settable
from sessionmanager.model.calls import legs
from sessionmanager.model.entry import Entry
from sessionmanager.model.floor import emptied
from sessionmanager.model.head import (
    OPEN_CALLS_MAX,
    PARTICIPANTS_GONE_MAX,
    Attachment,
    Head,
    Intent,
    KeyRing,
    LastMessage,
    OpenCall,
    Participant,
    Profile,
    Pulse,
    Work,
)
from sessionmanager.model.rooms import events as rooms
from sessionmanager.words import Instant, Key, Status

LAST_ERROR_CHARS_MAX: Final = 1_000
UNBOUNDED: Final = 2**62


class StateData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of a `state` entry: exactly one of its members is set.

    created: every field given at creation. merge: a merge patch. operations: a JSON patch. attached: an attachment that
    was put. detached: the name of one that was removed.
    """

    created: Raw | UnsetType = UNSET
    merge: Raw | UnsetType = UNSET
    operations: Raw | UnsetType = UNSET
    attached: Attachment | None = None
    detached: str | None = None


class StatusData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of a `status` entry."""

    transition: str
    from_: str = msgspec.field(name="from")
    reason: str | None = None
    error: str | None = None


_state = msgspec.json.Decoder(StateData)
_status = msgspec.json.Decoder(StatusData)
_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def encode_data(data: StateData | StatusData) -> Raw:
    return Raw(_encode(data))


def begin(key: Key, entry: Entry, *, status: Status, size: int, keys: KeyRing | None = None) -> Head:
    """The head that the first entry of a log (a `state` entry with `created`) makes, at rev 1."""
    assert (entry.seq, entry.version) == (1, 1), "a log begins with entry 1 of version 1"
    created = _state.decode(entry.data or b"").created
    assert created is not UNSET, "a log begins with what was created"
    at = entry.recorded_at
    head = Head(
        key=key,
        rev=1,
        pulse=Pulse(version=1, status=status, updated_at=at, last_activity=at, entry_count=1),
        profile=Profile(id=key.id, created_at=at),
        work=Work(tail_bytes=size),
        keys=keys or KeyRing(),
    )
    return settable.apply(head, settable.check(_members.decode(created), UNBOUNDED, UNBOUNDED))


def fold(head: Head, entries: Sequence[Entry], *, rev: int, size: int) -> Head:
    """The head after one commit of these entries (`size`: bytes of their lines). Cost: that of the entries."""
    run = _Run(head)
    for entry in entries:
        run.take(entry)
    last = entries[-1]
    pulse, work = head.pulse, head.work
    return Head(
        key=head.key,
        rev=rev,
        pulse=Pulse(
            version=last.version,
            status=run.status,
            updated_at=last.recorded_at,
            last_activity=last.recorded_at,
            ended_at=run.ended_at,
            end_reason=run.end_reason,
            resumed_count=run.resumed_count,
            current_turn=run.turns,
            entry_count=pulse.entry_count + len(entries),
            error_count=run.errors,
            last_error=run.last_error,
        ),
        profile=run.head.profile,
        detail=run.head.detail,
        context=run.head.context,
        work=Work(
            tail_first_seq=work.tail_first_seq,
            tail_bytes=work.tail_bytes + size,
            open_calls=run.open_calls,
            open_calls_dropped=run.dropped,
            last_message=run.last_message,
            due_at=work.due_at,
            listed_at=work.listed_at,
            warm_bodies=work.warm_bodies,
            archived=work.archived,
            room_at=run.head.work.room_at,
            intents=run.head.work.intents,
        ),
        index=head.index,
        keys=head.keys,
        attachments=run.head.attachments,
    )


class _Run:
    """The moving fields of one fold, so that a batch of 256 entries builds one new head, not 256."""

    __slots__ = ("dropped", "end_reason", "ended_at", "errors", "head", "last_error", "last_message", "open_calls",
                 "resumed_count", "status", "turns")  # fmt: skip

    def __init__(self, head: Head) -> None:
        pulse, work = head.pulse, head.work
        self.head = head
        self.status: Status = pulse.status
        self.ended_at = pulse.ended_at
        self.end_reason = pulse.end_reason
        self.resumed_count = pulse.resumed_count
        self.turns = pulse.current_turn
        self.errors = pulse.error_count
        self.last_error = pulse.last_error
        self.open_calls = work.open_calls
        self.dropped = work.open_calls_dropped
        self.last_message = work.last_message

    def take(self, entry: Entry) -> None:
        match entry.type:
            case "message":
                self.turns += 1
                self.last_message = LastMessage(
                    seq=entry.seq, role=entry.role or "", interrupted=_was_interrupted(entry)
                )
                if self.head.detail.services:
                    self.head = services.stirred(self.head, entry.recorded_at)
            case "function_call":
                self._open(entry)
            case "function_call_output":
                self._close(entry.call_id or "")
            case "error":
                self._fail(_text(entry.content))
            case "state":
                self._state(entry, _state.decode(entry.data or b""))
            case "status":
                self._status(entry, _status.decode(entry.data or b""))
            case "participant":
                self.head = participants.folded(self.head, participants.decode_event(entry.data or b""))
            case "call":
                self.head = legs.folded(self.head, legs.decode_event(entry.data or b""))
            case "room":
                self.head = rooms.folded(self.head, rooms.decode_event(entry.data or b""), entry.recorded_at)
            case "service":
                self.head = services.folded(self.head, services.decode_event(entry.data or b""))
            case _:
                pass  # `summary` and `custom.*` say something about the conversation, nothing about the head

    def _open(self, entry: Entry) -> None:
        call_id = entry.call_id or ""
        if any(call.call_id == call_id for call in self.open_calls):
            return
        calls = (
            *self.open_calls,
            OpenCall(call_id=call_id, name=entry.name or "", seq=entry.seq, at=entry.recorded_at),
        )
        self.dropped += max(0, len(calls) - OPEN_CALLS_MAX)
        self.open_calls = calls[-OPEN_CALLS_MAX:]

    def _close(self, call_id: str) -> None:
        if self.open_calls:
            self.open_calls = tuple(call for call in self.open_calls if call.call_id != call_id)

    def _fail(self, text: str | None) -> None:
        self.errors += 1
        self.last_error = text[:LAST_ERROR_CHARS_MAX] if text else None

    def _state(self, entry: Entry, data: StateData) -> None:
        if data.attached is not None or data.detached is not None:
            self.head = _with_attachment(self.head, entry, data)
            return
        patch = data.operations if data.merge is UNSET else data.merge
        if patch is UNSET:
            return
        values = patched_fields(self.head, patch, is_merge=data.merge is not UNSET)
        self.head = settable.apply(self.head, settable.check(values, UNBOUNDED, UNBOUNDED))

    def _status(self, entry: Entry, data: StatusData) -> None:
        self.status = entry.status  # pyright: ignore[reportAttributeAccessIssue]
        at = entry.recorded_at
        if data.transition == "resume":
            self.resumed_count += 1
        elif data.transition == "suspend":
            self.open_calls = tuple(
                call if call.interrupted_at else replace(call, interrupted_at=at) for call in self.open_calls
            )
            self.head = _detach_all(self.head, at)
        elif data.transition in ("end", "fail"):
            self.ended_at = at
            self.end_reason = data.reason if data.transition == "end" else "error"
            if data.transition == "fail":
                self._fail(data.error)
            self.head = _detach_all(self.head, at)
        self.head = services.after_status(self.head, self.status, data.from_, at)
        self.head = rooms.after_status(self.head, self.status, data.from_, at)


def patched_fields(
    head: Head, patch: Raw, *, is_merge: bool, bytes_max: int = UNBOUNDED, depth_max: int = UNBOUNDED
) -> dict[str, Raw]:
    """The settable fields that a patch changes, with their new JSON texts, not yet checked. Raises Invalid."""
    before = settable.document(head)
    whole = Raw(_encode(before))
    if is_merge:
        return settable.changed_fields(before, patching.merge(whole, patch))
    after = patching.apply_operations(whole, patch, bytes_max=bytes_max, depth_max=depth_max)
    return settable.changed_fields(before, after)


def _with_attachment(head: Head, entry: Entry, data: StateData) -> Head:
    """The pointer set or removed. The intent of the new object is fulfilled; the old object is owed a removal."""
    attachments = dict(head.attachments)
    old = attachments.pop(data.attached.name if data.attached is not None else data.detached or "", None)
    intents = head.work.intents
    if data.attached is not None:
        attachments[data.attached.name] = data.attached
        intents = tuple(intent for intent in intents if intent.objects != (data.attached.object,))
    if old is not None:
        gone = Intent(kind="collect", id=f"a{entry.seq}", objects=(old.object,), at=entry.recorded_at)
        intents = (*intents, gone)
    return replace(head, attachments=attachments, work=replace(head.work, intents=intents))


def _was_interrupted(entry: Entry) -> bool:
    """Speech of which less was heard than was generated."""
    return entry.heard is not UNSET and entry.generated is not UNSET and bytes(entry.heard) != bytes(entry.generated)


def _text(content: Any) -> str | None:
    if content is UNSET:
        return None
    raw = bytes(content)
    return str(msgspec.json.decode(raw)) if raw[:1] == b'"' else raw.decode()


def _detach_all(head: Head, at: Instant) -> Head:
    """Everybody who was attached has left, and nobody has the floor; of the gone the newest are kept, the older are in
    the log."""
    present = head.detail.participants
    floor = emptied(head.detail.floor)
    if floor == head.detail.floor and all(person.status == "left" for person in present):
        return head
    gone: tuple[Participant, ...] = tuple(
        person if person.status == "left" else _gone(person, at) for person in present
    )
    return replace(head, detail=replace(head.detail, participants=gone[-PARTICIPANTS_GONE_MAX:], floor=floor))


def _gone(person: Participant, at: Instant) -> Participant:
    since = person.room_since if person.room_sid is None else at
    return replace(person, status="left", left_at=at, lease_expires_at=None, room_sid=None, room_since=since)


def replay(key: Key, entries: Sequence[Entry], sizes: Sequence[int]) -> Head:
    """The head that a whole log makes, from its first entry on; `rev` counts the commits. For scrubbers and tests."""
    head = begin(key, entries[0], status="initiated", size=sizes[0])
    i = 1
    while i < len(entries):
        end = i
        while end < len(entries) and entries[end].version == entries[i].version:
            end += 1
        head = fold(head, entries[i:end], rev=head.rev + 1, size=sum(sizes[i:end]))
        if entries[i].version == 1:
            head = replace(head, rev=1)
        i = end
    return head
