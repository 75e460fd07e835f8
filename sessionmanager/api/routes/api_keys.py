"""API keys: made, listed, revoked."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from sessionmanager.api.context import NO_STORE, Api, begin, encode, marks, note
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.core.tokens.api_keys import ApiKey
from sessionmanager.errors import NotFound
from sessionmanager.wire.services import ApiKeyBody


class ApiKeyRoutes:
    """Handlers; each answers as the reference of services says."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def make(self, ex: Exchange) -> Reply:
        sent = await ex.read(ApiKeyBody)
        begun = await begin(ex, self._api)
        made = await self._api.api_keys.make(
            ex.actor,
            name=sent.name,
            subject=sent.name if sent.subject is UNSET else sent.subject,
            roles=sent.roles,
            ttl_seconds=sent.ttl_seconds,
        )
        await note(ex, self._api, "api_key.make")
        body = {**_shown(made.key), "key": made.text}
        return json_reply(201, encode(body), NO_STORE, *marks(replayed=begun.replayed))

    async def list(self, ex: Exchange) -> Reply:
        keys = await self._api.api_keys.list(ex.tenant)
        return json_reply(200, encode({"items": [_shown(key) for key in keys], "next_cursor": None}))

    async def revoke(self, ex: Exchange) -> Reply:
        begun = await begin(ex, self._api)
        try:
            await self._api.api_keys.revoke(ex.tenant, ex.params["key_id"])
        except NotFound:
            if not begun.replayed:
                raise
        if not begun.replayed:
            await note(ex, self._api, "api_key.revoke")
        return Reply(204, b"", marks(replayed=begun.replayed))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "subject": key.subject,
        "roles": key.roles,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }
