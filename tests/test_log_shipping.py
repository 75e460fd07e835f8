"""Log lines to Vector: all of them, in order, and never at a request's cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.running import log_shipping
from sessionmanager.running.log_shipping import LogShipper
from tests.support.process import serving

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 30.0


class Receiver:
    """A stand-in for Vector's http_server source. refuse: answers 503 as long as it is set."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.asked = 0
        self.refuse = False
        self.moved = threading.Condition()

    def until(self, holds: Any) -> None:
        with self.moved:
            assert self.moved.wait_for(holds, PATIENCE_SECONDS), (len(self.lines), self.asked)


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with told.moved:
                told.asked += 1
                if not told.refuse:
                    told.lines += [json.loads(line) for line in body.splitlines()]
                self.send_response(503 if told.refuse else 200)
                self.end_headers()
                told.moved.notify_all()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told, f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


class Counted(dict[str, int]):
    def __call__(self, outcome: str, count: int) -> None:
        self[outcome] = self.get(outcome, 0) + count


def test_lines_arrive_in_order_with_the_name_of_their_source() -> None:
    counted = Counted()
    with receiving() as (told, address):
        shipper = LogShipper(address, 'desk "one"', counted)
        for n in range(1200):
            shipper.take(json.dumps({"event": "e", "n": n}) + "\n")
        shipper.close()
    assert [line["n"] for line in told.lines] == list(range(1200))
    assert {line["source_name"] for line in told.lines} == {'desk "one"'}
    assert counted == {"shipped": 1200}


def test_what_was_refused_for_now_comes_later_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_shipping, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(log_shipping, "BACKOFF_MAX_SECONDS", 0.05)
    counted = Counted()
    with receiving() as (told, address):
        told.refuse = True
        shipper = LogShipper(address, "s", counted)
        for n in range(10):
            shipper.take(json.dumps({"n": n}))
        told.until(lambda: told.asked >= 2)
        told.refuse = False
        told.until(lambda: len(told.lines) == 10)
        shipper.close()
    assert [line["n"] for line in told.lines] == list(range(10))
    assert counted == {"shipped": 10}


def test_an_outage_drops_the_oldest_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_shipping, "LINES_MAX", 100)
    monkeypatch.setattr(log_shipping, "CLOSE_SECONDS", 0.1)
    counted = Counted()
    shipper = LogShipper("http://127.0.0.1:9/", "s", counted)
    for n in range(250):
        shipper.take(json.dumps({"n": n}))
    shipper.close()
    assert counted == {"dropped": 250}


def test_the_service_ships_what_it_logs_to_stderr(tmp_path: Path) -> None:
    with receiving() as (told, address):
        with serving(
            tmp_path / "data", vector_log_enabled="true", vector_log_endpoint=address, vector_log_source_name="desk",
            log_level="info",
        ):  # fmt: skip
            told.until(lambda: any(line["event"] == "server.started" for line in told.lines))
        told.until(lambda: any(line["event"] == "server.stopping" for line in told.lines))
    assert {line["source_name"] for line in told.lines} == {"desk"}
    assert all({"at", "level", "event"} <= line.keys() for line in told.lines)
