"""A Prometheus of a test's own, that scrapes a service each second."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.services.processes import free_ports
from tests.services.programs import PROGRAMS, MissingProgram, had
from tests.support.services import need

BUILD_SECONDS: Final = 300.0
START_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.2
ASK_SECONDS: Final = 10.0


def server(folder: Path) -> Path:
    """The program; promtool lies beside it. Skips or fails the test where it cannot be had."""
    try:
        found = had(PROGRAMS["prometheus"], folder / "prometheus.log", time.monotonic() + BUILD_SECONDS)
    except MissingProgram as missing:
        need(False, "prometheus", str(missing))
        raise
    return Path(found[0])


class Prometheus:
    """One that runs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of its API's answer. Raises what urllib does for a bad query."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
            return json.load(answer)["data"]

    def until(self, query: str) -> list[Any]:
        """The result of a query as soon as there is one."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if found := self.ask("query", query=query)["result"]:
                    return found
            except OSError:
                pass  # it has not begun to listen
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"nothing came of {query} in {START_SECONDS:g} s")


@contextmanager
def scraping(folder: Path, config: str) -> Iterator[Prometheus]:
    """Prometheus with this configuration, its data in `folder`; ended with the block."""
    program = server(folder)
    (folder / "prometheus.yml").write_text(config)
    port = free_ports(1)[0]
    command = [
        str(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.out").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        try:
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()
