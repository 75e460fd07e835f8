"""Traces: a request goes on with its caller's, has the tiers' calls in it, and costs nothing where nobody asks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.process import serving

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 60.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class Collected:
    """What a collector was sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.moved = threading.Condition()

    def until(self, *names: str) -> dict[str, Any]:
        """Spans by name, once there is one of each."""
        with self.moved:
            assert self.moved.wait_for(lambda: {one.name for one in self.spans} >= set(names), PATIENCE_SECONDS), {
                one.name for one in self.spans
            }
            return {one.name: one for one in self.spans}


@contextmanager
def collecting() -> Iterator[tuple[Collected, str]]:
    told = Collected()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            with told.moved:
                told.spans += [
                    one for resource in request.resource_spans for scope in resource.scope_spans for one in scope.spans
                ]
                told.moved.notify_all()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_request_goes_on_with_its_callers_trace_and_has_the_tiers_in_it(tmp_path: Path) -> None:
    with collecting() as (told, address):
        with serving(tmp_path / "data", otel_exporter_otlp_endpoint=address, log_level="info") as service:
            headers = {"Authorization": f"Bearer {service.token}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
            with httpx2.Client(base_url=service.address, headers=headers, timeout=PATIENCE_SECONDS) as client:
                assert client.post("/sessions", json={"id": "traced"}).status_code == 201
                assert client.get("/sessions/none").status_code == 404
                page = client.get("/metrics", headers=OPENMETRICS).text
        found = told.until("POST /sessions", "GET /sessions/{id}", "warm.commit")
    created, commit, missed = found["POST /sessions"], found["warm.commit"], found["GET /sessions/{id}"]
    assert {span.trace_id.hex() for span in (created, commit, missed)} == {TRACE}
    assert created.parent_span_id.hex() == PARENT
    assert commit.parent_span_id == created.span_id
    assert created.start_time_unix_nano <= commit.start_time_unix_nano
    assert commit.end_time_unix_nano <= created.end_time_unix_nano
    assert attributes(created) == {
        "http.request.method": "POST", "http.route": "/sessions", "http.response.status_code": 201,
    }  # fmt: skip
    assert attributes(missed)["http.response.status_code"] == 404
    assert f'# {{trace_id="{TRACE}"}}' in page
    assert f'"trace_id":"{TRACE}"' in (tmp_path / "data.log").read_text() or TRACE in page


def test_whoever_follows_is_told_the_trace_of_what_is_said_and_its_delivery_is_a_span_of_it(tmp_path: Path) -> None:
    with collecting() as (told, address):
        with serving(tmp_path / "data", otel_exporter_otlp_endpoint=address) as service:
            headers = {"Authorization": f"Bearer {service.token}"}
            with httpx2.Client(base_url=service.address, headers=headers, timeout=PATIENCE_SECONDS) as client:
                client.post("/sessions", json={"id": "followed"})
                with client.stream("GET", "/sessions/followed/events") as stream:
                    read = stream.iter_lines()
                    while not next(read).startswith("data:"):  # of the hello
                        pass
                    said = {"entries": [{"type": "message", "role": "user", "content": "hi"}]}
                    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                    client.post("/sessions/followed/entries", json=said, headers=traced)
                    while not (line := next(read)).startswith("id:"):
                        pass
                    event = [line, *iter(lambda: next(read), "")]
        found = told.until("POST /sessions/{id}/entries", "feed.deliver")
    wrote, delivered = found["POST /sessions/{id}/entries"], found["feed.deliver"]
    assert f"traceparent: 00-{TRACE}-{wrote.span_id.hex()}-01" in event
    assert (delivered.trace_id.hex(), delivered.parent_span_id) == (TRACE, wrote.span_id)
    assert any(one.name == "warm.read" and one.parent_span_id == delivered.span_id for one in told.spans)


def test_a_caller_that_is_not_traced_is_not_kept_where_no_share_is(tmp_path: Path) -> None:
    with collecting() as (told, address):
        with serving(tmp_path / "data", otel_exporter_otlp_endpoint=address, otel_traces_sampler_arg="0") as service:
            headers = {"Authorization": f"Bearer {service.token}"}
            with httpx2.Client(base_url=service.address, headers=headers, timeout=PATIENCE_SECONDS) as client:
                client.post("/sessions", json={"id": "untraced"})
                client.post("/sessions", json={"id": "kept"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
                assert "trace_id" not in client.get("/metrics").text
        told.until("POST /sessions")
        assert {span.trace_id.hex() for span in told.spans} == {TRACE}


def test_a_collector_that_is_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    with serving(tmp_path / "data", otel_exporter_otlp_endpoint="http://127.0.0.1:9") as service:
        headers = {"Authorization": f"Bearer {service.token}"}
        with httpx2.Client(base_url=service.address, headers=headers, timeout=PATIENCE_SECONDS) as client:
            assert client.post("/sessions", json={"id": "s"}).status_code == 201
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < PATIENCE_SECONDS


def test_where_nobody_asks_for_traces_nothing_of_them_is_imported() -> None:
    code = "import sys, sessionmanager.wiring; print('sessionmanager.tracing.otel' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
