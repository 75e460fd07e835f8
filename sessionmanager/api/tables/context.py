"""The row of windows for models."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.context import ContextRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import ID, ONE, READ_HEADERS
from sessionmanager.wire.context import ContextAnswer, GetContext


def context_rows(api: Api) -> tuple[Route, ...]:
    """Whoever may read entries may read them as a window (decision 0025)."""
    on = ContextRoutes(api)
    return (
        Route(
            method="GET",
            template=f"{ID}/context",
            action="entry.read",
            handler=on.get,
            summary="A window of the log that a model's API accepts",
            query=GetContext,
            headers=("Min-Version",),
            answers=(Shown(200, "The window, and what was left out", ContextAnswer, headers=READ_HEADERS),),
            errors=(*ONE, e.MinVersionAhead),
        ),
    )
