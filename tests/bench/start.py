"""From the start of a process until it is ready: `serve` by `/readyz`, other commands by their end.

What else the machine does falls into these times, so that the processor's own time stands beside each.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from tests.bench.embedded import scratch
from tests.bench.load import REPOSITORY
from tests.bench.production import places
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import SECRET

READY_SECONDS: Final = 2.0
COMMAND_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 60.0


class Start(NamedTuple):
    """Of one process. seconds: until it was ready. processor_seconds: of its own until then."""

    seconds: float
    processor_seconds: float


def rows(plan: Plan) -> list[Row]:
    """On embedded tiers: the very first start, and later ones; and commands that should be there at once."""
    times = range(_times(plan))
    with scratch() as folder:
        data = folder / "first-0"
        return [
            _row("embedded tiers, first start", [_serve(folder / f"first-{n}", {}) for n in times]),
            _row("embedded tiers, again", [_serve(data, {}) for _ in times]),
            _row("sessionmanager --help", [_command(["--help"]) for _ in times], target=COMMAND_SECONDS),
            _row(
                "sessionmanager token",
                [_command(["token", "--data-dir", str(data)]) for _ in times],
                target=COMMAND_SECONDS,
            ),
        ]


def shared_rows(plan: Plan) -> list[Row]:
    """On Redis, MongoDB and S3: the first start, which makes the indexes, and later ones."""
    with scratch() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        place = runner.run(stack.enter_async_context(places(folder)))
        try:
            return [
                _row("three tiers, first start", [_serve(folder / "served", place.environ)]),
                _row("three tiers, again", [_serve(folder / "served", place.environ) for _ in range(_times(plan))]),
            ]
        finally:
            runner.run(stack.aclose())


def _times(plan: Plan) -> int:
    return 1 if plan.quick else 9


def _row(name: str, starts: list[Start], *, target: float = READY_SECONDS) -> Row:
    seconds = statistics.median(start.seconds for start in starts)
    used = statistics.median(start.processor_seconds for start in starts)
    return row(f"start: {name}", seconds, "s", beside=f"processor: {used:.2f} s", target=f"<= {target:g}")


def _serve(folder: Path, settings: Mapping[str, str]) -> Start:
    """`serve` until its first `200` of `/readyz`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONMANAGER_")}
    command = [sys.executable, "-m", "sessionmanager", "serve", "--json", "--port", "0", "--data-dir", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environ, "JWT_SECRET": SECRET, **settings},
            cwd=REPOSITORY,
        )
        try:
            assert process.stdout is not None, "it was asked for"
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(Path(log.name).read_text()[-2000:])
            address = json.loads(line)["address"]
            while _status(address) != 200:
                if time.perf_counter() - began > PATIENCE_SECONDS:
                    raise RuntimeError(f"{address} is not ready")
            return Start(time.perf_counter() - began, _processor_seconds(process.pid))
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _status(address: str) -> int:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _command(arguments: list[str]) -> Start:
    before = os.times()
    began = time.perf_counter()
    environ = {**os.environ, "JWT_SECRET": SECRET}
    subprocess.run(
        [sys.executable, "-m", "sessionmanager", *arguments], stdout=subprocess.DEVNULL, check=True, env=environ
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Start(time.perf_counter() - began, used)
