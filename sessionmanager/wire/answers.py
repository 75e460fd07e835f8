"""Typed bodies of answers: the contract, and what clients decode into. Servers join stored JSON and never build these
for a session; later versions may add members, so that nothing here forbids unknown ones."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from sessionmanager.wire.common import At, Masked
from sessionmanager.wire.floor import Floor
from sessionmanager.wire.legs import Call
from sessionmanager.wire.rooms import LiveKitAccess, Room
from sessionmanager.words import (
    MessageRole,
    NotResumableReason,
    ParticipantKind,
    ParticipantStatus,
    Placement,
    Remedy,
    Role,
    ServiceStatus,
    SessionType,
    Status,
    TierName,
)


class Realtime(Struct, frozen=True, kw_only=True):
    """Ids at the realtime model."""

    session_id: str | None = None
    conversation_id: str | None = None
    active_response_id: str | None = None


class Audio(Struct, frozen=True, kw_only=True):
    """State of the audio buffer."""

    format: str | None = None
    buffered_ms: int = 0
    attachment: str | None = None


class Participant(Struct, frozen=True, kw_only=True):
    """Somebody who takes part in a session. `room_sid`: of its connection to the session's room, null = it is not in
    there; `room_since`: since when that is so."""

    id: str
    kind: ParticipantKind
    identity: str
    role: str
    status: ParticipantStatus
    joined_at: At
    epoch: int = 0
    left_at: At | None = None
    lease_seconds: float | None = None
    lease_expires_at: At | None = None
    last_seen_version: int = 0
    metadata: dict[str, Any] = {}
    room_sid: str | None = None
    room_since: At | None = None


class Seat(Struct, frozen=True, kw_only=True):
    """A kind of service that the session asks for, and which instance fills it.

    `status`: `registered` (about to be told), `joining` (it has been), `ready`, `disconnected` (nobody fills it now).
    `due_at`: when the next thing happens by itself, a time-out or the next attempt.
    """

    type: str
    join_seconds: float
    retry_seconds: float
    optional: bool = False
    status: ServiceStatus = "disconnected"
    service: str | None = None
    participant: str | None = None
    attempts: int = 0
    asked_at: At | None = None
    asked_version: int = 0
    due_at: At | None = None
    reason: str | None = None
    failed: tuple[str, ...] = ()


class Summary(Struct, frozen=True, kw_only=True):
    """A session in a list: no context, participants, calls, realtime, audio. May be up to 10 s old."""

    id: str
    version: int
    status: Status
    placement: Placement
    created_at: At
    updated_at: At
    last_activity: At
    type: SessionType | None = None
    bot_name: str | None = None
    caller: str | None = None
    callee: str | None = None
    external_ids: dict[str, str] = {}
    media_format: str | None = None
    bridge_type: str | None = None
    labels: tuple[str, ...] = ()
    ended_at: At | None = None
    end_reason: str | None = None
    expires_at: At | None = None
    resumed_count: int = 0
    current_turn: int = 0
    entry_count: int = 0
    error_count: int = 0
    last_error: str | None = None
    metadata: dict[str, Any] = {}
    required_services: tuple[str, ...] = ()
    registered_services: tuple[str, ...] = ()
    ready_services: tuple[str, ...] = ()
    parent: dict[str, Any] | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the log. Free members are what the client sent, identical as JSON values."""

    seq: int
    version: int
    id: str
    type: str
    at: At
    recorded_at: At
    actor: str
    role: MessageRole | UnsetType = UNSET
    content: Any = UNSET
    heard: Any = UNSET
    generated: Any = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: Any = UNSET
    output: Any = UNSET
    status: str | UnsetType = UNSET
    from_seq: int | UnsetType = UNSET
    to_seq: int | UnsetType = UNSET
    floor: int | UnsetType = UNSET
    data: Any = UNSET


class Session(Summary, frozen=True, kw_only=True):
    """A session, and with `GET /sessions/{id}` its newest `entries`, oldest first.

    `stale`: a copy that warm could not confirm (then `Age` says how old).
    """

    context: Any = None
    realtime: Realtime = field(default_factory=Realtime)
    audio: Audio = field(default_factory=Audio)
    participants: tuple[Participant, ...] = ()
    calls: tuple[Call, ...] = ()
    floor: Floor | None = None
    room: Room | None = None
    services: tuple[Seat, ...] = ()
    entries: tuple[Entry, ...] | UnsetType = UNSET
    stale: bool | UnsetType = UNSET


class SessionPage(Struct, frozen=True, kw_only=True):
    """A page of summaries; `next_cursor` null = there is no more."""

    items: tuple[Summary, ...]
    next_cursor: str | None


class EntryPage(Struct, frozen=True, kw_only=True):
    """A page of entries."""

    items: tuple[Entry, ...]
    next_cursor: str | None


class Receipt(Struct, frozen=True, kw_only=True):
    """What a write did. `seqs` are the places of the entries sent, `duplicates` the ids that were there already."""

    id: str
    version: int
    status: Status
    seqs: tuple[int, ...] | UnsetType = UNSET
    duplicates: tuple[str, ...] | UnsetType = UNSET


class OpenCall(Struct, frozen=True, kw_only=True):
    """A function call without its output."""

    call_id: str
    name: str
    seq: int
    at: At
    interrupted_at: At | UnsetType = UNSET


class FunctionCalls(Struct, frozen=True, kw_only=True):
    """`open`: may still be running; `interrupted`: the session was suspended under them."""

    open: tuple[OpenCall, ...]
    interrupted: tuple[OpenCall, ...]


class PartialTurn(Struct, frozen=True, kw_only=True):
    """A turn that was cut off."""

    seq: int
    role: str


class Included(Struct, frozen=True, kw_only=True):
    """Which entries the answer holds; both seqs null = none."""

    from_seq: int | None
    to_seq: int | None
    bytes: int


class Omitted(Struct, frozen=True, kw_only=True):
    """What was left out; `cursor` fetches it from `GET /sessions/{id}/entries`."""

    count: int
    cursor: str | None


class ResumeAnswer(Masked, frozen=True, kw_only=True):
    """All that the next participant needs to go on."""

    session: Session
    entries: tuple[Entry, ...]
    function_calls: FunctionCalls
    partial_turn: PartialTurn | None
    realtime: Realtime
    audio: Audio
    participant: Participant | None
    token: str | None
    livekit: LiveKitAccess | None
    included: Included
    omitted: Omitted
    token_expires_at: At | UnsetType | None = UNSET


class ResumableAnswer(Struct, frozen=True, kw_only=True):
    """Whether a resume would be allowed now."""

    resumable: bool
    reason: NotResumableReason | None
    age_seconds: float


class ErasureAccepted(Struct, frozen=True, kw_only=True):
    """The session is gone; the receipt says when the last byte is."""

    id: str
    erasure_id: str


class Erasure(Struct, frozen=True, kw_only=True):
    """The receipt of an erasure."""

    erasure_id: str
    session: str
    status: Literal["pending", "complete"]
    erased_at: At
    completed_at: At | None
    removed_objects: int


class Archiving(Struct, frozen=True, kw_only=True):
    """Where the body of the session is now."""

    id: str
    version: int
    status: Status
    placement: Placement


class Attachment(Struct, frozen=True, kw_only=True):
    """What is known of an attachment's bytes."""

    name: str
    bytes: int
    sha256: str
    content_type: str
    created_at: At


class FieldProblem(Struct, frozen=True, kw_only=True):
    """One wrong field: a JSON pointer into the body, or `query/<name>`, `header/<name>`, `path/<name>`."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457. `type` is the stable name of the error, `remedy` what to do; nothing may parse `detail`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    remedy: Remedy
    errors: tuple[FieldProblem, ...] | UnsetType = UNSET
    version: int | UnsetType = UNSET
    from_: str | UnsetType = field(default=UNSET, name="from")
    allowed: tuple[str, ...] | UnsetType = UNSET
    reason: NotResumableReason | UnsetType = UNSET
    limit_bytes: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    services: tuple[str, ...] | UnsetType = UNSET
    quota: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    tier: TierName | UnsetType = UNSET
    holder: str | UnsetType | None = UNSET
    number: int | UnsetType = UNSET


class TierHealth(Struct, frozen=True, kw_only=True):
    """One tier as its guard sees it."""

    status: Literal["ok", "degraded", "down"]
    backend: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Health(Struct, frozen=True, kw_only=True):
    """`GET /health`; answered with 503 when down."""

    status: Literal["ok", "degraded", "down"]
    version: str
    uptime_seconds: float
    tiers: dict[TierName, TierHealth]


class Live(Struct, frozen=True, kw_only=True):
    """`GET /livez`: the loop turns. Touches no tier."""

    status: Literal["ok"]


class Ready(Struct, frozen=True, kw_only=True):
    """`GET /readyz`: some read or write path serves, and this replica is not stopping."""

    status: Literal["ready", "draining", "down"]
    degraded: tuple[TierName, ...]


class Stats(Struct, frozen=True, kw_only=True):
    """Counts of the tenant's sessions; may be up to 10 s old."""

    sessions: int
    by_status: dict[Status, int]
    by_placement: dict[Placement, int]


class AuditLine(Struct, frozen=True, kw_only=True):
    """Who did what, when, and whether it was allowed. Lines of erased sessions name them by hash."""

    at: At
    actor: str
    action: str
    outcome: str
    session: str | None
    version: int | None
    request_id: str | None


class AuditPage(Struct, frozen=True, kw_only=True):
    """A page of the audit trail, newest first."""

    items: tuple[AuditLine, ...]
    next_cursor: str | None


class TokenAnswer(Masked, frozen=True, kw_only=True):
    """A new token, shown once and never stored."""

    token: str
    jti: str
    subject: str
    roles: tuple[Role, ...]
    expires_at: At
