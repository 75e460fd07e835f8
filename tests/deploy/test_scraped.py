"""What is scraped is there: `make run` by the sample configuration, and a worker by its own port."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.prometheus import scraping
from tests.services.processes import free_ports
from tests.support.house import ROOT
from tests.support.process import serving
from tests.support.shared_tiers import SharedTiers, shared_tiers

pytestmark = pytest.mark.server

SAMPLE: Final = ROOT / "deploy" / "prometheus" / "local.yml"
START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1


def test_prometheus_finds_what_make_run_serves_by_the_sample(tmp_path: Path) -> None:
    rules = SAMPLE.with_name("rules.yml")
    with serving(tmp_path / "data") as running:
        address = running.address.removeprefix("http://")
        config = SAMPLE.read_text().replace("127.0.0.1:8000", address).replace("- rules.yml", f"- {rules}")
        assert config.count(address) == 1
        with scraping(tmp_path, config.replace("scrape_interval: 5s", "scrape_interval: 1s")) as prometheus:
            found = prometheus.until('up{job="sessionmanager"} == 1')
            assert [one["metric"]["instance"] for one in found] == [address]
            assert prometheus.until("sessionmanager_build_info")
            loaded = {group["name"] for group in prometheus.ask("rules")["groups"]}
            assert "sessionmanager.alerts" in loaded


@contextmanager
def working(tiers: SharedTiers, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`sessionmanager worker`, its metrics at `port`."""
    settings = {f"SESSIONMANAGER_{name.upper()}": value for name, value in tiers.settings.items()}
    around = {**settings, **tiers.outer, "SESSIONMANAGER_METRICS_PORT": str(port), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "sessionmanager", "worker", "--data-dir", str(folder / "data")]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=around, stdout=log, stderr=log, cwd=ROOT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def page(port: int) -> str:
    """The metrics, as soon as they are there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the worker serves no metrics"
            time.sleep(LOOK_SECONDS)


async def test_a_worker_tells_its_metrics_and_ends_at_sigterm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with shared_tiers(monkeypatch, tmp_path) as tiers:
        port = free_ports(1)[0]
        with working(tiers, port, tmp_path) as process:
            assert "sessionmanager_worker_lag_seconds_count" in page(port)
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0, (tmp_path / "worker.log").read_text()
