"""What the quick profile leaves out is left out of it alone, and never in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.house import ROOT

pytestmark = pytest.mark.contract

RUN_SECONDS: Final = 120
HEAD: Final = "import pytest; pytestmark = pytest.mark.unit\n"
TESTS: Final = f"""{HEAD}
@pytest.mark.full
def test_that_takes_minutes(): pass
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)])
def test_of_many_cases(n): pass
def test_of_many_rounds(profile): pass
def test_that_is_always_there(): pass
"""
SHORT: Final = f"{HEAD}def test_of_another_file(): pass\n"


def run(folder: Path, *more: str, profile: str = "quick") -> str:
    """What a run of these tests says, under the conftest of all tests."""
    folder.joinpath("conftest.py").write_text("from tests.conftest import *\n")
    folder.joinpath("test_long.py").write_text(TESTS)
    folder.joinpath("test_short.py").write_text(SHORT)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *more, str(folder)]
    environ = {**os.environ, "TEST_PROFILE": profile}
    for name in [name for name in environ if name.startswith(("PYTEST_XDIST", "COV_CORE"))]:
        del environ[name]
    ran = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_the_quick_profile_leaves_out_is_named_and_counted_at_the_end(tmp_path: Path, workers: str) -> None:
    told = run(tmp_path, "-n", workers, "--dist", "loadfile")
    assert "4 passed" in told
    assert "3 left out" in told
    assert "test_long.py: test_that_takes_minutes, test_of_many_cases (2)" in told
    assert "1 with fewer rounds than in full" in told
    assert "test_long.py: test_of_many_rounds" in told
    assert told.index("TEST_PROFILE=full runs them all") > told.index("test_of_many_rounds")


def test_the_full_profile_leaves_nothing_out(tmp_path: Path) -> None:
    told = run(tmp_path, "-n", "0", profile="full")
    assert "7 passed" in told
    assert "left out" not in told


def test_a_run_of_what_is_always_there_has_nothing_to_tell(tmp_path: Path) -> None:
    told = run(tmp_path, "-n", "0", "-k", "another_file")
    assert "1 passed" in told
    assert "left out" not in told
