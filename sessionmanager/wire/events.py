"""Bodies and parameters of feeds and signals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.wire.common import END, Limits, Masked, Seq, raw_bytes
from sessionmanager.wire.queries import Cursor
from sessionmanager.words import Instant

SIGNAL_DATA_BYTES_MAX: Final = 4096
SIGNAL_BODY_BYTES_MAX: Final = 8192
TYPES_CHARS_MAX: Final = 512

SignalType = Annotated[str, Meta(pattern=rf"^[a-z][a-z0-9_.-]{{0,63}}{END}", examples=["typing", "partial"])]
ParticipantId = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}{END}")]
RequestId = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^[^\x00-\x1f\x7f]+{END}")]


class FollowSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /sessions/{id}/events`: `after` is a seq, 0 = from the first entry; not given = from now.

    `Last-Event-ID` wins over it.
    """

    after: Seq | None = None


class FollowTenant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /events`: `after` is the `id` of an event; not given = from now. `Last-Event-ID` wins over it.

    `types`: event types separated by commas, each whole or a noun and `.*` (`call.*,error`); not given = all.
    """

    after: Cursor | None = None
    types: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=TYPES_CHARS_MAX,
                pattern=rf"^[a-z][A-Za-z0-9._*-]*(,[a-z][A-Za-z0-9._*-]*)*{END}",
            ),
        ]
        | None
    ) = None


class SignalBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions/{id}/signals`: something for whoever listens now, which nobody keeps."""

    type: SignalType
    data: Raw | UnsetType = UNSET

    def check(self, limits: Limits) -> Iterator[FieldError]:
        if self.data is not UNSET and raw_bytes(self.data) > SIGNAL_DATA_BYTES_MAX:
            yield FieldError("/data", f"over {SIGNAL_DATA_BYTES_MAX} bytes")


class SignalEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signal as listeners get it. actor, participant: who sent it, from the token."""

    type: str
    ephemeral: Literal[True]
    at: Instant
    actor: str
    participant: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class SocketRequest(Masked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame from the client of a WebSocket: `body` as the HTTP call of the same name takes it.

    id: comes back in the answer. key: an idempotency key. token: of `auth`. participant: of `heartbeat`, where the
    token names none.
    """

    op: Literal["auth", "append", "signal", "heartbeat", "ping"]
    id: RequestId | None = None
    key: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    token: Annotated[str, Meta(min_length=1, max_length=8192)] | UnsetType = UNSET
    participant: ParticipantId | UnsetType = UNSET
