"""What is sent to a service and what it answers. Members that are not known are passed over: a manager may be newer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1, max_length=512)]
TOKEN_CHARS_MAX: Final = 8192

HealthStatus = Literal["starting", "ok", "draining"]
JoinStatus = Literal["joined", "joining", "refused"]


class JoinRequest(Struct, frozen=True, kw_only=True):
    """`POST /join-room`: a session asks this service in.

    service_id: whom it is meant for. participant_id: as whom it takes part. token: speaks for that participant in that
    session and nowhere else; null where the manager makes no tokens, and then the service's own credential is used.
    access_token: lets the service into the room `room_name` at `livekit_url`; all null while there is no room.
    """

    session_id: Text
    room_name: str | None = None
    service_id: Text | None = None
    type: str | None = None
    participant_id: Text | None = None
    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARS_MAX)] | None = None
    livekit_url: str | None = None
    access_token: Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARS_MAX)] | None = None

    def __repr__(self) -> str:
        return f"JoinRequest(session_id={self.session_id!r}, participant_id={self.participant_id!r}, token=***)"


class JoinResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """200 `joined`; 202 `joining`, and the participant's first heartbeat says that it has; else `refused`, `reason` a
    word of ours."""

    service_id: str
    session_id: str
    success: bool
    status: JoinStatus
    participant_id: str | None = None
    reason: str | None = None


class HealthResponse(Struct, frozen=True, kw_only=True):
    """`GET /health`. registered: the manager knows it. handler_errors: handlers that raised or took too long."""

    service_id: str
    type: str
    status: HealthStatus
    registered: bool
    sessions: int
    sessions_max: int
    handler_errors: int
    uptime_seconds: float
    version: str
