"""The head: everything about a session but its history, in eight parts that change at different speeds.

A commit rewrites the parts it changed and no other, so an append costs the same whatever the context, the participants
or the index of the history weigh. Public parts hold the very JSON that readers get.

| part | public | changes | bound |
|---|---|---|---|
| pulse | yes | with every visible commit | about 0.4 KiB and `last_error` |
| profile | yes | when fields are patched | metadata 16 KiB, 64 labels, 64 external ids |
| detail | yes | participants, calls, realtime, audio | 96 participants, 16 live calls and 16 ended ones |
| context | yes | when patched | 256 KiB |
| work | no | with every commit | 128 open function calls, 64 keys of one intent |
| index | no | when a segment is sealed or moved | 16 references a level (more only while cold is away) |
| keys | no | when the session is made | one wrapped key for each fork above it |
| attachments | no | when one is put or removed | 256 pointers |
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw, Struct, field

from sessionmanager.model.floor import Floor
from sessionmanager.model.rooms.state import Room
from sessionmanager.words import (
    CallState,
    Direction,
    EndedBy,
    Gateway,
    Instant,
    Key,
    ParticipantKind,
    ParticipantStatus,
    ServiceStatus,
    SessionType,
    Status,
)

PUBLIC_PARTS: Final = ("pulse", "profile", "detail", "context")
SUMMARY_PARTS: Final = ("pulse", "profile")
PRIVATE_PARTS: Final = ("work", "index", "keys", "attachments")
PARTS: Final = PUBLIC_PARTS + PRIVATE_PARTS
STUB_PARTS: Final = ("pulse", "profile", "work", "keys")
"""What stays in warm when the body of a session is archived."""

OPEN_CALLS_MAX: Final = 128
ATTACHMENTS_MAX: Final = 256
PARTICIPANTS_MAX: Final = 64
PARTICIPANTS_GONE_MAX: Final = 32
CALLS_LIVE_MAX: Final = 16
CALLS_ENDED_MAX: Final = 16
NULL: Final = Raw(b"null")


class Pulse(Struct, frozen=True, kw_only=True):
    """The public fields that move with the conversation."""

    version: int
    status: Status
    updated_at: Instant
    last_activity: Instant
    ended_at: Instant | None = None
    end_reason: str | None = None
    resumed_count: int = 0
    current_turn: int = 0
    entry_count: int = 0
    error_count: int = 0
    last_error: str | None = None


class Profile(Struct, frozen=True, kw_only=True):
    """The public fields that say what the session is; with `Pulse` they are its summary, in lists and stubs."""

    id: str
    created_at: Instant
    type: SessionType | None = None
    bot_name: str | None = None
    caller: str | None = None
    callee: str | None = None
    external_ids: dict[str, str] = field(default_factory=dict[str, str])
    media_format: str | None = None
    bridge_type: str | None = None
    labels: tuple[str, ...] = ()
    expires_at: Instant | None = None
    metadata: dict[str, Raw] = field(default_factory=dict[str, Raw])
    required_services: tuple[str, ...] = ()
    registered_services: tuple[str, ...] = ()
    ready_services: tuple[str, ...] = ()
    parent: dict[str, Any] | None = None


class Realtime(Struct, frozen=True, kw_only=True):
    """Ids at the realtime model, so that the next bridge can go on."""

    session_id: str | None = None
    conversation_id: str | None = None
    active_response_id: str | None = None


class Audio(Struct, frozen=True, kw_only=True):
    """State of the audio buffer; the bytes themselves are an attachment, named here."""

    format: str | None = None
    buffered_ms: int = 0
    attachment: str | None = None


class Participant(Struct, frozen=True, kw_only=True):
    """Somebody who takes part: stateless, comes, goes and comes back under the same `identity`.

    epoch: how often it came back after it had left; a token is good for one. lease_seconds: None = no lease.
    room_sid: of its connection to the session's room, None = it is not in there; room_since: since when that is so.
    Whoever is in the room needs no other news to be believed to live.
    """

    id: str
    kind: ParticipantKind
    identity: str
    role: str
    status: ParticipantStatus
    joined_at: Instant
    epoch: int = 0
    left_at: Instant | None = None
    lease_seconds: float | None = None
    lease_expires_at: Instant | None = None
    last_seen_version: int = 0
    metadata: dict[str, Raw] = field(default_factory=dict[str, Raw])
    room_sid: str | None = None
    room_since: Instant | None = None


class Seat(Struct, frozen=True, kw_only=True):
    """A kind of service that the session asks for, and which instance fills it (`model/services.py`).

    status: of the instance in this session; `disconnected` = nobody fills it now. attempts: to fill it, since it was
    filled last. asked_version: the commit by which `service` was asked, which names the request to it. due_at: when it
    must be looked at; None = nothing is owed. failed: instances that failed since it was filled last, the newest last.
    """

    type: str
    join_seconds: float
    retry_seconds: float
    optional: bool = False
    status: ServiceStatus = "disconnected"
    service: str | None = None
    participant: str | None = None
    attempts: int = 0
    asked_at: Instant | None = None
    asked_version: int = 0
    due_at: Instant | None = None
    reason: str | None = None
    failed: tuple[str, ...] = ()


class Call(Struct, frozen=True, kw_only=True):
    """One leg at a gateway; a session has many over its life (`model/calls/`).

    caller, callee: as they were given. held_at: since when it is on hold. ended_at: when it ended, as reported or
    guessed (`estimated`); settled_at: when that was recorded, after which only its metadata may change. The seconds are
    known once what they measure is over; talk_seconds is what may be billed, hold_seconds is a part of it. news_at: the
    last report of its gateway; renewals of it are no commits.
    """

    id: str
    gateway: Gateway
    gateway_call_id: str | None = None
    direction: Direction
    state: CallState
    started_at: Instant
    caller: str | None = None
    callee: str | None = None
    ringing_at: Instant | None = None
    answered_at: Instant | None = None
    held_at: Instant | None = None
    ended_at: Instant | None = None
    settled_at: Instant | None = None
    end_reason: str | None = None
    ended_by: EndedBy | None = None
    sip_code: int | None = None
    q850_cause: int | None = None
    estimated: bool = False
    setup_seconds: float | None = None
    ring_seconds: float | None = None
    talk_seconds: float | None = None
    hold_seconds: float = 0.0
    news_at: Instant
    metadata: dict[str, Raw] = field(default_factory=dict[str, Raw])


class Detail(Struct, frozen=True, kw_only=True):
    """The public parts that lists leave out, but the context."""

    participants: tuple[Participant, ...] = ()
    calls: tuple[Call, ...] = ()
    realtime: Realtime = field(default_factory=Realtime)
    audio: Audio = field(default_factory=Audio)
    floor: Floor | None = None
    room: Room | None = None
    services: tuple[Seat, ...] = ()


class OpenCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function call whose output has not come. `interrupted_at`: the session was suspended while it ran."""

    call_id: str
    name: str
    seq: int
    at: Instant
    interrupted_at: Instant | None = None


class LastMessage(Struct, frozen=True, kw_only=True):
    """The newest message, so that resume can say whose turn was cut off without reading history."""

    seq: int
    role: str
    interrupted: bool = False


class Ref(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Points to an immutable body: a segment (`level` 0) or a node of up to 16 references (`level` 1 and more).

    `sha256` and `bytes` are of the canonical, uncompressed bytes. With `object` set the body lies in cold under that
    key (`stored_sha256`, `stored_bytes` of what was put, encrypted under `key_id`), else in warm under `id`.
    """

    id: str
    level: int
    first_seq: int
    last_seq: int
    first_version: int
    last_version: int
    first_at: Instant
    last_at: Instant
    bytes: int
    sha256: str
    types: tuple[str, ...] = ()
    object: str | None = None
    stored_sha256: str | None = None
    stored_bytes: int = 0
    key_id: str | None = None

    @property
    def count(self) -> int:
        return self.last_seq - self.first_seq + 1


class Index(Struct, frozen=True, kw_only=True):
    """The sealed history: `levels[0]` the newest segments, each higher level older and 16 times as coarse; oldest first
    within a level. Ranges are contiguous: the last level begins at seq 1, level 0 ends where the tail begins."""

    levels: tuple[tuple[Ref, ...], ...] = ()

    def __post_init__(self) -> None:
        previous = 0
        for refs in reversed(self.levels):
            for ref in refs:
                assert ref.first_seq == previous + 1, "the index has a gap"
                previous = ref.last_seq


class Intent(Struct, frozen=True, kw_only=True):
    """A ledger line written before bytes leave for cold, so that no upload is ever unknown to the head."""

    kind: str
    id: str
    objects: tuple[str, ...]
    at: Instant
    name: str | None = None


class Work(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the service itself needs to go on: bounded, never shown.

    due_at: a lower bound of the earliest timer; an append does not move it, the worker sets it anew when it comes too
    early (decision 0005). listed_at: the `last_activity` that lists were last told. warm_bodies: references of the
    index whose bodies lie in warm. archived: the object that holds (in a stub) or last held (after a rehydration) the
    body, parts and tail, whose range it carries. archive_asked_by: who wants it archived now; held_until: before then
    the clock alone neither archives nor erases it; any commit forgets both. room_at: when the room is looked at next;
    None = at once.
    """

    tail_first_seq: int = 1
    tail_bytes: int = 0
    open_calls: tuple[OpenCall, ...] = ()
    open_calls_dropped: int = 0
    last_message: LastMessage | None = None
    due_at: Instant | None = None
    listed_at: Instant | None = None
    warm_bodies: int = 0
    archived: Ref | None = None
    archive_asked_by: str | None = None
    held_until: Instant | None = None
    room_at: Instant | None = None
    intents: tuple[Intent, ...] = ()


class KeyRing(Struct, frozen=True, kw_only=True):
    """`key_id` to the session key, wrapped by the tenant's key (base64). Destroyed by the tombstone."""

    current: str | None = None
    wrapped: dict[str, str] = field(default_factory=dict[str, str])


class Attachment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of an attachment, and where its encrypted bytes lie in cold."""

    name: str
    bytes: int
    sha256: str
    content_type: str
    created_at: Instant
    object: str
    stored_sha256: str
    stored_bytes: int
    key_id: str


class Head(Struct, frozen=True, kw_only=True):
    """A session as decisions see it, at one `rev`. Immutable; a fold makes the next one."""

    key: Key
    rev: int
    pulse: Pulse
    profile: Profile
    detail: Detail = field(default_factory=Detail)
    context: Raw = NULL
    work: Work = field(default_factory=Work)
    index: Index = field(default_factory=Index)
    keys: KeyRing = field(default_factory=KeyRing)
    attachments: dict[str, Attachment] = field(default_factory=dict[str, Attachment])

    def __post_init__(self) -> None:
        pulse, work = self.pulse, self.work
        assert self.rev >= pulse.version >= 0, "a version without a rev"
        assert work.tail_first_seq <= pulse.entry_count + 1, "a tail beyond the log"
        assert len(work.open_calls) <= OPEN_CALLS_MAX, "more open function calls than the bound"

    @property
    def version(self) -> int:
        return self.pulse.version

    @property
    def status(self) -> Status:
        return self.pulse.status

    @property
    def tail_count(self) -> int:
        return self.pulse.entry_count - self.work.tail_first_seq + 1


class Tombstone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is left of an erased session, for ever: enough to answer 410 and to finish the erasure.

    request: scope of the idempotency key that asked, and hash of what it asked, so that a repeat gets the same answer.
    """

    erasure_id: str
    erased_at: Instant
    request: str | None = None
    removed_objects: int = 0
    done: bool = False
