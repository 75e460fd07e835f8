"""The load test itself, by the command of its own environment, against a service that runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.house import ROOT
from tests.support.process import serving
from tests.support.services import need, service_url

pytestmark = pytest.mark.server

PYTHON: Final = ROOT / ".venv-load" / "bin" / "python"
PATIENCE_SECONDS: Final = 240
PNG: Final = b"\x89PNG\r\n"


def loaded(url: str, token: str, output: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a short run."""
    need(PYTHON.exists(), "load", "make setup-load")
    command = [
        PYTHON,
        "-m",
        "sessionmanager",
        "loadtest",
        "--url",
        url,
        "--seconds",
        "10",
        "--output",
        output,
        "--json",
    ]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "SESSIONMANAGER_TOKEN": token},
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def test_a_short_run_loses_nothing_and_leaves_a_page_with_its_pictures(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        code, answer = loaded(service.address, service.token, tmp_path / "report")
    criteria = {each["what"]: each for each in answer["criteria"]}
    assert criteria["failed requests"]["passed"], (tmp_path / "report" / "run_failures.csv").read_text()
    assert "p99 of POST /sessions/{id}/entries" in criteria
    assert criteria["acknowledged entries"]["passed"], criteria["acknowledged entries"]
    assert code == (0 if answer["passed"] else 1)
    page = Path(answer["report"])
    assert "Load test: " in page.read_text()
    pictures = list(page.parent.glob("*.png"))
    assert {path.stem for path in pictures} >= {"latency", "throughput", "errors", "memory", "routes"}
    assert all(path.read_bytes().startswith(PNG) for path in pictures)
    assert all(f'src="{path.name}"' in page.read_text() for path in pictures)


def test_a_replica_that_is_killed_in_a_run_costs_no_call_and_no_entry(tmp_path: Path) -> None:
    """What `make load REPLICAS=2 KILL_AT=…` does, in small."""
    need(PYTHON.exists(), "load", "make setup-load")
    for server in ("redis", "mongo-memory", "s3"):
        service_url(server)
    wanted = {"PROFILE": "100", "LOAD_SECONDS": "25", "REPLICAS": "2", "KILL_AT": "10"}
    done = subprocess.run(
        [PYTHON, ROOT / "loadtests" / "run.py", "--json"],
        env={"PATH": "/usr/bin:/bin", "LOAD_OUTPUT": str(tmp_path), **wanted},
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    criteria = {each["what"]: each for each in json.loads(done.stdout)["criteria"]}
    assert criteria["failed requests"]["passed"], (tmp_path / "run_failures.csv").read_text()
    assert criteria["acknowledged entries"]["passed"], criteria["acknowledged entries"]
    page = (tmp_path / "report.html").read_text()
    assert "kill -9 of replica 2" in page
    assert "replica 2 answers again" in page
    started = {
        process["started"]
        for line in (tmp_path / "run_samples.jsonl").read_text().splitlines()
        for name, process in json.loads(line)["server"].items()
        if name == "replica 2"
    }
    assert len(started) == 2, "it was there before and after"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"KILL_AT": "5", "REPLICAS": "1"}, "REPLICAS=2"),
        ({"REPLICAS": "2", "TIERS": "embedded"}, "embedded tiers belong to one process"),
        ({"KILL_AT": "5", "WORKERS": "2"}, "leave WORKERS out"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_is_started(wanted: dict[str, str], told: str) -> None:
    need(PYTHON.exists(), "load", "make setup-load")
    command = [PYTHON, ROOT / "loadtests" / "run.py"]
    done = subprocess.run(command, env=wanted, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode != 0
    assert told in done.stderr.decode()


def test_a_service_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    code, answer = loaded("http://127.0.0.1:9", "no token", tmp_path / "report")
    assert code == 1
    assert not answer["passed"]
