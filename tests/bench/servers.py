"""Processes to measure: the service as `sessionmanager serve` runs it, and the bare server beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tests.bench.bare import Bare
from tests.bench.load import REPOSITORY

SECRET: Final = "a secret for measurements only, 32 bytes or more"
STOP_SECONDS: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpus() -> tuple[int | None, int | None]:
    """Where the server runs, and where the load comes from: two processors, or anywhere if there is one only."""
    known = sorted(os.sched_getaffinity(0))
    return (known[0], known[1]) if len(known) > 1 else (None, None)


class Server(NamedTuple):
    """A process that serves on the loopback. token: an admin's, of tenant `default`."""

    pid: int
    port: int
    token: str

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request, not measured."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {"authorization": f"Bearer {self.token}", "content-type": "application/json", **(headers or {})}
            data = None if body is None else msgspec.json.encode(body)
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """Time on a processor since it began: what other programs on the machine do hardly moves it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_bytes(self) -> int:
        """Resident memory that is its own."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Private_Dirty in smaps_rollup")

    def bytes_written(self) -> int:
        """Bytes that it caused to be sent to the storage."""
        for line in Path(f"/proc/{self.pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
        raise RuntimeError("no wchar in io")


@contextmanager
def service(folder: Path, settings: Mapping[str, str] | None = None) -> Generator[Server]:
    """The service on the embedded tiers, with its worker, in `folder`; ended by SIGTERM."""
    server_cpu, _ = cpus()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SESSIONMANAGER_")},
        "JWT_SECRET": SECRET,
        **(settings or {}),
    }
    command = [sys.executable, "-m", "sessionmanager", "serve", "--json", "--port", "0", "--data-dir", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=REPOSITORY)
        try:
            if server_cpu is not None:
                os.sched_setaffinity(process.pid, {server_cpu})
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(Path(log.name).read_text()[-2000:])
            told = json.loads(line)
            yield Server(process.pid, int(told["address"].rpartition(":")[2]), told["token"])
        finally:
            _end(process)


@contextmanager
def bare(given: Bare, token: str) -> Generator[Server]:
    """The bare server. token: what it takes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(given))
        process.stdin.close()
        yield Server(process.pid, int(process.stdout.readline()), token)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
