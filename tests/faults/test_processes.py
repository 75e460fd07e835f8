"""`serve --workers N`: one address, one metrics page, and whoever dies is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Process, serving
from tests.support.shared_tiers import SharedTiers, shared_tiers

pytestmark = pytest.mark.server

PATIENCE_SECONDS = 30.0


@pytest.fixture
async def tiers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncGenerator[SharedTiers]:
    async with shared_tiers(monkeypatch, tmp_path) as tiers:
        yield tiers


def samples(address: str, name: str) -> list[tuple[dict[str, str], float]]:
    page = httpx2.get(f"{address}/metrics").raise_for_status().text
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    ]


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Ask until it holds. Fails after half a minute."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.05)  # between two questions, not in place of one


def children(running: Process) -> list[int]:
    pid = running.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] if alive(pid) else []


def slots(address: str) -> set[str]:
    return {labels["process"] for labels, _ in samples(address, "process_start_time_seconds")}


def test_several_processes_serve_one_address_and_are_one_to_whoever_scrapes(tiers: SharedTiers, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2", outer=tiers.outer, **tiers.settings) as running:
        eventually(lambda: slots(running.address) == {"0", "1"}, "two processes")
        headers = {"authorization": f"Bearer {running.token}"}
        for i in range(40):  # a connection each, so that the kernel hands them to both
            created = httpx2.post(f"{running.address}/sessions", json={"id": f"s{i}"}, headers=headers)
            assert created.status_code == 201
            assert httpx2.get(f"{running.address}/sessions/s{i}", headers=headers).json()["version"] == 1
        commits = [
            (labels["process"], value)
            for labels, value in samples(running.address, "sessionmanager_commits_total")
            if labels["action"] == "create"
        ]
        assert sum(value for _, value in commits) == 40
        assert {process for process, _ in commits} == {"0", "1"}


def test_a_process_that_dies_is_replaced_in_its_slot_and_the_others_go_on(tiers: SharedTiers, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2", outer=tiers.outer, **tiers.settings) as running:
        eventually(lambda: slots(running.address) == {"0", "1"}, "two processes")
        before = children(running)
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(set(children(running)) - set(before)) == 1, "a new process")
        eventually(lambda: slots(running.address) == {"0", "1"}, "both answer again")
        assert running.stop() == 0
        assert children(running) == []


def test_when_the_first_process_is_killed_the_others_stop_by_themselves(tiers: SharedTiers, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2", outer=tiers.outer, **tiers.settings) as running:
        eventually(lambda: slots(running.address) == {"0", "1"}, "two processes")
        orphans = children(running)
        running.kill()
        eventually(lambda: not any(alive(pid) for pid in orphans), "nobody goes on serving")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_cannot_start_ends_the_whole_with_its_reason(tiers: SharedTiers, tmp_path: Path) -> None:
    settings = {**tiers.settings, "warm_url": "mongodb://127.0.0.1:9/nobody"}
    environ = {f"SESSIONMANAGER_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "sessionmanager", "serve", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    ended = subprocess.run(
        [*command, "--workers", "2"],
        env={"PATH": os.environ["PATH"], **tiers.outer, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode not in (0, None)
    assert "MongoDB: no primary can be reached" in ended.stderr
