"""More callers than the service can answer: how much it still does, how late, and how soon it is over."""

from __future__ import annotations

import statistics
from typing import Final

from tests.bench.embedded import scratch
from tests.bench.load import Result, Shot, Spec, head, run
from tests.bench.rows import Plan, Row, paired, row
from tests.bench.servers import Server, cpus, service
from tests.bench.throughput import make_sessions

CONNECTIONS: Final = 64
CROWD: Final = 1_000
"""Callers who ask again as soon as they have an answer, and a second later where they were refused."""
SESSIONS: Final = 64
LINES: Final = 20
SAID: Final = b'{"entries":[{"type":"message","role":"user","content":"Yes, that is the number on the invoice."}]}'


def rows(plan: Plan) -> list[Row]:
    """Rounds of three loads: as many callers as make the peak, a crowd, and as many as before, right after it.

    The sessions grow all the while, so each round is held against the peaks on either side of it.
    """
    seconds, rounds = (1.0, 1) if plan.quick else (6.0, 3)
    peaks: list[float] = []
    crowds: list[Result] = []
    afters: list[float] = []
    with scratch() as folder, service(folder / "data") as server:
        paths = make_sessions(server, SESSIONS, LINES)
        shots = [Shot("append", head("POST", f"{path}/entries", server.token, SAID)) for path in paths]
        for _ in range(rounds):
            peaks.append(_rate(_load(server, shots, seconds, CONNECTIONS), seconds))
            crowds.append(_load(server, shots, seconds, CROWD))
            afters.append(_rate(_load(server, shots, seconds, CONNECTIONS), seconds))
        peaks.append(_rate(_load(server, shots, seconds, CONNECTIONS), seconds))
    around = [statistics.mean(peaks[i : i + 2]) for i in range(rounds)]
    done, peak, share = paired([(_rate(crowd, seconds), peak) for crowd, peak in zip(crowds, around, strict=True)])
    after, _, regained = paired(list(zip(afters, around, strict=True)))
    told, beside = f"overload: appends of {CROWD:,} callers", f"peak {peak:,.0f}/s"
    found = [
        row(f"{told}: done", done, "a second", beside=beside, ratio=share, target=">= 0.8"),
        row(f"{told}: p99 of those", _p99(crowds, "append"), "ms", target="<= 1000"),
        row("overload: right after it", after, "a second", beside=beside, ratio=regained, target=">= 0.95"),
    ]
    refused = [crowd.kinds["refused"].answered / seconds for crowd in crowds if "refused" in crowd.kinds]
    if refused:
        found.append(row(f"{told}: refused", statistics.median(refused), "a second"))
        found.append(row(f"{told}: p99 of a refusal", _p99(crowds, "refused"), "ms"))
    return found


def _load(server: Server, shots: list[Shot], seconds: float, callers: int) -> Result:
    found = run(
        Spec(
            host="127.0.0.1", port=server.port, connections=callers, seconds=seconds, shots=shots, cpu=cpus()[1],
            refused_apart=True, warm_up_seconds=1.0,
        )
    )  # fmt: skip
    if set(found.statuses) - {"201", "503"}:
        raise RuntimeError(str(found.statuses))
    return found


def _rate(found: Result, seconds: float) -> float:
    """Appends a second that were done."""
    return found.kinds["append"].answered / seconds


def _p99(rounds: list[Result], kind: str) -> float:
    """The median of the rounds' own, in milliseconds."""
    return statistics.median(found.kinds[kind].p99 for found in rounds if kind in found.kinds)
