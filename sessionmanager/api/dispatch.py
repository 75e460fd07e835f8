"""From a request to an answer: the ASGI application under Starlette.

Starlette is the framework around it (application, lifespan, request and response types); its middleware stack and its
router, which tries one regular expression after another, are not on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from itertools import count
from secrets import token_hex
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from sessionmanager.api.exchange import Crowd, Exchange
from sessionmanager.api.limits import ClientGone
from sessionmanager.api.problems import log_failure, problem
from sessionmanager.api.reply import WHOLE, Answer, Reply
from sessionmanager.api.routing import Route, RouteTable
from sessionmanager.errors import SessionManagerError
from sessionmanager.tracing.spans import is_traced, span
from sessionmanager.wire.common import DEFAULT_LIMITS, Limits

Authorize = Callable[[Exchange], Coroutine[Any, Any, None]]
Observe = Callable[[Exchange, int], None]

TRACE: Final = (b"traceparent", b"tracestate")
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
EXPOSED: Final = (
    *("ETag", "Location", "Retry-After", "Session-Tier", "X-Request-Id", "Idempotency-Replayed"),
    *("Link", "Next-Cursor", "Complete-Until"),
)
_request_id = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_ids() -> Callable[[], str]:
    """Ids for requests that bring none: unique over processes, and cheap (no system call)."""
    prefix, numbers = token_hex(6), count(1)
    return lambda: f"{prefix}-{next(numbers):x}"


class Dispatch:
    """The ASGI application under Starlette: find the route, authorize, answer; every error becomes a problem document.

    authorize: raises where the caller may not; it sees `exchange.route` and sets `exchange.actor`. It runs for open
    routes too and must let them pass. observe: told of each answer's status once it was sent.
    on_problem: told of the type of each problem. may_enter: asked first, with how many are being answered already,
    where a route is not open; raises where there is too much to do.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        authorize: Authorize,
        limits: Limits = DEFAULT_LIMITS,
        observe: Observe | None = None,
        on_problem: Callable[[str], None] | None = None,
        may_enter: Callable[[int], None] | None = None,
    ) -> None:
        self.table = table
        self._may_enter = may_enter
        self._authorize = authorize
        self._limits = limits
        self._observe = observe
        self._on_problem = on_problem
        self.running = 0
        self.crowd = Crowd()
        """Requests whose answer is being made; those whose answer is a stream that has begun are not among them."""
        self._new_request_id = request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            exchange = Exchange(scope, receive, self._limits)
            if is_traced():
                await self._traced(exchange, scope, receive, send)
            else:
                await self._exchange(exchange, scope, receive, send)
        finally:
            self.running -= 1

    async def _traced(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """The same within a span, which goes on with that of the caller (W3C Trace Context)."""
        told = {name.decode(): exchange.headers[name].decode("latin-1") for name in TRACE if name in exchange.headers}
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with span(scope["method"], "server", told) as current:
            try:
                await self._exchange(exchange, scope, receive, sent)
            finally:
                if current is not None:
                    route = exchange.route.template if exchange.route is not None else "other"
                    method: str = scope["method"]
                    known = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                    current.named(f"{method} {route}", known)

    async def _exchange(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(exchange)
        except ClientGone:
            return
        headers = answer.raw_headers
        headers.append((b"x-request-id", exchange.request_id.encode()))
        headers.append(NOSNIFF)
        if scope["method"] == "HEAD":
            send = _bodiless(send)
        try:
            await answer(scope, receive, send)
        except Exception as error:
            # The answer has begun: nothing else can be said but to close the connection, which the server does.
            log_failure(error, request_id=exchange.request_id)
            raise
        finally:
            if self._observe is not None:
                self._observe(exchange, answer.status_code)

    def begin(self, scope: Scope, receive: Receive) -> Exchange:
        """An exchange with its request id, for a scope of type `http`."""
        exchange = Exchange(scope, receive, self._limits)
        self._identify(exchange)
        return exchange

    async def admit(self, exchange: Exchange) -> Route:
        """Find the route and authorize. Raises what `authorize` and `may_enter` raise, NotFound, MethodNotAllowed,
        Malformed."""
        scope = exchange.scope
        exchange.check_headers()
        exchange.route, exchange.params = self.table.find(scope["method"], scope["path"], scope.get("raw_path"))
        if self._may_enter is not None and not exchange.route.open:
            self._may_enter(self.crowd.size)
        exchange.authorize = self._authorize
        await self._authorize(exchange)
        return exchange.route

    async def _answer(self, exchange: Exchange) -> Answer:
        self._identify(exchange)
        try:
            route = await self.admit(exchange)
            exchange.crowd = crowd = self.crowd
            crowd.size += 1
            try:
                return await route.handler(exchange)
            finally:
                crowd.size -= 1
        except ClientGone:
            raise
        except Exception as error:
            return self.refusal(exchange, error)

    def refusal(self, exchange: Exchange, error: Exception) -> Reply:
        """The problem document of what went wrong, counted."""
        if self._on_problem is not None:
            self._on_problem(error.type if isinstance(error, SessionManagerError) else SessionManagerError.type)
        return problem(error, path=exchange.path, request_id=exchange.request_id)

    def _identify(self, exchange: Exchange) -> None:
        given = exchange.headers.get(b"x-request-id")
        if given is not None and _request_id.fullmatch(given):
            exchange.request_id = given.decode()
        else:
            exchange.request_id = self._new_request_id()


def _bodiless(send: Send) -> Send:
    """The same answer without its body (RFC 9110 section 9.3.2); the headers, length included, are those of GET."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        elif WHOLE in message:
            message = {**message, WHOLE: b""}
        await send(message)

    return send_headers


class _App(Starlette):
    """Starlette with our dispatch in place of its middleware stack; lifespan stays Starlette's."""

    def __init__(self, dispatch: ASGIApp, lifespan: Lifespan[Any] | None, sockets: ASGIApp | None) -> None:
        super().__init__(lifespan=lifespan)
        self._dispatch = dispatch
        self._sockets = sockets

    def build_middleware_stack(self) -> ASGIApp:
        inner, lifespan, sockets = self._dispatch, self.router, self._sockets

        async def stack(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await inner(scope, receive, send)
            elif scope["type"] == "websocket":
                if sockets is None:
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    await sockets(scope, receive, send)
            else:
                await lifespan(scope, receive, send)

        return stack


def application(
    dispatch: Dispatch,
    *,
    lifespan: Lifespan[Any] | None = None,
    cors_origins: tuple[str, ...] = (),
    sockets: ASGIApp | None = None,
) -> Starlette:
    """The application to serve. cors_origins: `("*",)` in development; none = no CORS, and OPTIONS is a 405.

    sockets: answers WebSockets; none = they are refused.
    """
    inner: ASGIApp = dispatch
    if cors_origins:
        inner = CORSMiddleware(
            dispatch,
            allow_origins=cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
        )
    return _App(inner, lifespan, sockets)
