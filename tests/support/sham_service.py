"""A service on a port of its own, as robot-session's are: it answers `/join-room` and `/health` as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple

REFUSED_PORT = 1
"""Nobody listens there."""


class Asked(NamedTuple):
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Sham:
    """What it answers, and what it was asked. `hangs`: it takes requests and never answers until it is closed."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.join: tuple[int, Any] = (200, {"success": True})
        self.health: tuple[int, Any] = (200, {"status": "ok"})
        self.headers: dict[str, str] = {}
        self.hangs = False
        self.endpoint = ""
        self.closing = Event()

    @property
    def joins(self) -> list[dict[str, Any]]:
        """The bodies of all requests to join."""
        return [one.body for one in self.asked if one.path.endswith("/join-room")]

    @property
    def checks(self) -> int:
        """How often its health was asked for."""
        return sum(one.path.endswith("/health") for one in self.asked)

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        if self.hangs:
            self.closing.wait()
        status, body = self.join if asked.path.endswith("/join-room") else self.health
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def sham_service() -> Iterator[Sham]:
    """A sham that listens on a free port of the loopback address."""
    sham = Sham()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._do()

        def do_GET(self) -> None:
            self._do()

        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", "0")))
            body = json.loads(raw) if raw else None
            status, answer = sham.answer(Asked(self.command, self.path, dict(self.headers.items()), body))
            self.send_response(status)
            for name, value in sham.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # the name that http.server gives it
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a caller that hangs up is part of the test

    with Server(("127.0.0.1", 0), Handler) as server:
        sham.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield sham
        finally:
            sham.closing.set()
            server.shutdown()
            thread.join()
