"""Node for the TypeScript client: there, or the test is skipped by name, or fails where servers are required."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.services.programs import MissingProgram, Program, had, run
from tests.services.state import State, required
from tests.support.house import ROOT

SCRIPT: Final = ROOT / "scripts" / "typescript"
LOCK: Final = ROOT / "build" / "typescript.lock"
NO_NODE: Final = 3
NO_PACKAGES: Final = 4
SECONDS_MAX: Final = 600
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
BROWSER_SECONDS: Final = 300.0
"""For installing one."""


def typescript(*arguments: str, more: Mapping[str, str] | None = None) -> str:
    """What `scripts/typescript` says. more: environment beside this process's own. Fails the test where it fails."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # all that run tests beside us share one copy, and its packages
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
    """Goes on where there is a Chromium. Where servers are required it is installed, and else it fails; a machine of
    somebody's own is left as it is, and the test is skipped."""
    if _find_browser() is not None:
        return
    if not required():
        pytest.skip("needs the browser chromium")
    program = Program("chromium", _find_browser, _install_browser)
    state = State()
    try:
        with state.held():
            had(program, state.folder / "chromium.log", time.monotonic() + BROWSER_SECONDS)
    except MissingProgram as missing:
        pytest.fail(f"needs the browser chromium: {missing}", pytrace=False)


def _find_browser() -> tuple[str, ...] | None:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return None if found is None else (found,)


def _install_browser(log: Path, seconds: float) -> None:
    """Debian's package, as `make services` installs what it needs of Debian's."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingProgram("install it: it is Debian's package chromium")
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    until = time.monotonic() + seconds
    run(("apt-get", "update", "-qq"), log, seconds, environ)
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")
    run(install, log, max(1.0, until - time.monotonic()), environ)


def _missing(reason: str) -> None:
    if required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
