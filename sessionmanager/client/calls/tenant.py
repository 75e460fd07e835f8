"""A tenant's trail, counts, tokens and settings; and the service itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Unpack

import msgspec
from msgspec import UNSET, UnsetType

from sessionmanager.client.bodies import AuditFilters
from sessionmanager.client.caller import given, path, serves
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.wire.answers import AuditLine, AuditPage, Health, Live, Ready, Stats, TokenAnswer
from sessionmanager.wire.requests import TenantSettings
from sessionmanager.words import Role

DOWN: int = 503


class TenantCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("GET /audit")
    async def audit(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        """A page of who did what, newest first."""
        query = {**filters, "limit": limit, "cursor": cursor}
        return await self._caller.ask("GET", "/audit", AuditPage, query=query)

    def audit_lines(self, *, limit: int = 200, **filters: Unpack[AuditFilters]) -> AsyncGenerator[AuditLine]:
        """Every line that matches, page after page. limit: of a page."""
        return walk(lambda cursor: self.audit(limit=limit, cursor=cursor, **filters))

    @serves("GET /stats")
    async def stats(self) -> Stats:
        """Counts of the tenant's sessions."""
        return await self._caller.ask("GET", "/stats", Stats)

    @serves("POST /tokens")
    async def mint_token(
        self,
        subject: str,
        roles: Sequence[Role],
        *,
        tenant: str | UnsetType = UNSET,
        session: str | UnsetType = UNSET,
        participant: str | UnsetType = UNSET,
        ttl_seconds: int | UnsetType = UNSET,
        key: str | None = None,
    ) -> TokenAnswer:
        """A token with at most the caller's own rights."""
        body = given(
            subject=subject,
            roles=list(roles),
            tenant=tenant,
            session=session,
            participant=participant,
            ttl_seconds=ttl_seconds,
        )
        return await self._caller.ask("POST", "/tokens", TokenAnswer, body=body, key=key)

    @serves("DELETE /tokens/{jti}")
    async def revoke_token(self, jti: str, *, key: str | None = None) -> None:
        """Make a token void at once."""
        await self._caller.call("DELETE", path("tokens", jti), key=key)

    @serves("DELETE /tokens")
    async def revoke_subject(self, subject: str, *, key: str | None = None) -> None:
        """Make all tokens of a subject void at once."""
        await self._caller.call("DELETE", "/tokens", query={"subject": subject}, key=key)

    @serves("GET /tenants/{tenant}/settings")
    async def tenant_settings(self, tenant: str) -> TenantSettings:
        """A tenant's settings."""
        return await self._caller.ask("GET", path("tenants", tenant, "settings"), TenantSettings)

    @serves("PUT /tenants/{tenant}/settings")
    async def set_tenant_settings(
        self, tenant: str, settings: TenantSettings, *, key: str | None = None
    ) -> TenantSettings:
        """Replace a tenant's settings."""
        return await self._caller.ask(
            "PUT", path("tenants", tenant, "settings"), TenantSettings, body=msgspec.json.encode(settings), key=key
        )

    # -- the service

    @serves("GET /health")
    async def health(self) -> Health:
        """How the service and its tiers are, also when it is down."""
        return await self._caller.ask("GET", "/health", Health, also=(DOWN,))

    @serves("GET /livez")
    async def live(self) -> Live:
        """Whether its event loop turns."""
        return await self._caller.ask("GET", "/livez", Live)

    @serves("GET /readyz")
    async def ready(self) -> Ready:
        """Whether to send requests there, also when not."""
        return await self._caller.ask("GET", "/readyz", Ready, also=(DOWN,))

    @serves("GET /metrics")
    async def metrics(self) -> str:
        """The page for Prometheus."""
        came = await self._caller.call("GET", "/metrics", headers={"accept": "text/plain"})
        return came.body.decode("utf-8", "replace")
