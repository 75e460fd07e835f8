"""Rows of API keys."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.api_keys import ApiKeyRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import KEY, REPLAYED, WRITE
from sessionmanager.wire import services


def api_key_rows(api: Api) -> tuple[Route, ...]:
    """Keys for those who call without a token."""
    on = ApiKeyRoutes(api)
    return (
        Route(
            method="POST",
            template="/api-keys",
            action="api_key.make",
            handler=on.make,
            tag="services",
            summary="Make an API key, never above one's own rights",
            request=services.ApiKeyBody,
            headers=KEY,
            answers=(Shown(201, "The key, shown once", services.NewApiKey, headers=REPLAYED),),
            errors=(e.QuotaExceeded, *WRITE),
        ),
        Route(
            method="GET",
            template="/api-keys",
            action="api_key.read",
            handler=on.list,
            tag="services",
            summary="Which API keys there are",
            answers=(Shown(200, "All of the tenant's", services.ApiKeyPage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="DELETE",
            template="/api-keys/{key_id}",
            action="api_key.revoke",
            handler=on.revoke,
            tag="services",
            summary="Revoke an API key",
            body_required=False,
            headers=KEY,
            answers=(Shown(204, "It is void", headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
    )
