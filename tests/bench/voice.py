"""What a voice platform asks for: a steady rate on many connections, timed from when each request should have begun."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.bench.embedded import scratch
from tests.bench.load import Result, Shot, Spec, head, run
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, cpus, service
from tests.bench.throughput import make_sessions

CONNECTIONS: Final = 64
RATE: Final = 500.0
SESSIONS: Final = 256
TARGETS: Final = {"create": 10.0, "get": 5.0, "resume": 15.0, "update": 8.0}
"""Milliseconds that half of the requests of each kind must stay under."""
COMMIT_MS: Final = 50.0


def rows(plan: Plan) -> list[Row]:
    with scratch() as folder, service(folder / "data") as server:
        paths = make_sessions(server, 16 if plan.quick else SESSIONS, 60)
        return [*_steady(plan, server, paths), *_saturated(plan, server, paths)]


def _steady(plan: Plan, server: Server, paths: list[str]) -> list[Row]:
    """Create, get, resume and update in turn, 125 of each a second."""
    shots: list[Shot] = []
    for queue in (b"billing", b"support"):  # in turn, so that each update changes something
        patch = b'{"metadata":{"queue":"%b"}}' % queue
        for path in paths:
            shots += [
                Shot(
                    "create", head("POST", "/sessions", server.token, b'{"type":"voice-vad","caller":"+12025550123"}')
                ),
                Shot("get", head("GET", path, server.token)),
                Shot("resume", head("POST", f"{path}/resume", server.token, b"{}")),
                Shot("update", head("PATCH", path, server.token, patch, "if-match: *")),
            ]
    found = _run(server, shots, 0.5 if plan.quick else 20.0, rate=RATE)
    load = f"{RATE:.0f} requests/s on {CONNECTIONS} connections"
    rows: list[Row] = []
    for kind, bound in TARGETS.items():
        times = found.kinds[kind]
        if times.failed:
            raise RuntimeError(f"{kind}: {found.statuses}")
        rows.append(row(f"voice: {kind}, p50", times.p50, "ms", beside=load, target=f"< {bound:g}"))
        rows.append(row(f"voice: {kind}, p99", times.p99, "ms", beside=load))
    return rows


def _saturated(plan: Plan, server: Server, paths: list[str]) -> list[Row]:
    """Appends at a steady rate, while GETs on other connections take all that the event loop has."""
    seconds = 0.5 if plan.quick else 10.0
    said = b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice."}]}'
    gets = [Shot("get", head("GET", path, server.token)) for path in paths]
    appends = [Shot("append", head("POST", f"{path}/entries", server.token, said)) for path in paths]
    with ThreadPoolExecutor(1) as thread:
        saturating = thread.submit(_run, server, gets, seconds + 1.0, nice=5)
        found = _run(server, appends, seconds, rate=100.0, connections=16)
        read = saturating.result()
    times = found.kinds["append"]
    beside = f"beside {read.per_second:,.0f} GETs/s on {CONNECTIONS} connections"
    return [
        row("voice: commit while GETs saturate the loop, p50", times.p50, "ms", beside=beside),
        row(
            "voice: commit while GETs saturate the loop, p99",
            times.p99,
            "ms",
            beside=beside,
            target=f"<= {COMMIT_MS:g}",
        ),
    ]


def _run(
    server: Server,
    shots: list[Shot],
    seconds: float,
    *,
    rate: float | None = None,
    connections: int = CONNECTIONS,
    nice: int = 0,
) -> Result:
    return run(
        Spec(
            host="127.0.0.1",
            port=server.port,
            connections=connections,
            seconds=seconds,
            shots=shots,
            rate=rate,
            cpu=cpus()[1],
            nice=nice,
        )
    )
