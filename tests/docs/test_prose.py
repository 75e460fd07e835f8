"""Prose that points somewhere: links, decisions, fragments of the changelog, and the tests that requirements name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from tests.support import house
from tests.support.house import DOCS, ROOT

pytestmark = pytest.mark.unit

DECISIONS: Final = DOCS / "decisions"
PARTS: Final = ["Question", "Options", "Decision", "Consequences", "What would reopen it"]
STATUS: Final = r"Status: (accepted|proposed|superseded by \d{4}) · Date: \d{4}-\d\d-\d\d"
PAGE_LINES_MAX: Final = 60
KINDS: Final = ("security", "removed", "deprecated", "added", "changed", "fixed")
SYSTEMS: Final = ("Conflicts", "s0", "s1", "s2", "s3", "s4")


def test_every_link_leads_to_a_file_and_to_a_heading_in_it() -> None:
    broken = []
    for page in house.pages():
        for link in house.links(page):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, heading = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or not target.is_relative_to(ROOT):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
            elif heading and heading not in house.headings(target):
                broken.append(f"{page.relative_to(ROOT)}: {link} has no such heading")
    assert broken == []


def test_files_that_prose_names_are_there() -> None:
    """In code marks and with a folder: `core/ledger.py`, `docs/how-to/operate.md`, `tests/sim/`."""
    missing = []
    made = re.compile(r"(?:^|/)(?:cold|build|data|\.venv)/")
    for page in house.pages():
        for name in re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|md|json|txt|toml))?)`", page.read_text()):
            there = (ROOT / name).exists() or any(house.PACKAGE.rglob(name.rstrip("/")))
            if not there and not made.search(name):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert missing == []


def test_decisions_are_numbered_without_a_gap_and_whole() -> None:
    pages = sorted(DECISIONS.glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, 1):
        assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", page.name), page.name
        text = page.read_text()
        title, _, status = text.split("\n")[:3]
        assert re.match(rf"# {number}\. \S", title), page.name
        assert re.fullmatch(STATUS, status), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS, page.name
        assert len(text.splitlines()) <= PAGE_LINES_MAX, page.name
        sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
        assert all(section.strip() for section in sections), page.name


def test_decisions_that_are_named_exist() -> None:
    known = {page.name[:4] for page in DECISIONS.glob("*.md")}
    named = {
        (path.name, number)
        for path in house.files()
        if path.suffix in (".py", ".md")
        for number in re.findall(r"\bdecision (\d{4})\b", path.read_text())
    }
    assert {number for _, number in named} <= known
    assert named, "the map names at least one"


def test_fragments_of_the_changelog_are_one_sentence_of_a_known_kind() -> None:
    for path in DOCS.joinpath("changes").iterdir():
        assert re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md", path.name), path.name
        text = path.read_text()
        assert text.count("\n") == 1, path.name
        assert text.endswith(".\n"), path.name
    assert DOCS.joinpath("changelog.md").exists()


# -- requirements: a line says what is asked, what does it, and which test shows it


class Line:
    """A row of `docs/requirements.md`."""

    def __init__(self, row: list[str]) -> None:
        self.asked, self.done, tests = row
        self.tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        self.rest = re.sub(r"`[^`]*`", "", tests).replace("<br>", "").strip()


def lines() -> list[Line]:
    return [Line(row) for row in house.cells(DOCS / "requirements.md", 3)]


@cache
def names_in(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))


def test_every_requirement_names_tests_that_exist() -> None:
    assert len(lines()) > 40
    for line in lines():
        assert line.tests, line.asked
        assert line.rest == "", f"{line.asked}: {line.rest}"
        assert line.done, line.asked
        for path, name in line.tests:
            assert ROOT.joinpath(path).exists(), path
            assert name in names_in(ROOT / path), f"{path}::{name}"


def test_requirements_are_those_of_the_five_systems_and_their_conflicts() -> None:
    headings = re.findall(r"^## (\w+)", DOCS.joinpath("requirements.md").read_text(), re.MULTILINE)
    assert headings == list(SYSTEMS)


# -- the plan


def test_the_plan_ticks_or_explains_every_line() -> None:
    text = DOCS.joinpath("plan.md").read_text()
    ticked = re.findall(r"^- \[(.)\] (.+(?:\n {2,}.+)*)", text, re.MULTILINE)
    assert ticked
    assert {mark for mark, _ in ticked} <= {" ", "x"}
    for mark, line in ticked:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line):
            assert ROOT.joinpath(path).exists(), path
            assert not name or name in names_in(ROOT / path), f"{path}::{name}"
        assert mark == "x" or "; " in line or ": " in line, f"what is missing: {line}"
