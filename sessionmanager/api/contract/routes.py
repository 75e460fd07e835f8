"""`/openapi.json`, `/docs` and its style sheet: the contract and its reader; no token, no asset from outside."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sessionmanager.api import conditional
from sessionmanager.api.contract.document import build_document, encode_document
from sessionmanager.api.contract.page import STYLE, render_page
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import JSON, Answer, RawHeaders, Reply
from sessionmanager.api.routing import Route, Shown
from sessionmanager.wire.queries import NoQuery

CSP: Final = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
HTML: Final = (b"content-type", b"text/html; charset=utf-8")
CSS: Final = (b"content-type", b"text/css; charset=utf-8")
_NO_CACHE: Final = (b"cache-control", b"no-cache")


class _Pages(NamedTuple):
    json: bytes
    html: bytes


class Contract:
    """The document and its page, of the whole table that `describe` was given, these routes included.

    Made when they are first asked for, in a thread: that takes a tenth of a second, for which neither a start nor
    anybody's turn waits.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._table: tuple[Route, ...] = ()
        self._pages: _Pages | None = None
        self.routes: Final = (
            _route("/openapi.json", self._get_json, "The contract, as OpenAPI 3.1", "application/json"),
            _route("/docs", self._get_html, "The contract, to read", "text/html"),
            _route("/docs/style.css", self._get_style, "How the reader looks", "text/css"),
        )

    def describe(self, routes: Iterable[Route]) -> None:
        """Take the table."""
        self._table = tuple(routes)

    async def _made(self) -> _Pages:
        if self._pages is None:
            self._pages = await asyncio.to_thread(self._make)
        return self._pages

    def _make(self) -> _Pages:
        document = build_document(self._table, self._version)
        return _Pages(encode_document(document), render_page(document).encode())

    async def _get_json(self, exchange: Exchange) -> Answer:
        return _fresh(exchange, (await self._made()).json, [JSON])

    async def _get_html(self, exchange: Exchange) -> Answer:
        return _fresh(exchange, (await self._made()).html, [HTML, CSP])

    async def _get_style(self, exchange: Exchange) -> Answer:
        return _fresh(exchange, STYLE.encode(), [CSS])


def _route(template: str, handler: Any, summary: str, media: str) -> Route:
    shown = Shown(200, summary, bytes, media, ("ETag",))
    return Route(
        method="GET", template=template, action="contract.read", handler=handler, summary=summary, answers=(shown,),
        tag="service", open=True, query=NoQuery,
    )  # fmt: skip


def _fresh(exchange: Exchange, body: bytes, headers: RawHeaders) -> Reply:
    exchange.query(NoQuery)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = [*headers, (b"etag", tag.encode()), _NO_CACHE]
    known = exchange.header("If-None-Match")
    if known is not None and (conditional.if_none_match(known) == "*" or tag in known):
        return Reply(304, b"", headers)
    return Reply(200, body, headers)
