"""Bodies of participants and the floor: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.fields import Name
from sessionmanager.model.floor import (
    FLOOR_SECONDS,
    FLOOR_SECONDS_MAX,
    FLOOR_SECONDS_MIN,
    OFFER_SECONDS,
    OFFER_SECONDS_MAX,
    ClaimPolicy,
)
from sessionmanager.model.participants import LEASE_SECONDS, LEASE_SECONDS_MAX, LEASE_SECONDS_MIN
from sessionmanager.wire.answers import At, Participant
from sessionmanager.wire.common import Limits, Masked, PlainText, Version, pointer, raw_bytes
from sessionmanager.wire.rooms import LiveKitAccess
from sessionmanager.words import ParticipantKind, Status

Identity = Annotated[PlainText, Meta(examples=["support-bot"])]
RoleName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
Lease = Annotated[float, Meta(ge=LEASE_SECONDS_MIN, le=LEASE_SECONDS_MAX, examples=[60])]
FloorLease = Annotated[float, Meta(ge=FLOOR_SECONDS_MIN, le=FLOOR_SECONDS_MAX, examples=[30])]
Metadata = Annotated[Mapping[Name, Raw], Meta(max_length=64)]
TOKEN_SECONDS: Final = 3_600
TOKEN_SECONDS_MAX: Final = 86_400
METADATA_BYTES_MAX: Final = 4_096
"""Of one participant: 96 of them lie in the head, and each event rewrites them all."""


def _check_metadata(metadata: Mapping[str, Raw]) -> Iterator[FieldError]:
    if sum(len(name.encode()) + raw_bytes(value) + 4 for name, value in metadata.items()) > METADATA_BYTES_MAX:
        yield FieldError(pointer("metadata"), f"over {METADATA_BYTES_MAX} bytes")


class JoinBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/participants`, and `participant` of a resume.

    The same `identity` again is the same participant. `role` is a word of your own, by default the kind.
    `lease_seconds`: without news for so long it is `disconnected`; null = it is never given up.
    `token_seconds`: how long the token that is answered lives.
    """

    kind: ParticipantKind
    identity: Identity
    role: RoleName | UnsetType = UNSET
    metadata: Metadata = {}
    lease_seconds: Lease | None = LEASE_SECONDS
    token_seconds: Annotated[int, Meta(ge=1, le=TOKEN_SECONDS_MAX)] = TOKEN_SECONDS

    def check(self, limits: Limits) -> Iterator[FieldError]:
        return _check_metadata(self.metadata)


class ParticipantPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH …/participants/{pid}`: what a participant says of itself. `last_seen_version` only grows."""

    metadata: Metadata | UnsetType = UNSET
    last_seen_version: Version | UnsetType = UNSET

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if self.metadata is not UNSET:
            yield from _check_metadata(self.metadata)


class Leave(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DELETE …/participants/{pid}`."""

    reason: PlainText | None = None


class ParticipantTokenBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST …/participants/{pid}/token`."""

    token_seconds: Annotated[int, Meta(ge=1, le=TOKEN_SECONDS_MAX)] = TOKEN_SECONDS


class FloorBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/floor`: claim the right to speak, renew it, or hand it over.

    `policy` says what happens where another has it: `reject` (409), `queue` (202 with the place), `interrupt` (it is
    taken; from a human only by a human). `takeover`: a human behind an operator's token speaks through it.
    `hand_over`: the holder offers the floor to a participant's id or to `human`, keeps it until it is claimed, and
    loses nothing where nobody claims it within `hand_over_seconds`.
    """

    participant: PlainText | UnsetType = UNSET
    lease_seconds: FloorLease = FLOOR_SECONDS
    policy: ClaimPolicy = "reject"
    takeover: bool = False
    hand_over: PlainText | None = None
    hand_over_seconds: Annotated[float, Meta(gt=0, le=OFFER_SECONDS_MAX)] = OFFER_SECONDS


class ReleaseFloor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DELETE /sessions/{id}/floor`: who gives it back, or leaves the queue; a bound token says it by itself."""

    participant: PlainText | None = None


class JoinAnswer(Masked, frozen=True, kw_only=True):
    """Who has joined, and what it may identify itself with. `token` is null where tokens come from elsewhere (JWKS).
    `livekit` lets it into the session's room; null while the session has none, or rests."""

    session_id: str
    version: int
    participant: Participant
    token: str | None = None
    token_expires_at: At | None = None
    livekit: LiveKitAccess | None = None


class ParticipantToken(Masked, frozen=True, kw_only=True):
    """A new token of the same participant; `livekit` lets it into the session's room, where there is one."""

    token: str
    token_expires_at: At
    livekit: LiveKitAccess | None = None


class ParticipantPage(Struct, frozen=True, kw_only=True):
    """Everybody whom the head remembers: all who are there, and the last 32 who left. The log has the others."""

    items: tuple[Participant, ...]
    next_cursor: None = None


class FloorAnswer(Struct, frozen=True, kw_only=True):
    """The receipt of a claim: `floor` is the number to send with what is said; `position` is set while one waits."""

    id: str
    version: int
    status: Status
    floor: int
    position: int | UnsetType = UNSET
