"""Webhooks: where the tenant's events are delivered to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from msgspec import UNSET, UnsetType

from sessionmanager.client.caller import given, path, serves
from sessionmanager.client.calls.base import Calls, walk
from sessionmanager.wire.webhooks import (
    DeadLetter,
    DeadLetterPage,
    NewWebhook,
    ReplayAnswer,
    TestOutcome,
    Webhook,
    WebhookPage,
)


class WebhookCalls(Calls):
    """`key`: the idempotency key of a write; one is made where none is given."""

    @serves("POST /webhooks")
    async def make_webhook(
        self,
        url: str,
        *,
        types: Sequence[str] | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        enabled: bool | UnsetType = UNSET,
        key: str | None = None,
    ) -> NewWebhook:
        """Have events delivered to an address; its secret is shown once."""
        kinds = types if isinstance(types, UnsetType) else list(types)
        body = given(url=url, types=kinds, description=description, enabled=enabled)
        return await self._caller.ask("POST", "/webhooks", NewWebhook, body=body, key=key)

    @serves("GET /webhooks")
    async def list_webhooks(self) -> WebhookPage:
        """All of the tenant's."""
        return await self._caller.ask("GET", "/webhooks", WebhookPage)

    @serves("GET /webhooks/{hook_id}")
    async def webhook(self, hook_id: str) -> Webhook:
        """One of them."""
        return await self._caller.ask("GET", path("webhooks", hook_id), Webhook)

    @serves("PATCH /webhooks/{hook_id}")
    async def change_webhook(
        self,
        hook_id: str,
        *,
        url: str | UnsetType = UNSET,
        types: Sequence[str] | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        enabled: bool | UnsetType = UNSET,
        key: str | None = None,
    ) -> Webhook:
        """Change what is given."""
        kinds = types if isinstance(types, UnsetType) else list(types)
        body = given(url=url, types=kinds, description=description, enabled=enabled)
        return await self._caller.ask("PATCH", path("webhooks", hook_id), Webhook, body=body, key=key)

    @serves("DELETE /webhooks/{hook_id}")
    async def remove_webhook(self, hook_id: str, *, key: str | None = None) -> None:
        """Deliver nothing more; its dead letters go with it."""
        await self._caller.call("DELETE", path("webhooks", hook_id), key=key)

    @serves("POST /webhooks/{hook_id}/secret")
    async def rotate_webhook(
        self, hook_id: str, *, grace_seconds: int | UnsetType = UNSET, key: str | None = None
    ) -> NewWebhook:
        """A new secret, shown once; both sign until the grace is over."""
        body = given(grace_seconds=grace_seconds)
        return await self._caller.ask("POST", path("webhooks", hook_id, "secret"), NewWebhook, body=body, key=key)

    @serves("POST /webhooks/{hook_id}/enable")
    async def enable_webhook(self, hook_id: str, *, skip: bool | UnsetType = UNSET, key: str | None = None) -> Webhook:
        """Go on with one that was disabled. skip: with what happens from now on."""
        body = given(skip=skip)
        return await self._caller.ask("POST", path("webhooks", hook_id, "enable"), Webhook, body=body, key=key)

    @serves("POST /webhooks/{hook_id}/test")
    async def test_webhook(self, hook_id: str, *, key: str | None = None) -> TestOutcome:
        """Deliver one event of no session now, and say what came of it."""
        return await self._caller.ask("POST", path("webhooks", hook_id, "test"), TestOutcome, key=key)

    @serves("GET /webhooks/{hook_id}/dead-letters")
    async def list_dead_letters(
        self, hook_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> DeadLetterPage:
        """A page of what could not be delivered, the oldest first."""
        query = {"limit": limit, "cursor": cursor}
        return await self._caller.ask("GET", path("webhooks", hook_id, "dead-letters"), DeadLetterPage, query=query)

    def dead_letters(self, hook_id: str, *, limit: int = 200) -> AsyncGenerator[DeadLetter]:
        """Every dead letter, page after page. limit: of a page."""
        return walk(lambda cursor: self.list_dead_letters(hook_id, limit=limit, cursor=cursor))

    @serves("POST /webhooks/{hook_id}/replay")
    async def replay_webhook(
        self,
        hook_id: str,
        *,
        id: str | UnsetType = UNSET,
        since: str | UnsetType = UNSET,
        all: Literal[True] | UnsetType = UNSET,
        key: str | None = None,
    ) -> ReplayAnswer:
        """Deliver dead letters again: one, those since a time, or all."""
        body = given(id=id, since=since, all=all)
        return await self._caller.ask("POST", path("webhooks", hook_id, "replay"), ReplayAnswer, body=body, key=key)
