"""The service itself over HTTP: health, probes, metrics, the contract, and errors that everybody gets alike."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from sessionmanager import __version__
from tests.support import forge
from tests.support.process import serving
from tests.support.server import Caller, Served, problem, served

pytestmark = pytest.mark.contract


def test_health_and_probes_need_no_token_and_name_every_tier(service: Served) -> None:
    nobody = service.nobody()
    health = nobody.get("/health")
    assert health.status_code == 200
    body = health.json()
    assert (body["status"], body["version"]) == ("ok", __version__)
    assert body["uptime_seconds"] >= 0
    assert {name: (tier["status"], tier["backend"]) for name, tier in body["tiers"].items()} == {
        "hot": ("ok", "memory"),
        "warm": ("ok", "sqlite"),
        "cold": ("ok", "file"),
    }
    assert nobody.get("/livez").json() == {"status": "ok"}
    assert nobody.get("/readyz").json() == {"status": "ready", "degraded": []}
    for path in ("/health", "/livez", "/readyz"):
        assert nobody.get(path).headers["cache-control"] == "no-store"


def test_a_service_that_stops_is_not_ready_but_alive(service: Served) -> None:
    state = service.service.api.process
    state.draining = True
    try:
        answer = service.nobody().get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "draining")
        assert service.nobody().get("/livez").status_code == 200
        assert service.nobody().get("/health").status_code == 200
    finally:
        state.draining = False


def test_metrics_count_requests_by_route_and_hold_no_id(service: Served, admin: Caller) -> None:
    admin.create("a-private-id")
    admin.get("/sessions/a-private-id")
    page = service.nobody().get("/metrics")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain")
    assert "a-private-id" not in page.text
    counted = {
        sample.labels["route"]: sample.value
        for family in families(page.text)
        for sample in family.samples
        if sample.name == "sessionmanager_http_request_duration_seconds_count" and sample.labels["method"] == "GET"
    }
    assert counted["/sessions/{id}"] >= 1
    openmetrics = service.nobody().get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.rstrip().endswith("# EOF")


def test_metrics_ask_for_a_role_where_others_can_reach_them() -> None:
    with served(server_host="0.0.0.0", jwt_secret=forge.SECRET.decode()) as service:
        problem(service.nobody().get("/metrics"), 401, "unauthenticated")
        problem(service.caller("viewer").get("/metrics"), 403, "forbidden")
        assert service.caller("metrics").get("/metrics").status_code == 200


def test_the_contract_and_its_reader_need_no_token_and_nothing_from_outside(service: Served) -> None:
    nobody = service.nobody()
    contract = nobody.get("/openapi.json").json()
    assert contract["openapi"].startswith("3.1")
    assert {"/sessions", "/sessions/{id}/resume", "/audit"} <= contract["paths"].keys()
    docs = nobody.get("/docs")
    assert docs.status_code == 200
    assert docs.headers["content-type"].startswith("text/html")
    assert "://" not in docs.text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("path", ["/", "/sessions/", "/sessions/a/b", "/nothing", "//sessions", "/sessions//entries"])
def test_a_path_that_is_none_is_404(admin: Caller, service: Served, path: str) -> None:
    token = f"Bearer {admin.token}".encode()
    problem(service.raw("GET", path.encode(), headers=[(b"authorization", token)]), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/sessions", "GET, HEAD, POST"),
        ("POST", "/sessions/x", "DELETE, GET, HEAD, PATCH"),
        ("OPTIONS", "/sessions/x", "DELETE, GET, HEAD, PATCH"),
        ("DELETE", "/health", "GET, HEAD"),
        ("TRACE", "/sessions", "GET, HEAD, POST"),
        ("GET", "/sessions/x/suspend", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_with_those_it_does(
    admin: Caller, method: str, path: str, allowed: str
) -> None:
    answer = admin.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_a_method_is_not_chosen_by_a_header(admin: Caller) -> None:
    admin.create("override")
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert admin.get("/sessions/override", headers={name: "DELETE"}).status_code == 200
    assert admin.get("/sessions/override?_method=DELETE").status_code == 400


def test_every_problem_repeats_the_request_id_and_names_the_path(admin: Caller) -> None:
    answer = admin.get("/sessions/never-was", headers={"X-Request-Id": "find-me"})
    document = problem(answer, 404, "not-found")
    assert (document["request_id"], document["instance"]) == ("find-me", "/sessions/never-was")
    assert document["remedy"] == "fix"


def test_a_service_as_a_process_of_its_own_keeps_everything_over_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder) as process:
        headers = {"Authorization": f"Bearer {process.token}"}
        with httpx2.Client(base_url=process.address, headers=headers) as client:
            assert client.post("/sessions", json={"id": "kept", "context": {"n": 1}}).status_code == 201
            entry = {"type": "message", "role": "user", "content": "hello"}
            assert client.post("/sessions/kept/entries", json={"entries": [entry]}).status_code == 201
        process.kill()
    with serving(folder) as process:
        headers = {"Authorization": f"Bearer {process.token}"}
        with httpx2.Client(base_url=process.address, headers=headers) as client:
            kept = client.get("/sessions/kept").json()
            assert (kept["version"], kept["context"], kept["entries"][-1]["content"]) == (2, {"n": 1}, "hello")
        assert process.stop() == 0
