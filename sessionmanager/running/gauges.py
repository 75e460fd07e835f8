"""Gauges that are asked for at each scrape: what waits, what is kept, who follows."""

from __future__ import annotations

from sessionmanager.api.context import Api
from sessionmanager.core.services.handlers import Handlers
from sessionmanager.metrics import Metrics
from sessionmanager.tiers.hot.memory import MemoryHot
from sessionmanager.tiers.hot.protocol import Hot


def watch(metrics: Metrics, api: Api, handlers: Handlers, hot: Hot) -> None:
    """Let the metrics ask the parts of a process. `make_app` adds what it alone knows: requests."""
    core, webhooks, feeds = api.core, api.webhooks, api.feeds
    metrics.watch("queue_depth", lambda: core.ledger.waiting, "turns")
    metrics.watch("queue_depth", lambda: core.ledger.in_flight, "commits")
    metrics.watch("queue_depth", lambda: core.worker.waiting, "worker")
    metrics.watch("queue_depth", lambda: len(api.refusals), "audit")
    metrics.watch("queue_depth", lambda: core.services.seating.telling, "services")
    metrics.watch("queue_depth", lambda: core.rooms.looking, "rooms")
    metrics.watch("queue_depth", lambda: handlers.waiting, "handlers")
    metrics.watch("streams", lambda: len(feeds))
    metrics.watch("stream_readers", lambda: feeds.readers)
    metrics.watch("webhook_owed_sessions", lambda: webhooks.owed)
    metrics.watch("webhooks_disabled", lambda: webhooks.disabled)
    if isinstance(hot, MemoryHot):
        metrics.watch("hot_copies", lambda: hot.sessions_held)
        metrics.watch("hot_bytes", lambda: hot.bytes_held)
