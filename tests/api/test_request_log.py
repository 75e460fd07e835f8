"""One line in the log for each request that we failed, none for those that went well; with debug, for all."""

from __future__ import annotations

from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from sessionmanager.api import app
from sessionmanager.api.app import RequestLog
from sessionmanager.api.exchange import Exchange
from sessionmanager.wire.common import DEFAULT_LIMITS

pytestmark = pytest.mark.unit

SESSION = "call-4711"


class Route:
    template = "/sessions/{id}"


def a_request(tenant: str = "acme") -> Exchange:
    async def receive() -> Any: ...

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": f"/sessions/{SESSION}", "headers": []}
    exchange = Exchange(scope, receive, DEFAULT_LIMITS)
    exchange.route, exchange.params, exchange.request_id = cast("Any", Route), {"id": SESSION}, "r-1"
    exchange.tenant = tenant
    return exchange


def told(log: RequestLog, *answers: tuple[int, str | None]) -> list[EventDict]:
    """What is said of requests that are answered one after another in one task, each with this problem."""
    with capture_logs() as lines:
        for status, problem in answers:
            if problem is not None:
                app._problem.set(problem)  # pyright: ignore[reportPrivateUsage]
            log.finished(a_request(), status, 0.25)
    return lines


def test_a_request_that_failed_names_session_tenant_and_problem() -> None:
    [line] = told(RequestLog(every=False), (200, None), (404, "not-found"), (503, "tier-unavailable"))
    assert line == {
        "event": "request.finished", "log_level": "info", "method": "GET", "route": "/sessions/{id}", "status": 503,
        "seconds": 0.25, "request_id": "r-1", "tenant": "acme", "session": SESSION, "problem": "tier-unavailable",
    }  # fmt: skip


def test_with_debug_every_request_has_its_line_and_only_failures_are_more_than_that() -> None:
    lines = told(RequestLog(every=True), (200, None), (404, "not-found"), (500, "internal"))
    assert [(line["status"], line["log_level"], line.get("problem")) for line in lines] == [
        (200, "debug", None),
        (404, "debug", "not-found"),
        (500, "info", "internal"),
    ]


def test_the_problem_of_one_request_is_never_told_of_the_next_of_its_connection() -> None:
    [line] = told(RequestLog(every=False), (404, "not-found"), (503, None))
    assert "problem" not in line
