"""Metrics and log events: one table, closed sets of labels, pages that scrapers can read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from structlog.testing import capture_logs

from sessionmanager import errors, telemetry
from sessionmanager.api.app import GateReason
from sessionmanager.api.identity.claims import Reason
from sessionmanager.metrics import CHILDREN_MAX, OPENMETRICS, Metrics, TierWatch
from sessionmanager.tiers.guard import Observer

pytestmark = pytest.mark.unit

LIBRARIES = frozenset(("bridges", "client", "compat", "loadtest", "services", "simulate"))
"""Parts that live in processes of others."""

ROOT = Path(__file__).parent.parent
ROUTE = "/sessions/{id}"
CALL = "sessionmanager_tier_operation_duration_seconds"
REQUEST = "sessionmanager_http_request_duration_seconds"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, routes=[ROUTE])


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_the_reference_page_is_the_table() -> None:
    assert (ROOT / "docs/reference/metrics.md").read_text() == telemetry.render()


def test_every_error_of_ours_is_a_label_and_nothing_else_is() -> None:
    types = {one.type for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "remedy")}
    assert types == set(telemetry.ERRORS)


def test_every_reason_to_refuse_somebody_is_a_label_and_nothing_else_is() -> None:
    assert {*get_args(Reason), *get_args(GateReason)} == set(telemetry.REFUSALS)


def test_every_event_that_the_code_logs_is_in_the_table() -> None:
    known = {event.name for event in telemetry.EVENTS}
    assert len(known) == len(telemetry.EVENTS)
    methods = {"debug", "info", "warning", "error", "exception", "critical"}
    missing: list[str] = []
    for path in sorted((ROOT / "sessionmanager").rglob("*.py")):
        if path.relative_to(ROOT).parts[1] in LIBRARIES:
            continue  # libraries: they speak to the log of whoever uses them, by the standard library
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            name = call.args[0].value
            logs = isinstance(call.func, ast.Attribute) and call.func.attr in methods
            if (logs or isinstance(call.func, ast.IfExp)) and isinstance(name, str) and name not in known:
                missing.append(f"{path.name}:{call.lineno} {name}")
    assert missing == []


def test_every_event_of_the_table_is_logged_by_the_code() -> None:
    """An alert or a runbook that waits for one that nobody writes would never be heard."""
    said = "".join(path.read_text() for path in (ROOT / "sessionmanager").rglob("*.py") if path.name != "telemetry.py")
    assert [event.name for event in telemetry.EVENTS if f'"{event.name}"' not in said] == []


def test_it_is_what_a_guard_tells(metrics: Metrics, registry: CollectorRegistry) -> None:
    observer: Observer = metrics
    observer.observe("warm", "commit", "ok", 0.002)
    observer.observe("warm", "commit", "ok", 0.2)
    labels = {"tier": "warm", "operation": "commit", "outcome": "ok"}
    assert value(registry, f"{CALL}_count", **labels) == 2
    assert value(registry, f"{CALL}_sum", **labels) == pytest.approx(0.202)
    assert value(registry, f"{CALL}_bucket", **labels, le="0.0025") == 1
    observer.breaker("hot", "open")
    states = [value(registry, "sessionmanager_tier_breaker", tier="hot", state=s) for s in telemetry.BREAKER_STATES]
    assert dict(zip(telemetry.BREAKER_STATES, states, strict=True)) == {"ok": 0, "half-open": 0, "open": 1}


def test_what_an_alert_counts_is_there_before_it_happens(registry: CollectorRegistry) -> None:
    """A series that begins at 1 has not increased: the first damaged object of a process would page nobody."""
    metrics = Metrics(registry)
    page = metrics.render()[1].decode()
    for series in (
        'problems_total{type="data-corrupt"}',
        'commit_unknowns_total{outcome="open"}',
        *(f'log_events_total{{event="{event.name}"}}' for event in telemetry.EVENTS if event.level == "error"),
    ):
        assert f"sessionmanager_{series} 0.0\n" in page


def test_a_request_is_counted_under_its_template_never_its_path(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.request(ROUTE, "GET", 200, 0.003)
    metrics.request("/sessions/call-4711", "GET", 200, 0.003)
    metrics.request(ROUTE, "BREW", 999, 0.003)
    assert value(registry, f"{REQUEST}_count", route=ROUTE, method="GET", status="200") == 1
    assert value(registry, f"{REQUEST}_count", route="other", method="GET", status="200") == 1
    assert value(registry, f"{REQUEST}_count", route=ROUTE, method="other", status="other") == 1
    assert b"4711" not in metrics.render()[1]


@given(st.lists(st.tuples(st.text(), st.text(), st.integers()), max_size=20))
def test_no_caller_can_make_new_series(requests: list[tuple[str, str, int]]) -> None:
    metrics = Metrics(CollectorRegistry(), routes=[ROUTE])
    for route, method, status in requests:
        metrics.request(route, method, status, 0.001)
        metrics.problem(route)
        metrics.refusal(route)
        metrics.log_event("warning", route)
    lines = [line for line in metrics.render()[1].decode().split("\n") if line.startswith(f"{REQUEST}_count")]
    statuses = {str(status) for _, _, status in requests if 100 <= status <= 599} | {"other"}
    assert len(lines) <= len(statuses) * (len(telemetry.METHODS) + 1)
    assert all('route="other"' in line for line in lines)


def test_what_callers_send_is_not_kept(metrics: Metrics) -> None:
    for i in range(100):
        metrics.request(f"/sessions/{i}", "GET", 200, 0.001)
    assert len(metrics._requests._children) == 1  # pyright: ignore[reportPrivateUsage]


def test_labels_that_the_code_closes_are_bounded_all_the_same(metrics: Metrics, registry: CollectorRegistry) -> None:
    for i in range(CHILDREN_MAX + 50):
        metrics.observe("warm", f"operation-{i}", "ok", 0.001)
    assert value(registry, f"{CALL}_count", tier="other", operation="other", outcome="other") == 50


def test_what_the_core_tells_is_counted(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.commit("append")
    metrics.conflict()
    metrics.replay()
    metrics.unknown(True)
    metrics.unknown(False)
    metrics.read("hot", True)
    metrics.read("hot", False)
    metrics.resume("cold", "not-resumable")
    metrics.worked("seal", "done")
    metrics.lag(3.0)
    metrics.refusal("expired")
    metrics.problem("not-found")
    metrics.log_event("error", "worker.failed")
    metrics.log_event("info", "server.started")
    counted = [
        ("commits_total", {"action": "append"}), ("commit_conflicts_total", {}), ("replays_total", {}),
        ("commit_unknowns_total", {"outcome": "settled"}), ("commit_unknowns_total", {"outcome": "open"}),
        ("reads_total", {"tier": "hot", "result": "hit"}), ("reads_total", {"tier": "hot", "result": "miss"}),
        ("resumes_total", {"tier": "cold", "outcome": "not-resumable"}),
        ("work_total", {"work": "seal", "outcome": "done"}), ("worker_lag_seconds_count", {}),
        ("auth_refusals_total", {"reason": "expired"}), ("problems_total", {"type": "not-found"}),
        ("log_lines_total", {"level": "info"}), ("log_events_total", {"event": "worker.failed"}),
    ]  # fmt: skip
    for name, labels in counted:
        assert value(registry, f"sessionmanager_{name}", **labels) == 1, name
    assert value(registry, "sessionmanager_log_events_total", event="server.started") is None


def test_sessions_that_are_gone_are_no_longer_counted(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.sessions({("active", "warm"): 3, ("ended", "cold"): 2})
    metrics.sessions({("active", "warm"): 1})
    assert value(registry, "sessionmanager_sessions", status="active", placement="warm") == 1
    assert value(registry, "sessionmanager_sessions", status="ended", placement="cold") == 0


def test_gauges_are_asked_for_when_they_are_read(metrics: Metrics, registry: CollectorRegistry) -> None:
    waiting: list[int] = []
    metrics.watch("queue_depth", lambda: len(waiting), "commits")
    metrics.watch("hot_copies", lambda: 7)
    waiting += [1, 2]
    assert value(registry, "sessionmanager_queue_depth", queue="commits") == 2
    assert value(registry, "sessionmanager_hot_copies") == 7


def test_prometheus_and_openmetrics_read_their_pages(metrics: Metrics) -> None:
    metrics.request(ROUTE, "GET", 200, 0.003)
    metrics.commit("append")
    kind, page = metrics.render("text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
    assert kind.startswith("text/plain")
    plain = {family.name for family in read_text(page.decode())}
    kind, page = metrics.render("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3")
    assert kind == OPENMETRICS
    opened = {family.name for family in read_openmetrics(page.decode())}
    ours = {row.name for row in telemetry.METRICS}
    assert ours <= plain
    assert ours <= opened
    assert b"_created" not in page


@pytest.mark.parametrize(
    "accept", [None, "", ";", ",", "text/plain;version=abc", "application/openmetrics-text;version=x\r\ny", "\ud800",
               "application/openmetrics-text;q=0", "a" * 100_000],
)  # fmt: skip
def test_an_accept_header_that_makes_no_sense_gets_the_plain_page(metrics: Metrics, accept: str | None) -> None:
    assert metrics.render(accept)[0] == "text/plain; version=0.0.4; charset=utf-8"


def test_two_registries_share_nothing() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    Metrics(one).replay()
    Metrics(other)
    assert value(one, "sessionmanager_replays_total") == 1
    assert value(other, "sessionmanager_replays_total") == 0


def test_a_tier_that_goes_and_comes_back_is_two_lines_that_say_why_who_feels_it_and_for_how_long() -> None:
    now = [100.0]
    watch = TierWatch(Metrics(CollectorRegistry()), clock=lambda: now[0])
    with capture_logs() as lines:
        for state, reason in (("open", "the credentials are not allowed to do this"), ("half-open", ""), ("open", "x")):
            watch.breaker("cold", state, reason)
            now[0] += 5
        watch.breaker("cold", "ok")
    assert [line["state"] for line in lines] == ["open", "ok"]
    assert lines[0]["reason"] == "the credentials are not allowed to do this"
    assert "archived sessions" in lines[0]["callers"]
    assert lines[1]["away_seconds"] == 15.0
