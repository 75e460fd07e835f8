"""What belongs to a tenant and to no session: audit, tokens, settings, counts."""

from __future__ import annotations

from collections import Counter

from msgspec import UNSET
from msgspec.structs import asdict

from sessionmanager.api.context import Api, encode
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.core import tenants
from sessionmanager.core.tokens import is_text
from sessionmanager.errors import FieldError, Malformed
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.model.roles import check_tenant
from sessionmanager.tiers.warm.protocol import TrailQuery
from sessionmanager.wire.queries import ListAudit, RevokeTokens
from sessionmanager.wire.requests import TenantSettings, TokenBody

NO_STORE = (b"cache-control", b"no-store")


class TenantRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def audit(self, ex: Exchange) -> Reply:
        query = ex.query(ListAudit)
        filters = (query.actor, query.session, query.action, query.outcome, query.since, query.until)
        context = encode(("audit", ex.tenant, filters))
        before = None
        if query.cursor is not None:
            (before,) = self._api.cursors.decode(query.cursor, context=context)
        page = await self._api.warm.trail(TrailQuery(ex.tenant, query.limit, before, *filters))
        cursor = self._api.cursors.encode((page.next,), context=context) if page.next is not None else None
        items = [{name: value for name, value in line._asdict().items() if name != "tenant"} for _, line in page.items]
        return json_reply(200, encode({"items": items, "next_cursor": cursor}))

    async def mint(self, ex: Exchange) -> Reply:
        sent = await ex.read(TokenBody)
        minted = self._api.tokens.mint(
            ex.actor,
            subject=sent.subject,
            roles=sent.roles,
            tenant=ex.tenant if sent.tenant is UNSET else sent.tenant,
            sid=None if sent.session is UNSET else sent.session,
            pid=None if sent.participant is UNSET else sent.participant,
            **({} if sent.ttl_seconds is UNSET else {"ttl_seconds": sent.ttl_seconds}),
        )
        await self._note(ex, "token.mint")
        body = {
            "token": minted.token,
            "jti": minted.jti,
            "subject": sent.subject,
            "roles": sent.roles,
            "expires_at": instants.from_ms(minted.expires_at * 1000),
        }
        return json_reply(201, encode(body), NO_STORE)

    async def revoke(self, ex: Exchange) -> Reply:
        await self._api.tokens.revoke(ex.actor, jti=ex.params["jti"], tenant=ex.tenant)
        await self._note(ex, "token.revoke")
        return Reply(204)

    async def revoke_subject(self, ex: Exchange) -> Reply:
        query = ex.query(RevokeTokens)
        if query.subject is None or not is_text(query.subject):
            raise Malformed("query/subject: say whose tokens", [FieldError("query/subject", "required, a subject")])
        await self._api.tokens.revoke(ex.actor, subject=query.subject, tenant=ex.tenant)
        await self._note(ex, "token.revoke")
        return Reply(204)

    async def get_settings(self, ex: Exchange) -> Reply:
        check_tenant(ex.actor, ex.params["tenant"])
        return self._settings(await self._api.tenants.settings(ex.params["tenant"]))

    async def put_settings(self, ex: Exchange) -> Reply:
        check_tenant(ex.actor, ex.params["tenant"])
        sent = await ex.read(TenantSettings)
        settings = tenants.TenantSettings(max_age_seconds=sent.max_age_seconds)
        kept = await self._api.tenants.put(ex.params["tenant"], settings)
        await self._note(ex, "settings.put")
        return self._settings(kept)

    def _settings(self, settings: tenants.TenantSettings) -> Reply:
        return json_reply(200, encode(TenantSettings(**asdict(settings))))

    async def stats(self, ex: Exchange) -> Reply:
        counts = await self._api.warm.counts(ex.tenant)
        by_status: Counter[str] = Counter()
        by_placement: Counter[str] = Counter()
        for (status, placement), count in counts.items():
            by_status[status] += count
            by_placement[placement] += count
        body = {"sessions": sum(counts.values()), "by_status": by_status, "by_placement": by_placement}
        return json_reply(200, encode(body))

    async def _note(self, ex: Exchange, action: str) -> None:
        now = self._api.warm.now()
        line = Trail(now, ex.tenant, ex.actor.subject, action, "allowed", request_id=ex.request_id)
        await self._api.warm.note([line])
