"""Webhooks: registered, tried, rotated, taken up again; and what could not be delivered."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict

from sessionmanager.api.context import (
    NO_STORE,
    Api,
    encode,
    marks,
    note,
    request_key,
    require_reachable,
)
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.core.webhooks.desk import Stand, stands_of
from sessionmanager.core.webhooks.hook import Hook, Replay
from sessionmanager.core.webhooks.registry import Asked, WantedHook, WithSecret
from sessionmanager.errors import NotFound
from sessionmanager.model import instants
from sessionmanager.waits.deadline import lift
from sessionmanager.wire.webhooks import (
    EnableBody,
    ListDeadLetters,
    ReplayBody,
    RotateBody,
    WebhookBody,
    WebhookPatch,
)


class WebhookRoutes:
    """Handlers; each answers as the reference of webhooks says."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._hooks = api.webhooks.registry

    async def create(self, ex: Exchange) -> Reply:
        tenant, sent = ex.tenant, await ex.read(WebhookBody)
        await require_reachable(self._api.webhooks.check(sent.url), "/url")
        asked, begun = await self._asked(ex)
        wanted = WantedHook(sent.url, sent.types, sent.description, sent.enabled)
        made = await self._hooks.create(tenant, wanted, ex.actor.subject, asked)
        await self._note(ex, "webhook.create", begun)
        location = (b"location", f"/webhooks/{made.hook.id}".encode())
        return json_reply(201, encode(_with_secret(made)), NO_STORE, location, *marks(replayed=begun.replayed))

    async def list(self, ex: Exchange) -> Reply:
        stands = await stands_of(self._api.warm, ex.tenant)
        hooks = await self._hooks.list(ex.tenant)
        return json_reply(200, encode({"items": [_shown(h, stands.get(h.id)) for h in hooks], "next_cursor": None}))

    async def get(self, ex: Exchange) -> Reply:
        hook = await self._hook(ex)
        stands = await stands_of(self._api.warm, ex.tenant)
        return json_reply(200, encode(_shown(hook, stands.get(hook.id))))

    async def change(self, ex: Exchange) -> Reply:
        sent = await ex.read(WebhookPatch)
        await self._hook(ex)
        if sent.url is not UNSET:
            await require_reachable(self._api.webhooks.check(sent.url), "/url")
        asked, begun = await self._asked(ex)
        wanted = WantedHook(sent.url, sent.types, sent.description, sent.enabled)
        hook = await self._hooks.change(ex.tenant, ex.params["hook_id"], wanted, asked)
        await self._note(ex, "webhook.change", begun)
        return json_reply(200, encode(_shown(hook, None)), *marks(replayed=begun.replayed))

    async def remove(self, ex: Exchange) -> Reply:
        if not await self._hooks.was_there(ex.tenant, ex.params["hook_id"]):
            raise NotFound("no such webhook")
        _, begun = await self._asked(ex)
        try:
            await self._hooks.remove(ex.tenant, ex.params["hook_id"])
        except NotFound:
            if not begun.replayed:
                raise
        await self._note(ex, "webhook.delete", begun)
        return Reply(204, b"", marks(replayed=begun.replayed))

    async def rotate(self, ex: Exchange) -> Reply:
        sent = await ex.read(RotateBody)
        await self._hook(ex)
        asked, begun = await self._asked(ex)
        made = await self._hooks.rotate(ex.tenant, ex.params["hook_id"], asked, grace_seconds=sent.grace_seconds)
        await self._note(ex, "webhook.rotate", begun)
        return json_reply(200, encode(_with_secret(made)), NO_STORE, *marks(replayed=begun.replayed))

    async def enable(self, ex: Exchange) -> Reply:
        sent = await ex.read(EnableBody)
        await self._hook(ex)
        asked, begun = await self._asked(ex)
        hook = await self._hooks.enable(ex.tenant, ex.params["hook_id"], asked, skip=sent.skip)
        await self._note(ex, "webhook.enable", begun)
        return json_reply(200, encode(_shown(hook, None)), *marks(replayed=begun.replayed))

    async def test(self, ex: Exchange) -> Reply:
        hook = await self._hook(ex)
        asked, begun = await self._asked(ex)
        lift()  # a receiver may take longer than a request: sending and each call to warm have deadlines of their own
        outcome = await self._api.webhooks.test(hook, asked.name, begun)
        await self._note(ex, "webhook.test", begun)
        body = {"delivered": outcome.kind == "delivered", "status": outcome.status, "reason": outcome.reason}
        return json_reply(200, encode(body), *marks(replayed=begun.replayed))

    async def dead_letters(self, ex: Exchange) -> Reply:
        query = ex.query(ListDeadLetters)
        hook = await self._hook(ex)
        context = encode(("dead-letters", ex.tenant, hook.id))
        after = ""
        if query.cursor is not None:
            (after,) = self._api.cursors.decode(query.cursor, context=context)
        found = await self._api.webhooks.letters.page(ex.tenant, hook.id, after=after, limit=query.limit)
        more = len(found) == query.limit
        cursor = self._api.cursors.encode((found[-1].id,), context=context) if more else None
        return json_reply(200, encode({"items": [asdict(letter) for letter in found], "next_cursor": cursor}))

    async def replay(self, ex: Exchange) -> Reply:
        sent = await ex.read(ReplayBody)
        hook = await self._hook(ex)
        asked, begun = await self._asked(ex)
        letter = None if sent.id is UNSET else sent.id
        known = letter is None or await self._api.webhooks.letters.get(ex.tenant, hook.id, letter) is not None
        if not known and not begun.replayed:
            raise NotFound("no such dead letter")
        since = None if sent.since is UNSET else instants.parse(sent.since)
        wish = Replay(id=f"rep_{asked.name or ex.request_id}", asked_at=begun.at, letter=letter, since=since)
        await self._hooks.replay(ex.tenant, hook.id, wish)
        await self._note(ex, "webhook.replay", begun)
        return json_reply(202, encode({"id": wish.id, "asked_at": wish.asked_at}), *marks(replayed=begun.replayed))

    # -- inside

    async def _hook(self, ex: Exchange) -> Hook:
        return await self._hooks.get(ex.tenant, ex.params["hook_id"])

    async def _asked(self, ex: Exchange) -> tuple[Asked, Begun]:
        """Remember the request under its key, where it has one. Raises KeyReused."""
        key = await request_key(ex)
        begun = await self._api.core.requests.begin(ex.tenant, key)
        return Asked.of(key, begun), begun

    async def _note(self, ex: Exchange, action: str, begun: Begun) -> None:
        if not begun.replayed:
            await note(ex, self._api, action)


def _shown(hook: Hook, stand: Stand | None) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "types": hook.types,
        "description": hook.description,
        "status": hook.status,
        "reason": hook.reason,
        "created_at": hook.created_at,
        "created_by": hook.created_by,
        "enabled_at": hook.enabled_at,
        "disabled_at": hook.disabled_at,
        "failing_since": None if stand is None or hook.status != "enabled" else stand.failing_since,
        "secrets": [{"id": each.id, "made_at": each.made_at, "until": each.until} for each in hook.secrets],
        "replays": len(hook.replays),
    }


def _with_secret(made: WithSecret) -> dict[str, Any]:
    return {**_shown(made.hook, None), "secret": made.secret}
