"""Rows of the process itself: health, probes, metrics."""

from __future__ import annotations

from sessionmanager.api.context import Api
from sessionmanager.api.routes.process import ProcessRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.wire import answers


def process_rows(api: Api) -> tuple[Route, ...]:
    """What probes and scrapers ask; open but for `/metrics`."""
    on = ProcessRoutes(api)
    return (
        Route(
            method="GET",
            template="/health",
            action="health.read",
            handler=on.health,
            tag="service",
            open=True,
            summary="How the service and its tiers are",
            answers=(Shown(200, "Up, perhaps degraded", answers.Health), Shown(503, "Down", answers.Health)),
        ),
        Route(
            method="GET",
            template="/livez",
            action="health.read",
            handler=on.live,
            tag="service",
            open=True,
            summary="The event loop turns",
            answers=(Shown(200, "Alive", answers.Live),),
        ),
        Route(
            method="GET",
            template="/readyz",
            action="health.read",
            handler=on.ready,
            tag="service",
            open=True,
            summary="Whether to send requests here",
            answers=(Shown(200, "Ready", answers.Ready), Shown(503, "Stopping, or nothing serves", answers.Ready)),
        ),
        Route(
            method="GET",
            template="/metrics",
            action="metrics.read",
            handler=on.metrics,
            tag="service",
            summary="Prometheus and OpenMetrics",
            answers=(Shown(200, "The page", bytes, "text/plain"),),
        ),
    )
