"""The page of licences is that of the packages that are locked, and none of them binds whoever uses the service."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

import pytest

from tests.support.house import DOCS, ROOT

pytestmark = pytest.mark.unit

BINDING: Final = re.compile(r"\b(A?GPL|SSPL|BUSL|Commons Clause)\b|Affero|General Public", re.IGNORECASE)


def test_the_page_lists_every_locked_package_with_its_licence() -> None:
    done = subprocess.run([sys.executable, "scripts/licences.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    page = (DOCS / "reference" / "licences.md").read_text()
    here = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("|")}
    kept = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("|")}
    assert here.keys() == kept.keys(), "python scripts/licences.py > docs/reference/licences.md"
    # What this platform does not need was seen on another.
    assert {name: line for name, line in here.items() if "not for this platform" not in line} == {
        name: line for name, line in kept.items() if "not for this platform" not in here[name]
    }


def test_no_licence_binds_whoever_runs_the_service() -> None:
    page = (DOCS / "reference" / "licences.md").read_text()
    assert [line for line in page.splitlines() if BINDING.search(line)] == []
