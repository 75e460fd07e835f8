"""The load test itself, by the command of its own environment, against a service that runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.house import ROOT
from tests.support.process import serving
from tests.support.services import need

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
    assert code == (0 if answer["passed"] else 1)
    page = Path(answer["report"])
    assert "Load test: " in page.read_text()
    pictures = list(page.parent.glob("*.png"))
    assert {path.stem for path in pictures} >= {"latency", "throughput", "errors", "memory", "routes"}
    assert all(path.read_bytes().startswith(PNG) for path in pictures)
    assert all(f'src="{path.name}"' in page.read_text() for path in pictures)


def test_a_service_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    code, answer = loaded("http://127.0.0.1:9", "no token", tmp_path / "report")
    assert code == 1
    assert not answer["passed"]
