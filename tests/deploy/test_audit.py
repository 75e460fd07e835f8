"""`make audit` at a stand-in for an advisory database: what it asks, and what each answer and no answer mean."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.house import ROOT
from tests.support.left_out import FULL
from tests.support.services import need

pytestmark = pytest.mark.server

PYTHON: Final = ROOT / ".venv-audit" / "bin" / "python"
RUN_SECONDS: Final = 240
PINNED: Final = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)
FAULT: Final = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-0001"],
    "summary": "lets anybody in",
    "affected": [
        {"package": {"name": "starlette", "ecosystem": "PyPI"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]}
    ],
}  # fmt: skip
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@contextmanager
def database(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """One that answers so; and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(question)
            status, body = answer(question)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", asked
    finally:
        server.shutdown()
        server.server_close()


def audited(url: str, *files: Path) -> subprocess.CompletedProcess[str]:
    need(PYTHON.exists(), "audit", "make audit")
    return subprocess.run(
        [PYTHON, ROOT / "scripts/audit.py", *files],
        env=os.environ | {"AUDIT_URL": url, "NO_PROXY": "127.0.0.1"},
        capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip


def nothing(question: dict[str, Any]) -> tuple[int, Any]:
    return 200, {}


def test_every_package_that_the_service_runs_on_is_asked_about_with_its_pinned_version() -> None:
    with database(nothing) as (url, asked):
        done = audited(url)
    assert done.returncode == 0, done.stderr
    assert "no known vulnerability" in done.stdout
    there = {(one["package"]["name"], one["version"]) for one in asked if "package" in one}
    pinned = set(PINNED.findall((ROOT / "requirements/runtime.txt").read_text()))
    missing = {name for name, _ in pinned - there}
    # What is for another Python or another system is not asked about here.
    marked = set(re.findall(r"^([a-z0-9.-]+)==\S+ ;", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE))
    assert missing <= marked
    assert there <= pinned
    assert "starlette" in {name for name, _ in there}


def test_a_known_vulnerability_fails_with_its_name_and_the_release_that_mends_it(tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("starlette==1.10.0\nclick==8.5.0\n")

    def answer(question: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"vulns": [FAULT]} if question.get("package", {}).get("name") == "starlette" else {}

    with database(answer) as (url, _):
        done = audited(url, few)
    assert done.returncode == 1, done.stderr
    for word in ("starlette 1.10.0", "PYSEC-2026-1", "CVE-2026-0001", "99.0", "1 known vulnerabilities"):
        assert word in done.stdout
    assert "click" not in done.stdout


@FULL
def test_where_no_database_can_be_reached_it_says_that_nothing_was_checked_and_succeeds() -> None:
    done = audited("http://127.0.0.1:9/v1/query")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was checked" in done.stdout
    assert "no known vulnerability" not in done.stdout


@FULL
def test_a_database_that_answers_nonsense_is_no_clean_audit(tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("click==8.5.0\n")
    with database(lambda question: (500, {"no": "answer"})) as (url, _):
        done = audited(url, few)
    assert done.returncode == 2
    assert "could not be done" in done.stderr
