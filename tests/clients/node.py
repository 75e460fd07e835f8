"""Node for the TypeScript client: there, or the test is skipped by name, or fails where servers are required."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Final

import pytest

from tests.services.state import required
from tests.support.house import ROOT

SCRIPT: Final = ROOT / "scripts" / "typescript"
NO_NODE: Final = 3
NO_PACKAGES: Final = 4
SECONDS_MAX: Final = 600
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def typescript(*arguments: str, more: Mapping[str, str] | None = None) -> str:
    """What `scripts/typescript` says. more: environment beside this process's own. Fails the test where it fails."""
    done = subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode == NO_NODE:
        _missing("needs node: Node >= 20.19 with npm")
    if done.returncode == NO_PACKAGES:
        _missing("needs the packages of clients/typescript/package-lock.json: npm cannot fetch them")
    assert done.returncode == 0, done.stdout
    return done.stdout


def need_browser() -> None:
    """Skips where there is no Chromium: no target of ours installs one, so that it is never a failure."""
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs the browser chromium")


def _missing(reason: str) -> None:
    if required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
