"""A `serve` process of its own, on a free port: for what only a real process can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.server import EASY

PLAIN: Final = ("-m", "sessionmanager")
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
BANNER_LINES_MAX: Final = 200
LOG_LINES_SHOWN: Final = 5
INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_PATCH",
)


class NotStarted(AssertionError):
    """The process has ended, or was not there in time."""


class Process:
    """A `serve` process that runs. address: where it answers. token: a short-lived admin's of tenant `default`."""

    def __init__(self, process: subprocess.Popen[str], address: str, token: str) -> None:
        self.process = process
        self.address = address
        self.token = token

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM; answers the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(STOP_SECONDS)


@contextmanager
def serving(
    folder: Path,
    *flags: str,
    program: tuple[str, ...] = PLAIN,
    outer: Mapping[str, str] | None = None,
    **changes: str,
) -> Iterator[Process]:
    """`sessionmanager serve` as a process of its own, on a free port, with its data in `folder`.

    outer: environment under names of its own (credentials of a cloud). changes: settings. program: what Python runs.
    """
    command = [sys.executable, *program, "serve", "--data-dir", str(folder), "--port", "0", "--json"]
    command += flags
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    settings = {f"SESSIONMANAGER_{name.upper()}": value for name, value in {**EASY, **changes}.items()}
    environ = {**inherited, **(outer or {}), **settings}
    with (folder.parent / f"{folder.name}.log").open("a+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environ)
        try:
            try:
                running = _await_banner(process)
            except NotStarted as error:
                log.seek(0)
                error.add_note("".join(log.readlines()[-LOG_LINES_SHOWN:]))
                raise
            yield running
            running.stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(STOP_SECONDS)
            if process.stdout is not None:
                process.stdout.close()


def _await_banner(process: subprocess.Popen[str]) -> Process:
    """Read until the service says where it answers; a process that takes too long is killed, which ends the reading."""
    assert process.stdout is not None
    patience = threading.Timer(START_SECONDS, process.kill)
    patience.start()
    try:
        for line, _ in zip(process.stdout, range(BANNER_LINES_MAX), strict=False):
            value = _banner(line)
            if value is not None:
                return Process(process, value["address"], value["token"])
    finally:
        patience.cancel()
    raise NotStarted(f"the service did not start; exit status {process.poll()}")


def _banner(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "address" in value else None
