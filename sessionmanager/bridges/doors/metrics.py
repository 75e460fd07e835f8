"""`GET /metrics` on a bridge's own door, beside what its carrier calls."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from sessionmanager.bridges.metrics import BridgeMetrics

TOKEN_CHARS_MIN: Final = 16
NO_ENTRY: Final = {"www-authenticate": "Bearer"}


def with_metrics(app: Starlette, metrics: BridgeMetrics, token: str | None) -> Starlette:
    """The application, and the page for whoever shows the token. token: None = for anybody who reaches the door, so of
    a loopback address alone. Raises ValueError: a token that is too short."""
    if token is not None and (len(token) < TOKEN_CHARS_MIN or not token.isascii()):
        raise ValueError(f"the token of /metrics: at least {TOKEN_CHARS_MIN} ASCII characters")
    wanted = None if token is None else f"Bearer {token}".encode()

    async def page(request: Request) -> Response:
        sent = request.headers.get("authorization", "").encode("latin-1", "replace")
        if wanted is not None and not hmac.compare_digest(sent, wanted):
            return Response(status_code=401, headers=NO_ENTRY)
        content_type, text = await metrics.page(request.headers.get("accept"))
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    return Starlette(routes=[Route("/metrics", page, methods=["GET"]), Mount("", app)])
