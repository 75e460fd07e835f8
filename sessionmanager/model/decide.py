"""Head + command + now → the entries that say what changes, or an error. Nothing else decides anything.

A decision is a tuple of drafts; an empty one means that there is nothing to do and nothing is committed. The same head
and the same command always give the same drafts, so a lost race is decided again from the newest head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct

from sessionmanager.errors import (
    FieldError,
    FloorLost,
    Invalid,
    NotResumable,
    PreconditionRequired,
    TooLarge,
    VersionConflict,
)
from sessionmanager.model import instants, services, settable
from sessionmanager.model.entry import Draft, Entry
from sessionmanager.model.floor import check_number
from sessionmanager.model.fold import StateData, StatusData, encode_data, patched_fields
from sessionmanager.model.head import Head, Seat
from sessionmanager.model.states import Transition, next_status, not_resumable_because
from sessionmanager.words import SERVICE_ENTRY_ID_PREFIX, Instant, NotResumableReason

Expected = frozenset[int] | Literal["*"] | None
"""The precondition of a caller: one of these versions, whatever is newest, or none was sent."""

_encode = msgspec.json.Encoder().encode


class Bounds(NamedTuple):
    """Sizes that a decision must hold; the defaults are those of the HTTP reference, "Limits"."""

    context_bytes_max: int = 256 * 1024
    metadata_bytes_max: int = 16 * 1024
    document_bytes_max: int = 1024 * 1024
    entry_bytes_max: int = 64 * 1024
    depth_max: int = 64


class Append(Struct, frozen=True):
    """What of a batch is new, and where each line of the batch is or will be (-1-i: the i-th new one)."""

    drafts: tuple[Draft, ...]
    places: tuple[int, ...]
    duplicates: tuple[str, ...]


def check_version(head: Head, expected: Expected) -> None:
    """Hold the caller's precondition. Raises PreconditionRequired (None) or VersionConflict."""
    if expected is None:
        raise PreconditionRequired("send If-Match with the version that you change, or * for whatever is newest")
    if expected != "*" and head.version not in expected:
        raise VersionConflict(head.version)


def create(
    fields: Mapping[str, Raw],
    drafts: Sequence[Draft],
    bounds: Bounds,
    seats: tuple[Seat, ...] = (),
    asked: tuple[Draft, ...] = (),
) -> tuple[Draft, ...]:
    """The first commit of a session: every field it begins with, the services it waits for, what else it asks for (its
    room), and the entries it begins with."""
    settable.check(dict(fields), bounds.context_bytes_max, bounds.metadata_bytes_max)
    first = [Draft(type="state", data=encode_data(StateData(created=Raw(_encode(dict(fields)))))), *asked]
    before = "initiated"
    if seats:
        before = "waiting_for_services"
        waits = StatusData(transition="wait", from_="initiated")
        first += [services.required(seats), Draft(type="status", status=before, data=encode_data(waits))]
    if not drafts:
        return tuple(first)
    fresh, _, _ = _fresh(drafts, {})
    return (*first, _status_draft("append", before, "active"), *fresh)


def patch(head: Head, body: Raw, *, is_merge: bool, expected: Expected, bounds: Bounds) -> tuple[Draft, ...]:
    """One `state` entry with the patch as it was sent, or nothing where it changes nothing."""
    check_version(head, expected)
    fields = patched_fields(
        head, body, is_merge=is_merge, bytes_max=bounds.document_bytes_max, depth_max=bounds.depth_max
    )
    if not fields:
        return ()
    settable.check(fields, bounds.context_bytes_max, bounds.metadata_bytes_max)
    return (Draft(type="state", data=encode_data(StateData(merge=body) if is_merge else StateData(operations=body))),)


def append(
    head: Head, drafts: Sequence[Draft], known: Mapping[str, int], now: Instant, speaker: str | None = None
) -> Append:
    """The lines of a batch that the session does not have yet; `known` maps entry ids that it has to their seqs.

    Where it has all of them nothing is refused, whatever its status is by now: the batch is a repeat.
    speaker: the participant in whose name a bound token appends. Raises IllegalTransition, FloorLost.
    """
    fresh, places, duplicates = _fresh(drafts, known)
    _check_floor(head, fresh, now, speaker)
    after = next_status("append", head.status) if fresh else head.status
    if after != head.status:
        fresh = (_status_draft("append", head.status, after), *fresh)
        places = tuple(place if place >= 0 else place - 1 for place in places)
    return Append(fresh, places, duplicates)


def woken(head: Head) -> tuple[Draft, ...]:
    """The entry by which a session becomes active because something goes on in it; none where it is. Raises
    IllegalTransition."""
    after = next_status("append", head.status)
    return () if after == head.status else (_status_draft("append", head.status, after),)


def _check_floor(head: Head, drafts: Sequence[Draft], now: Instant, speaker: str | None) -> None:
    """Hold what is said for the bot against whoever has the floor. Cost: nothing where no floor was ever claimed."""
    floor = head.detail.floor
    for draft in drafts:
        number = None if draft.floor is UNSET else draft.floor
        if floor is None and number is None:
            continue
        check_number(floor, number, now, speaks=draft.type == "message" and draft.role == "assistant")
        if number is not None and speaker is not None and floor is not None and floor.holder != speaker:
            raise FloorLost(floor.number, "this number is another participant's")


def _fresh(
    drafts: Sequence[Draft], known: Mapping[str, int]
) -> tuple[tuple[Draft, ...], tuple[int, ...], tuple[str, ...]]:
    fresh: list[Draft] = []
    places: list[int] = []
    duplicates: list[str] = []
    here: dict[str, int] = {}
    for draft in drafts:
        entry_id = draft.id
        if entry_id is not UNSET:
            found = known.get(entry_id, here.get(entry_id))
            if found is not None:
                places.append(found)
                duplicates.append(entry_id)
                continue
            here[entry_id] = -1 - len(fresh)
        places.append(-1 - len(fresh))
        fresh.append(draft)
    return tuple(fresh), tuple(places), tuple(duplicates)


def transition(
    head: Head, name: Transition, *, reason: str | None = None, error: str | None = None, expected: Expected = "*"
) -> tuple[Draft, ...]:
    """One `status` entry. Raises IllegalTransition, VersionConflict."""
    check_version(head, expected)
    return (_status_draft(name, head.status, next_status(name, head.status), reason, error),)


def resume(head: Head, max_age_seconds: float | None, now: Instant) -> tuple[Draft, ...]:
    """One `status` entry that counts the resume. Raises NotResumable with the reason, before anything changes."""
    reason = resumable(head, max_age_seconds, now)
    if reason is not None:
        raise NotResumable(reason)
    return (_status_draft("resume", head.status, next_status("resume", head.status)),)


def resumable(head: Head, max_age_seconds: float | None, now: Instant) -> NotResumableReason | None:
    """Why the session cannot be resumed, or None. Age counts from the last visible commit."""
    expired = max_age_seconds is not None and age_seconds(head, now) > max_age_seconds
    if head.profile.expires_at is not None and head.profile.expires_at <= now:
        expired = True
    return not_resumable_because(head.status, expired)


def age_seconds(head: Head, now: Instant) -> float:
    return max(0.0, instants.seconds_between(head.pulse.last_activity, now))


def _status_draft(
    name: Transition, before: str, after: str, reason: str | None = None, error: str | None = None
) -> Draft:
    data = StatusData(transition=name, from_=before, reason=reason, error=error)
    return Draft(type="status", status=after, data=encode_data(data))


def place(drafts: Sequence[Draft], *, entry_count: int, version: int, now: Instant, actor: str) -> tuple[Entry, ...]:
    """The drafts as entries of one commit, after `entry_count` others. Ids that nobody chose are `e<seq>`."""
    entries: list[Entry] = []
    for seq, draft in enumerate(drafts, entry_count + 1):
        entries.append(
            Entry(
                seq=seq,
                version=version,
                id=f"{SERVICE_ENTRY_ID_PREFIX}{seq}" if draft.id is UNSET else draft.id,
                type=draft.type,
                role=draft.role,
                content=draft.content,
                heard=draft.heard,
                generated=draft.generated,
                call_id=draft.call_id,
                name=draft.name,
                arguments=draft.arguments,
                output=draft.output,
                status=draft.status,
                from_seq=draft.from_seq,
                to_seq=draft.to_seq,
                floor=draft.floor,
                data=draft.data,
                at=now if draft.at is UNSET else draft.at,
                recorded_at=now,
                actor=actor,
            )
        )
    return tuple(entries)


def check_sizes(lines: Sequence[bytes], bounds: Bounds, skip: int = 0) -> None:
    """Hold each line that a client sent under its bound. `skip`: lines of our own before them."""
    if max(map(len, lines), default=0) <= bounds.entry_bytes_max:
        return
    errors = [
        FieldError(f"/entries/{i}", f"over {bounds.entry_bytes_max} bytes")
        for i, line in enumerate(lines[skip:])
        if len(line) > bounds.entry_bytes_max
    ]
    if len(errors) == 1 and len(lines) - skip == 1:
        raise TooLarge(bounds.entry_bytes_max, "the entry")
    if errors:
        raise Invalid(errors)
