"""The application: the table behind authorization and observation."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, Literal, cast

import structlog
from starlette.applications import Starlette

from sessionmanager import __version__
from sessionmanager.api.context import Api
from sessionmanager.api.contract.routes import Contract
from sessionmanager.api.dispatch import Dispatch, application
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.identity.claims import Reason, Refused
from sessionmanager.api.identity.verifier import Verifier, bearer
from sessionmanager.api.live.websocket import WebSockets
from sessionmanager.api.routes.process import ProcessRoutes
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.api.table import routes
from sessionmanager.core.tokens.rules import is_tenant
from sessionmanager.errors import FieldError, Forbidden, Malformed, NotFound, Unauthenticated
from sessionmanager.logs import bind_request
from sessionmanager.model.change import Trail
from sessionmanager.model.roles import ALL_TENANTS, Action, Actor, check
from sessionmanager.waits.deadline import begin
from sessionmanager.wire.common import Limits
from sessionmanager.wire.queries import NoQuery
from sessionmanager.words import H_TENANT, Key

GateReason = Literal["missing", "forbidden", "left"]
"""Why somebody with a good token, or without any, was refused: a label of a metric, as `Reason` is."""
FAILED: Final = 500
"""The least status that is our failure, and not the caller's."""

OF_NO_TENANT: Final = frozenset(
    ("audit.read", "health.read", "metrics.read", "settings.put", "settings.read", "token.mint", "token.revoke")
)
"""What a token for all tenants may do without naming one. Whatever else it did would belong to no tenant, and nobody
could read it."""

_problem: ContextVar[str | None] = ContextVar("sessionmanager_problem", default=None)
"""With which problem the request of this task is answered."""


class RequestLog:
    """A line in the log for each request that we failed, at info; with `every`, for all others too, at debug.

    A line costs some 12 µs, and those that went well stand in the metrics. It names the session, never what was said.
    """

    def __init__(self, *, every: bool) -> None:
        self._every = every
        self._log: Any = structlog.get_logger("sessionmanager.api")

    def finished(self, ex: Exchange, status: int, seconds: float) -> None:
        """It was answered. Cost: a comparison, where nothing is to be said."""
        type_ = None
        if status >= 400:
            type_ = _problem.get()
            _problem.set(None)  # a task may answer one request after another
        if status < FAILED and not self._every:
            return
        route = ex.route.template if ex.route is not None else "other"
        told: dict[str, Any] = {"method": ex.scope["method"], "route": route, "status": status}
        told |= {"seconds": round(seconds, 4), "request_id": ex.request_id}
        known = {"tenant": ex.tenant, "session": ex.params.get("id"), "problem": type_}
        told |= {name: value for name, value in known.items() if value}
        (self._log.info if status >= FAILED else self._log.debug)("request.finished", **told)


class Gate:
    """Lets a request pass, or not: one place for all routes. `metrics_open`: /metrics needs no token (loopback)."""

    def __init__(self, api: Api, verifier: Verifier, *, metrics_open: bool, deadline_seconds: float) -> None:
        self._api = api
        self._verifier = verifier
        self._metrics_open = metrics_open
        self._deadline_seconds = deadline_seconds

    async def __call__(self, ex: Exchange) -> None:
        """Raises Unauthenticated, Forbidden, NotFound (another tenant's, or another session's for a bound token),
        RateLimited, and Malformed for parameters where a route takes none."""
        route = ex.route
        assert route is not None, "authorized before it was routed"
        if route.open or (self._metrics_open and route.action == "metrics.read"):
            return
        try:
            actor = await self._actor(ex)
        except Unauthenticated as error:
            self._refuse(ex, "", "", error.reason if isinstance(error, Refused) else "missing")
            raise
        ex.actor = actor
        begin(self._deadline_seconds)
        bind_request(ex.request_id, actor.tenant)
        ex.tenant = actor.tenant if actor.tenant != ALL_TENANTS else _named_tenant(ex, actor)
        session = ex.params.get("id")
        try:
            check(actor, cast(Action, route.action), Key(ex.tenant, session) if session is not None else None)
        except (Forbidden, NotFound):
            self._refuse(ex, ex.tenant, actor.subject, "forbidden")
            raise
        if actor.pid is not None and session is not None:
            await self._require_participant(ex, Key(ex.tenant, session), actor)
        self._api.core.quotas.take_of_subject(actor.tenant, actor.subject)
        self._api.core.quotas.take_request(ex.tenant)
        if ex.scope["query_string"] and route.query is NoQuery:
            ex.query(NoQuery)  # a parameter that nobody reads is a mistake, and is named

    async def _actor(self, ex: Exchange) -> Actor:
        """Who calls: by a token, or by an API key in its place."""
        key = ex.headers.get(b"x-api-key")
        if key is None:
            token = bearer(ex.scope["headers"])
            return self._verifier.recall(token) or await self._verifier.verify(token)
        if b"authorization" in ex.headers:
            raise Refused("header")
        keys, text = self._api.api_keys, key.decode("latin-1")
        try:
            return keys.recall(text) or await keys.verify(text)
        except Unauthenticated:
            raise Refused("api-key") from None

    async def _require_participant(self, ex: Exchange, key: Key, actor: Actor) -> None:
        """A token that speaks for a participant is void once that one has left."""
        try:
            await self._api.core.participants.require_bound(key, str(actor.pid), actor.epoch)
        except Unauthenticated:
            self._refuse(ex, key.tenant, actor.subject, "left")
            raise

    def _refuse(self, ex: Exchange, tenant: str, subject: str, reason: Reason | GateReason) -> None:
        api, route = self._api, ex.route
        api.metrics.refusal(reason)
        now = api.warm.now()
        action = route.action if route is not None else ""
        session = ex.params.get("id")
        outcome = "refused" if tenant else "unauthenticated"
        api.refusals.note(Trail(now, tenant or ALL_TENANTS, subject, action, outcome, session, None, ex.request_id))


def _named_tenant(ex: Exchange, actor: Actor) -> str:
    """A token for all tenants says in a header which one it means, but for what is of none, or named by the request."""
    named = ex.header(H_TENANT)
    if named is None:
        if ex.route is not None and ex.route.action in OF_NO_TENANT:
            return ALL_TENANTS
        raise Malformed(
            f"say which tenant in {H_TENANT}", [FieldError(f"header/{H_TENANT}", "required for this token")]
        )
    if not is_tenant(named) or named == ALL_TENANTS:
        raise Malformed(
            f"{H_TENANT} is not the name of a tenant", [FieldError(f"header/{H_TENANT}", "a tenant's name")]
        )
    return named


def metrics_app(api: Api) -> Starlette:
    """Only /metrics, without a token: for a port of its own."""
    shown = Shown(200, "The page", bytes, "text/plain")
    route = Route(
        method="GET",
        template="/metrics",
        action="metrics.read",
        handler=ProcessRoutes(api).metrics,
        summary="Prometheus and OpenMetrics",
        answers=(shown,),
        open=True,
    )
    return application(Dispatch(RouteTable((route,)), authorize=_let_pass))


async def _let_pass(ex: Exchange) -> None:
    pass


def make_app(
    api: Api,
    verifier: Verifier,
    *,
    limits: Limits,
    metrics_open: bool,
    deadline_seconds: float,
    may_enter: Callable[[int], None] | None = None,
    cors_origins: tuple[str, ...] = (),
    log_requests: bool = False,
) -> Starlette:
    """The application to serve. may_enter: see `Dispatch`; log_requests: those that went well, too."""
    contract = Contract(__version__)
    table = RouteTable((*routes(api, limits.attachment_bytes_max), *contract.routes))
    contract.describe(table.routes)
    api.metrics.name_routes({route.template for route in table.routes})
    request, in_log = api.metrics.request, RequestLog(every=log_requests)

    def observe(ex: Exchange, status: int) -> None:
        template = ex.route.template if ex.route is not None else "other"
        # A stream lasts for hours: its time is that to its first byte, lest it spoil what latency means.
        seconds = (ex.ended or perf_counter()) - ex.began
        request(template, ex.scope["method"], status, seconds)
        in_log.finished(ex, status, seconds)

    def problem(type_: str) -> None:
        api.metrics.problem(type_)
        _problem.set(type_)

    gate = Gate(api, verifier, metrics_open=metrics_open, deadline_seconds=deadline_seconds)
    dispatch = Dispatch(table, authorize=gate, limits=limits, observe=observe, on_problem=problem, may_enter=may_enter)
    api.metrics.watch("http_requests_running", lambda: dispatch.running)
    api.metrics.watch("queue_depth", lambda: dispatch.crowd.size, "requests")
    sockets = WebSockets(dispatch, api.feeds)
    return application(dispatch, cors_origins=cors_origins, sockets=sockets)
