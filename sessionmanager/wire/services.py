"""Bodies of services and API keys, and those in robot-session's own shapes: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sessionmanager.errors import FieldError
from sessionmanager.fields import Name
from sessionmanager.wire.answers import At
from sessionmanager.wire.common import END, PAGE, Limits, Masked, PlainText, SessionId, pointer, raw_bytes
from sessionmanager.wire.queries import Cursor, Limit
from sessionmanager.words import Role, ServiceStatus

ServiceId = SessionId
ServiceType = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^[^\x00-\x1f\x7f]+{END}", examples=["asr"])]
Url = Annotated[str, Meta(min_length=8, max_length=512, examples=["https://asr-1.example.org"])]
Capability = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[^\x00-\x1f\x7f]+{END}")]
Metadata = Annotated[Mapping[Name, Raw], Meta(max_length=64)]
Load = Annotated[float, Meta(ge=0, le=1, examples=[0.25])]
METADATA_BYTES_MAX: Final = 4_096
"""Of one service: all services of a tenant are read together."""
SERVICES_MAX: Final = 32
"""Kinds of services that one session asks for."""
WAIT_SECONDS_MAX: Final = 120
KEY_SECONDS_MAX: Final = 366 * 86_400
Required = Annotated[tuple[ServiceType, ...], Meta(max_length=SERVICES_MAX)]


def check_metadata(metadata: Mapping[str, Raw]) -> Iterator[FieldError]:
    if sum(len(name.encode()) + raw_bytes(value) + 4 for name, value in metadata.items()) > METADATA_BYTES_MAX:
        yield FieldError(pointer("metadata"), f"over {METADATA_BYTES_MAX} bytes")


class ServiceBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /services`: register, or begin a new life under the same id.

    `endpoint` is asked `POST {endpoint}/join-room` and `GET {endpoint}/health`; SERVICE_ENDPOINTS must list it.
    `type` is what sessions ask for in `required_services`; several services may have the same. Without one it is the
    `id`.
    """

    id: ServiceId
    endpoint: Url
    type: ServiceType | UnsetType = UNSET
    capabilities: Annotated[tuple[Capability, ...], Meta(max_length=64)] = ()
    metadata: Metadata = {}

    def check(self, limits: Limits) -> Iterator[FieldError]:
        return check_metadata(self.metadata)


class ServiceNews(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /services/{service_id}/heartbeat`. `load`: how busy it is, 0 to 1; the less busy are asked first."""

    load: Load | UnsetType = UNSET


class ListServices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /services`: by id; all that are given must match."""

    type: ServiceType | None = None
    status: ServiceStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class CreateSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /sessions`. `wait_seconds`: answer only when the required services have joined, 504 where they have not by
    then; the session is there either way."""

    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX)] = 0


class Service(Struct, frozen=True, kw_only=True):
    """A registered service. `registered` (it may be asked, and has not been heard of yet), `ready`, `disconnected`.

    `seen_at`: its last heartbeat or good health check. `reason`: why its health was not good.
    """

    id: str
    type: str
    endpoint: str
    status: ServiceStatus
    registered_at: At
    seen_at: At | None = None
    load: float = 0
    reason: str | None = None
    capabilities: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


class ServicePage(Struct, frozen=True, kw_only=True):
    """A page of services."""

    items: tuple[Service, ...]
    next_cursor: str | None


# -- API keys


class ApiKeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api-keys`: a key with at most the caller's own rights. `subject` is who it speaks for, by default `name`.

    `ttl_seconds`: null = until it is revoked.
    """

    name: PlainText
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=8)]
    subject: PlainText | UnsetType = UNSET
    ttl_seconds: Annotated[int, Meta(ge=1, le=KEY_SECONDS_MAX)] | None = None


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is known of a key; never the key itself."""

    id: str
    name: str
    subject: str
    roles: tuple[Role, ...]
    created_at: At
    created_by: str
    expires_at: At | None = None


class NewApiKey(Masked, ApiKey, frozen=True, kw_only=True):
    """A new key: `key` is shown this once, and kept nowhere. Send it as `X-Api-Key`."""

    key: str


class ApiKeyPage(Struct, frozen=True, kw_only=True):
    """All keys of the tenant."""

    items: tuple[ApiKey, ...]
    next_cursor: None = None


# -- robot-session's own shapes


class RegisterMicroservice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/v1/microservices/register`. A `type` and `capabilities` (commas between) are read from `metadata`."""

    service_id: ServiceId
    endpoint: Url
    metadata: Annotated[Mapping[Name, str], Meta(max_length=64)] = {}


class RegisteredMicroservice(Struct, frozen=True, kw_only=True):
    """A microservice that has registered."""

    service_id: str
    endpoint: str
    status: str
    registered_at: At
    metadata: dict[str, str]
    success: bool = True


class CreateRoomSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/v1/create-session`. `user_identity`: who the `access_token` is for."""

    required_services: Required = ()
    user_identity: PlainText = "client"
    metadata: Annotated[Mapping[Name, str], Meta(max_length=64)] = {}


class RoomSession(Masked, frozen=True, kw_only=True):
    """A session as robot-session tells it. `access_token` is shown to its creator alone: it lets `user_identity` into
    the room at `livekit_url`, and `session_token` speaks for it here. Without LiveKit `livekit_url` is null, and both
    tokens are the latter."""

    session_id: str
    room_name: str
    access_token: str | None
    session_token: str | None = None
    livekit_url: str | None
    status: str
    required_services: tuple[str, ...]
    registered_microservices: tuple[str, ...]
    ready_microservices: tuple[str, ...]
    created_at: At
    updated_at: At
    metadata: dict[str, str]
