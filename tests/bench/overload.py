"""More callers than the service can answer: how much it still does, how late, and how soon it is over."""

from __future__ import annotations

from typing import Final

from tests.bench.embedded import scratch
from tests.bench.load import Result, Shot, Spec, head, run
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, cpus, service
from tests.bench.throughput import make_sessions

CONNECTIONS: Final = 64
CROWD: Final = 1_000
"""Callers who ask again as soon as they have an answer, and a second later where they were refused."""
SESSIONS: Final = 64
LINES: Final = 20
SAID: Final = b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice."}]}'


def rows(plan: Plan) -> list[Row]:
    """Three loads one after the other: as many as make the peak, a crowd, and as many as before."""
    seconds = 1.0 if plan.quick else 8.0
    with scratch() as folder, service(folder / "data") as server:
        paths = make_sessions(server, SESSIONS, LINES)
        shots = [Shot("append", head("POST", f"{path}/entries", server.token, SAID)) for path in paths]
        peak, _ = _done(server, shots, seconds, CONNECTIONS)
        done, flood = _done(server, shots, seconds, CROWD)
        after, _ = _done(server, shots, seconds, CONNECTIONS)
    told = f"overload: appends of {CROWD:,} callers"
    beside = f"peak {peak:,.0f}/s"
    found = [
        row(f"{told}: done", done, "a second", beside=beside, ratio=done / peak, target=">= 0.8"),
        row(f"{told}: p99 of those", flood.kinds["append"].p99, "ms", target="<= 1000"),
        row("overload: right after it", after, "a second", beside=beside, ratio=after / peak, target=">= 0.95"),
    ]
    refused = flood.kinds.get("refused")
    if refused is not None:
        found.append(row(f"{told}: refused", refused.answered / seconds, "a second"))
        found.append(row(f"{told}: p99 of a refusal", refused.p99, "ms"))
    return found


def _done(server: Server, shots: list[Shot], seconds: float, callers: int) -> tuple[float, Result]:
    """Appends a second that were done, and all that is known."""
    found = run(
        Spec(
            host="127.0.0.1", port=server.port, connections=callers, seconds=seconds, shots=shots, cpu=cpus()[1],
            refused_apart=True, warm_up_seconds=1.0,
        )
    )  # fmt: skip
    if set(found.statuses) - {"201", "503"}:
        raise RuntimeError(str(found.statuses))
    return found.kinds["append"].answered / seconds, found
