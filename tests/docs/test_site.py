"""The site: every page is on it, and no link leads nowhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.house import DOCS, ROOT
from tests.support.left_out import FULL
from tests.support.services import need

pytestmark = pytest.mark.server

BUILDER: Final = ROOT / ".venv-docs" / "bin" / "sphinx-build"


def built(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    need(BUILDER.exists(), "docs", "make setup-docs")
    command = [BUILDER, "-q", "-n", "-W", "--keep-going", "-b", "html", "-c", DOCS, source, target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_is_built_with_every_page_and_no_broken_link(tmp_path: Path) -> None:
    done = built(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md") if path.parent.name != "changes"}
    assert {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")} >= pages


@FULL
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Page\n\n[gone](gone.md)\n")
    done = built(source, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
