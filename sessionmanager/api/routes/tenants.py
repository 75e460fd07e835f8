"""What belongs to a tenant and to no session: audit, tokens, settings, counts."""

from __future__ import annotations

from collections import Counter

from msgspec import UNSET
from msgspec.structs import asdict

from sessionmanager.api.context import NO_STORE, Api, begin, encode, marks, note
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.core.tenancy import tenants
from sessionmanager.core.tokens.rules import is_tenant, is_text
from sessionmanager.errors import FieldError, Forbidden, Malformed
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS, Actor, check_tenant
from sessionmanager.tiers.warm.protocol import TrailQuery
from sessionmanager.wire.queries import ListAudit, RevokeTokens
from sessionmanager.wire.requests import ResumeWithin, TenantSettings, TokenBody
from sessionmanager.words import Key


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
        tenant = ex.tenant if sent.tenant is UNSET else sent.tenant
        check_tenant(ex.actor, tenant)
        epoch = 0
        if sent.participant is not UNSET and sent.session is not UNSET:
            person = await self._api.core.participants.present(Key(tenant, sent.session), sent.participant)
            epoch = person.epoch
        # Before the key, so that a refusal keeps none; on a repeat a new one, for no credential is ever stored.
        minted = self._api.tokens.mint(
            ex.actor,
            subject=sent.subject,
            roles=sent.roles,
            tenant=tenant,
            sid=None if sent.session is UNSET else sent.session,
            pid=None if sent.participant is UNSET else sent.participant,
            epoch=epoch,
            **({} if sent.ttl_seconds is UNSET else {"ttl_seconds": sent.ttl_seconds}),
        )
        begun = await begin(ex, self._api)
        await note(ex, self._api, "token.mint")
        body = {
            "token": minted.token,
            "jti": minted.jti,
            "subject": sent.subject,
            "roles": sent.roles,
            "expires_at": instants.from_ms(minted.expires_at * 1000),
        }
        return json_reply(201, encode(body), NO_STORE, *marks(replayed=begun.replayed))

    async def revoke(self, ex: Exchange) -> Reply:
        return await self._revoke(ex, jti=ex.params["jti"])

    async def _revoke(self, ex: Exchange, **what: str) -> Reply:
        """Done again on a repeat, as of the moment of the first: whoever was cut off may not have been told."""
        tokens = self._api.tokens
        tokens.check_revoke(ex.actor, tenant=ex.tenant, **what)
        begun = await begin(ex, self._api)
        at = instants.to_ms(begun.at) / 1000 if begun.replayed else None
        await tokens.revoke(ex.actor, tenant=ex.tenant, at=at, **what)
        if not begun.replayed:
            await note(ex, self._api, "token.revoke")
        return Reply(204, b"", marks(replayed=begun.replayed))

    async def revoke_subject(self, ex: Exchange) -> Reply:
        query = ex.query(RevokeTokens)
        if query.subject is None or not is_text(query.subject):
            raise Malformed("query/subject: say whose tokens", [FieldError("query/subject", "required, a subject")])
        return await self._revoke(ex, subject=query.subject)

    async def get_settings(self, ex: Exchange) -> Reply:
        check_tenant(ex.actor, ex.params["tenant"])
        return _settings(await self._api.core.tenants.settings(ex.params["tenant"]))

    async def put_settings(self, ex: Exchange) -> Reply:
        tenant = ex.params["tenant"]
        check_tenant(ex.actor, tenant)
        if not is_tenant(tenant) or tenant == ALL_TENANTS:
            raise Malformed("path/tenant: not the name of a tenant", [FieldError("path/tenant", "a tenant's name")])
        sent = await ex.read(TenantSettings)
        settings = tenants.TenantSettings(
            resume_policy=_policy(sent),
            max_age_seconds=sent.max_age_seconds,
            archive_after_days=sent.archive_after_days,
            retention_days=sent.retention_days,
            quotas=tenants.Quotas(**asdict(sent.quotas)),
        )
        self._check_quotas(ex.actor, settings.quotas)
        begun = await begin(ex, self._api)
        kept = await self._api.core.tenants.put(tenant, settings, begun)
        if not begun.replayed:
            await note(ex, self._api, "settings.put")
        return _settings(kept, *marks(replayed=begun.replayed))

    def _check_quotas(self, actor: Actor, wanted: tenants.Quotas) -> None:
        """A quota that the service sets is lifted by whoever runs it, not by the tenant that it bounds."""
        ours = self._api.core.tenants.defaults.quotas
        for name in ("sessions", "requests_per_second"):
            bound, value = getattr(ours, name), getattr(wanted, name)
            if bound is not None and value is not None and value > bound and not actor.all_tenants:
                raise Forbidden(f"/quotas/{name}: above {bound:g} only by a token for all tenants")

    async def stats(self, ex: Exchange) -> Reply:
        counts = await self._api.warm.counts(ex.tenant)
        by_status: Counter[str] = Counter()
        by_placement: Counter[str] = Counter()
        for (status, placement), count in counts.items():
            by_status[status] += count
            by_placement[placement] += count
        body = {"sessions": sum(counts.values()), "by_status": by_status, "by_placement": by_placement}
        return json_reply(200, encode(body))


def _settings(settings: tenants.TenantSettings, *headers: tuple[bytes, bytes]) -> Reply:
    return json_reply(200, encode(settings), *headers)


def _policy(sent: TenantSettings) -> tenants.ResumePolicy | None:
    """The policy as the core takes it."""
    policy = sent.resume_policy
    return tenants.ResumeWithin(resume_within=policy.resume_within) if isinstance(policy, ResumeWithin) else policy
