"""Rows of what belongs to a tenant and to no session: audit, counts, tokens, settings."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.tenants import TenantRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import KEY, REPLAYED, WRITE
from sessionmanager.wire import answers, queries, requests


def tenant_rows(api: Api) -> tuple[Route, ...]:
    """What a tenant's people see and set."""
    on = TenantRoutes(api)
    settings = Shown(200, "The settings", requests.TenantSettings)
    put = Shown(200, "The settings", requests.TenantSettings, headers=REPLAYED)
    return (
        Route(
            method="GET",
            template="/audit",
            action="audit.read",
            handler=on.audit,
            tag="tenants",
            summary="Who did what, when, allowed or not",
            query=queries.ListAudit,
            answers=(Shown(200, "A page, newest first", answers.AuditPage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="GET",
            template="/stats",
            action="stats.read",
            handler=on.stats,
            tag="tenants",
            summary="Counts of sessions",
            answers=(Shown(200, "Counts", answers.Stats),),
            errors=(e.TierUnavailable,),
        ),
        *_tokens(on),
        Route(
            method="GET",
            template="/tenants/{tenant}/settings",
            action="settings.read",
            handler=on.get_settings,
            tag="tenants",
            summary="A tenant's settings",
            answers=(settings,),
            errors=(e.NotFound, e.TierUnavailable),
        ),
        Route(
            method="PUT",
            template="/tenants/{tenant}/settings",
            action="settings.put",
            handler=on.put_settings,
            tag="tenants",
            summary="Replace a tenant's settings",
            request=requests.TenantSettings,
            headers=KEY,
            answers=(put,),
            errors=(e.NotFound, *WRITE),
        ),
    )


def _tokens(on: TenantRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            template="/tokens",
            action="token.mint",
            handler=on.mint,
            tag="tenants",
            summary="Make a token, never above one's own",
            request=requests.TokenBody,
            headers=KEY,
            answers=(Shown(201, "The token, shown once", answers.TokenAnswer, headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="DELETE",
            template="/tokens/{jti}",
            action="token.revoke",
            handler=on.revoke,
            tag="tenants",
            summary="Revoke a token",
            body_required=False,
            headers=KEY,
            answers=(Shown(204, "It is void", headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="DELETE",
            template="/tokens",
            action="token.revoke",
            handler=on.revoke_subject,
            tag="tenants",
            summary="Revoke all tokens of a subject",
            body_required=False,
            query=queries.RevokeTokens,
            headers=KEY,
            answers=(Shown(204, "They are void", headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
    )
