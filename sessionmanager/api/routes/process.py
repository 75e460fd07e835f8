"""The process itself: health, probes, metrics."""

from __future__ import annotations

from sessionmanager.api.context import NO_STORE, Api, encode
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply, json_reply


class ProcessRoutes:
    """Handlers; none of them calls a tier."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def health(self, ex: Exchange) -> Reply:
        health = self._api.process.health()
        return json_reply(503 if health["status"] == "down" else 200, encode(health), NO_STORE)

    async def live(self, ex: Exchange) -> Reply:
        return json_reply(200, b'{"status":"ok"}', NO_STORE)

    async def ready(self, ex: Exchange) -> Reply:
        ready = self._api.process.ready()
        return json_reply(200 if ready["status"] == "ready" else 503, encode(ready), NO_STORE)

    async def metrics(self, ex: Exchange) -> Reply:
        media, page = await self._api.metrics.page(ex.header("Accept"))
        return Reply(200, page, [(b"content-type", media.encode()), NO_STORE])
