"""Memory of the serving process for sessions that sleep: what the bounded caches take, and nothing more after that."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import msgspec

from tests.bench.corpus import Dialogue
from tests.bench.embedded import scratch
from tests.bench.load import Shot, Spec, head, run
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, cpus, service

SESSIONS: Final = 10_000
CONNECTIONS: Final = 32
GROWTH_MIB_MAX: Final = 8
"""Per 10,000 sessions more, once the caches are full: room for the allocator, far less than anything kept (0.8 KiB)."""


def rows(plan: Plan) -> list[Row]:
    """Three times as many dormant sessions: the first fill the bounded memory of recent commits, the others show what
    one more costs."""
    count = 50 if plan.quick else SESSIONS
    with scratch() as folder, service(folder / "data", {"IDLE_SUSPEND_SECONDS": "0"}) as server:
        _sleepers(server, "warm-up", 20 if plan.quick else 500)
        sizes = [server.memory_bytes()]
        for name in ("first", "second", "third"):
            _sleepers(server, name, count)
            sizes.append(server.memory_bytes())
    mib = [(after - before) / 2**20 * SESSIONS / count for before, after in pairwise(sizes)]
    base = f"{sizes[0] / 2**20:.0f} MiB before them"
    return [
        row("memory: the first 10,000 dormant sessions", mib[0], "MiB", beside=base),
        row("memory: 10,000 dormant sessions more", mib[1], "MiB", target=f"<= {GROWTH_MIB_MAX}"),
        row("memory: and another 10,000", mib[2], "MiB", target=f"<= {GROWTH_MIB_MAX}"),
    ]


def _sleepers(server: Server, name: str, count: int) -> None:
    """Sessions that were talked in, read and suspended."""
    entries = Dialogue().drafts(8)
    ids = [f"{name}-{i}" for i in range(count)]
    _once(server, [("POST", "/sessions", msgspec.json.encode({"id": each, "entries": entries})) for each in ids])
    _once(server, [("GET", f"/sessions/{each}", b"") for each in ids])
    _once(server, [("POST", f"/sessions/{each}/suspend", b"{}") for each in ids])


def _once(server: Server, requests: list[tuple[str, str, bytes]]) -> None:
    """Each request once, by as many connections as there are."""
    shots = [Shot("each", head(method, path, server.token, body)) for method, path, body in requests]
    found = run(
        Spec(
            host="127.0.0.1",
            port=server.port,
            connections=min(CONNECTIONS, len(shots)),
            seconds=300.0,
            shots=shots,
            cpu=cpus()[1],
            once=True,
            warm_up_seconds=0.0,
        )
    )
    times = found.kinds["each"]
    if times.failed or times.answered != len(shots):
        raise RuntimeError(f"{times.answered} of {len(shots)}: {found.statuses}")
