"""Services and API keys; and what robot-session's clients call, in its own shapes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from sessionmanager.client.caller import given, path, serves
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.errors import JoinTimeout
from sessionmanager.wire.services import (
    ApiKey,
    ApiKeyPage,
    NewApiKey,
    RegisteredMicroservice,
    RoomSession,
    Service,
    ServicePage,
)
from sessionmanager.words import Role, ServiceStatus


class ServiceCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("POST /services")
    async def register_service(
        self,
        service_id: str,
        endpoint: str,
        *,
        type: str | UnsetType = UNSET,
        capabilities: Sequence[str] | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        key: str | None = None,
    ) -> Service:
        """Register a service, or begin its new life under the same id. Raises AlreadyExists, QuotaExceeded."""
        body = given(id=service_id, endpoint=endpoint, type=type, capabilities=capabilities, metadata=metadata)
        return await self._caller.ask("POST", "/services", Service, body=body, key=key)

    @serves("GET /services")
    async def list_services(
        self,
        *,
        type: str | None = None,
        status: ServiceStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ServicePage:
        """A page of services, by id."""
        query = {"type": type, "status": status, "limit": limit, "cursor": cursor}
        return await self._caller.ask("GET", "/services", ServicePage, query=query)

    def services(
        self, *, type: str | None = None, status: ServiceStatus | None = None, limit: int = 200
    ) -> AsyncGenerator[Service]:
        """Every service that matches, page after page. limit: of a page."""
        return walk(lambda cursor: self.list_services(type=type, status=status, limit=limit, cursor=cursor))

    @serves("DELETE /services/{service_id}")
    async def remove_service(self, service_id: str, *, key: str | None = None) -> None:
        """Take a service out; its sessions ask another."""
        await self._caller.call("DELETE", path("services", service_id), key=key)

    @serves("POST /services/{service_id}/heartbeat")
    async def service_heartbeat(self, service_id: str, *, load: float | UnsetType = UNSET) -> Service:
        """News of a service. load: how busy it is, 0 to 1."""
        return await self._caller.ask("POST", path("services", service_id, "heartbeat"), Service, body=given(load=load))

    @serves("POST /api-keys")
    async def make_api_key(
        self,
        name: str,
        roles: Sequence[Role],
        *,
        subject: str | UnsetType = UNSET,
        ttl_seconds: int | UnsetType | None = UNSET,
        key: str | None = None,
    ) -> NewApiKey:
        """A key with at most the caller's own rights, shown this once."""
        body = given(name=name, roles=list(roles), subject=subject, ttl_seconds=ttl_seconds)
        return await self._caller.ask("POST", "/api-keys", NewApiKey, body=body, key=key)

    @serves("GET /api-keys")
    async def api_keys(self) -> tuple[ApiKey, ...]:
        """What is known of the tenant's keys."""
        return (await self._caller.ask("GET", "/api-keys", ApiKeyPage)).items

    @serves("DELETE /api-keys/{key_id}")
    async def revoke_api_key(self, key_id: str, *, key: str | None = None) -> None:
        """Make a key void at once."""
        await self._caller.call("DELETE", path("api-keys", key_id), key=key)

    # -- robot-session

    @serves("POST /api/v1/microservices/register")
    async def register_microservice(
        self, service_id: str, endpoint: str, *, metadata: Mapping[str, str] | UnsetType = UNSET, key: str | None = None
    ) -> RegisteredMicroservice:
        """Register a service, in robot-session's shape."""
        body = given(service_id=service_id, endpoint=endpoint, metadata=metadata)
        return await self._caller.ask(
            "POST", "/api/v1/microservices/register", RegisteredMicroservice, body=body, key=key
        )

    @serves("POST /api/v1/create-session")
    async def create_room_session(
        self,
        *,
        required_services: Sequence[str] | UnsetType = UNSET,
        user_identity: str | UnsetType = UNSET,
        metadata: Mapping[str, str] | UnsetType = UNSET,
        wait_seconds: float | None = None,
        key: str | None = None,
    ) -> RoomSession:
        """A session and its client's token, in robot-session's shape. wait_seconds: until its services have joined.

        Raises JoinTimeout.
        """
        body = given(required_services=required_services, user_identity=user_identity, metadata=metadata)
        return await self._caller.ask(
            "POST",
            "/api/v1/create-session",
            RoomSession,
            query={"wait_seconds": wait_seconds},
            body=body,
            key=key,
            final=(JoinTimeout,),
            more_seconds=wait_seconds or 0.0,
        )
