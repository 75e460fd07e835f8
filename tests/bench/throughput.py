"""Throughput over HTTP, beside bare Starlette endpoints that check the same token and return the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.bench.bare import Bare
from tests.bench.corpus import Dialogue
from tests.bench.embedded import scratch
from tests.bench.load import Shot, Spec, head, run
from tests.bench.rows import Plan, Row, paired, row
from tests.bench.servers import SECRET, Server, bare, cpus, service

CONNECTIONS: Final = 64
SESSIONS: Final = 64
LINES: Final = 64
"""Entries of a session, of which a GET shows the newest 50: about 19 KB with what the head weighs."""
CONTEXT: Final = {"notes": "what the agent must know of this customer, kept short. " * 30}


class Case(NamedTuple):
    """One thing to ask for. path: after the session. write: whether a commit comes of it."""

    name: str
    method: str
    path: str
    body: bytes
    target: float


def cases() -> list[Case]:
    said = (
        b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice, thank you."}]}'
    )
    return [
        Case("GET of a hot session", "GET", "", b"", 0.7),
        Case("resume", "POST", "/resume", b"{}", 0.6),
        Case("append", "POST", "/entries", said, 0.6),
    ]


def make_sessions(server: Server, count: int, lines: int) -> list[str]:
    """Sessions with that many entries each; their paths."""
    paths: list[str] = []
    for i in range(count):
        body = {"id": f"bench-{i}", "context": CONTEXT, "entries": Dialogue(i).drafts(lines), "labels": ["bench"]}
        status, answer = server.call("POST", "/sessions", body)
        if status != 201:
            raise RuntimeError(f"create answered {status}: {answer[:300]!r}")
        paths.append(f"/sessions/bench-{i}")
    return paths


def _measure(server: Server, paths: Sequence[str], case: Case, seconds: float) -> tuple[float, float]:
    """Answers a second, and microseconds of processor that each cost the server."""
    _, load_cpu = cpus()
    shots = [Shot(case.name, head(case.method, path + case.path, server.token, case.body)) for path in paths]
    before = server.cpu_seconds()
    found = run(
        Spec(host="127.0.0.1", port=server.port, connections=CONNECTIONS, seconds=seconds, shots=shots, cpu=load_cpu)
    )
    answered = sum(times.answered for times in found.kinds.values())
    if any(times.failed for times in found.kinds.values()) or not answered:
        raise RuntimeError(f"{case.name}: {found.statuses}")
    whole = seconds + 0.2
    return found.per_second, (server.cpu_seconds() - before) * 1e6 / (found.per_second * whole)


def rows(plan: Plan) -> list[Row]:
    """Three cases, each a row of throughput and a row of processor time."""
    found: list[Row] = []
    with scratch() as folder, service(folder / "data") as ours:
        paths = make_sessions(ours, SESSIONS, LINES)
        read = ours.call("GET", paths[0])[1].decode()
        resumed = ours.call("POST", paths[0] + "/resume", {})[1].decode()
        given = Bare(
            secret=SECRET,
            read=read,
            resume=resumed,
            receipt='{"id":"bench-0","version":70,"status":"active","seqs":[70],"duplicates":[]}',
            database=str(folder / "bare.db"),
            cpu=cpus()[0],
        )
        with bare(given, ours.token) as other:
            for case in cases():
                found += _case(plan, ours, other, paths, case, len(read) if case.method == "GET" else len(resumed))
    return found


def _case(plan: Plan, ours: Server, other: Server, paths: Sequence[str], case: Case, size: int) -> list[Row]:
    pairs = [
        (_measure(ours, paths, case, plan.seconds), _measure(other, paths, case, plan.seconds))
        for _ in range(plan.pairs)
    ]
    rate, rate_bare, ratio = paired([(a[0], b[0]) for a, b in pairs])
    cost, cost_bare, cost_ratio = paired([(a[1], b[1]) for a, b in pairs])
    kib = "" if case.path == "/entries" else f", {size / 1024:.0f} KiB"
    return [
        row(
            f"http: {case.name}{kib}, {CONNECTIONS} connections",
            rate,
            "requests/s",
            beside=f"bare Starlette: {rate_bare:,.0f}/s",
            ratio=ratio,
            target=f">= {case.target}",
        ),
        row(
            f"http: {case.name}, processor time of the server",
            cost,
            "µs",
            beside=f"bare Starlette: {cost_bare:.0f} µs",
            ratio=cost_ratio,
        ),
    ]
