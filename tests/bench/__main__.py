"""`make bench`: measure, print a table and write `build/bench.json`.

Ratios are of one run, taken in turns; nothing here fails for being slow. Each row says whether its target is met.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from tests.bench import (
    bridges,
    commits,
    feed,
    flat,
    memory,
    mongo_bench,
    overload,
    production,
    redis_bench,
    start,
    stored,
    throughput,
    voice,
)
from tests.bench.load import REPOSITORY
from tests.bench.rows import Plan, Row, table
from tests.services.state import State, variable

GROUPS: Final[Mapping[str, Callable[[Plan], list[Row]]]] = {
    "throughput": throughput.rows,
    "commits": commits.rows,
    "voice": voice.rows,
    "stored": stored.rows,
    "memory": memory.rows,
    "flat": flat.rows,
    "feed": feed.rows,
    "overload": overload.rows,
    "bridges": bridges.rows,
    "start": start.rows,
}
SHARED: Final[Mapping[str, tuple[str, Callable[[Plan], list[Row]]]]] = {
    "redis": ("redis", redis_bench.rows),
    "mongo": ("mongo-memory", mongo_bench.rows),
    "production": ("mongo-memory", production.rows),
    "start-shared": ("mongo-memory", start.shared_rows),
}
"""Groups that need a server of `make services`, with its name; left out, by name, where it does not run."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the service.")
    parser.add_argument(
        "--only", action="append", choices=(*GROUPS, *SHARED), help="one group; may be given more than once"
    )
    parser.add_argument("--quick", action="store_true", help="just to see that it runs; the numbers mean nothing")
    parser.add_argument("--output", default=str(REPOSITORY / "build" / "bench.json"), metavar="FILE")
    given = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows: list[Row] = []
    for name in given.only or (*GROUPS, *SHARED):
        began = time.perf_counter()
        measure = GROUPS.get(name) or _shared(name)
        if measure is None:
            continue
        found = measure(Plan(quick=given.quick))
        print(f"\n{name} ({time.perf_counter() - began:.0f} s)\n{table(found)}", flush=True)
        rows += found
    with open(given.output, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    judged = [each.met for each in rows if each.met is not None]
    print(f"\n{sum(judged)} of {len(judged)} targets met; {len(rows)} rows in {given.output}")
    return 0


def _shared(group: str) -> Callable[[Plan], list[Row]] | None:
    server, measure = SHARED[group]
    shared = State().read().get(server)
    if not os.environ.get(variable(server)) and (shared is None or not shared.runs):
        print(f"\n{group}: left out, the server {server} does not run (make services)", flush=True)
        return None
    return measure


if __name__ == "__main__":
    sys.exit(main())
