"""A service that answers what it is told to, on a real socket: enough for the commands to talk to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]


class FakeService:
    """`log`: the entries of the one session `call-1`. `seen`: (method and target, headers) of each request.
    `before`: asked first; an answer from it stands."""

    def __init__(self, entries: int = 0) -> None:
        self.log = [entry(seq) for seq in range(1, entries + 1)]
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.before: Callable[[str], Answer | None] = lambda _: None
        self.url = ""

    def answer(self, target: str) -> Answer:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        early = self.before(target)
        if early is not None:
            return early
        if parts.path == "/sessions":
            return 200, {"items": [self.head()], "next_cursor": "next-page" if query.get("limit") == "1" else None}
        if parts.path == "/sessions/call-1":
            newest = int(query.get("entries", 50))
            return 200, {**self.head(), "entries": self.log[-newest:] if newest else []}
        if parts.path == "/sessions/call-1/entries":
            return 200, {"items": self.page(query), "next_cursor": None}
        return 404, {"type": "not-found", "detail": "Not found", "request_id": "r-404"}

    def head(self) -> dict[str, Any]:
        return {"id": "call-1", "version": 7, "status": "active", "placement": "warm", "entry_count": len(self.log),
                "caller": "+1\u001b[31m", "last_activity": "2026-11-21T13:07:39.123Z"}  # fmt: skip

    def page(self, query: dict[str, str]) -> list[dict[str, Any]]:
        after, before = int(query.get("after", 0)), int(query.get("before", 10**9))
        found = [one for one in self.log if after < one["seq"] < before]
        found = found[::-1] if query.get("order") == "desc" else found
        return found[: int(query.get("limit", 50))]


def entry(seq: int) -> dict[str, Any]:
    return {"seq": seq, "version": seq, "id": f"e{seq}", "type": "message", "role": "user",
            "at": "2026-11-21T13:07:39.123Z", "content": f"line {seq}\u001b[2J\n"}  # fmt: skip


@contextmanager
def running(service: FakeService) -> Iterator[FakeService]:
    """The service on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.seen.append((f"GET {self.path}", {name.lower(): value for name, value in self.headers.items()}))
            status, body = service.answer(self.path)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("content-length", str(len(data)))
            self.send_header("session-tier", "hot")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
