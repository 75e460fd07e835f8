"""Reads the project as files: modules and their imports, pages and their links. Imports nothing of the service."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "sessionmanager"
DOCS: Final = ROOT / "docs"
FOLDERS: Final = (
    "sessionmanager",
    "tests",
    "docs",
    "scripts",
    "requirements",
    "examples",
    "clients",
    ".ci",
    "deploy",
    "k8s",
)
"""What is kept of the project, beside the files at its root."""
MADE: Final = frozenset({"__pycache__", "node_modules", "build"})
BINARY: Final = frozenset({".pyc", ".png", ".wav", ".gz"})


class Import(NamedTuple):
    """module: the whole dotted name, with what is taken from a package that holds modules. inside: within a function,
    or under TYPE_CHECKING, so that nothing is loaded with the module itself."""

    module: str
    inside: bool


@cache
def modules() -> tuple[Path, ...]:
    """Every module of the service."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    """`core.ledger` for `sessionmanager/core/ledger.py`; a package is named by its folder, the outermost is ``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(tree(path), inside=False))


def _imports(node: ast.AST, *, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(one.name, inside) for one in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the whole module"
            yield from _taken(child, inside)
        else:
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            )
            yield from _imports(child, inside=inside or deferred)


def _taken(node: ast.ImportFrom, inside: bool) -> Iterator[Import]:
    """`from sessionmanager import errors` takes a module; `from sessionmanager import __version__` does not."""
    module = node.module or ""
    for one in node.names:
        inner = ROOT.joinpath(*module.split("."), one.name)
        held = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
        yield Import(f"{module}.{one.name}" if held else module, inside)


def files() -> Iterator[Path]:
    """Every text file that belongs to the project: what is made or cached is left out."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith((".coverage", ".stamp")))
    for folder in FOLDERS:
        for path in ROOT.joinpath(folder).rglob("*"):
            if path.is_file() and path.suffix not in BINARY and not MADE.intersection(path.relative_to(ROOT).parts):
                yield path


def pages() -> Iterator[Path]:
    """Every Markdown file of the project."""
    return (path for path in files() if path.suffix == ".md")


_FENCE: Final = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    """Where the links of a page lead, code left out."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def headings(page: Path) -> list[str]:
    """The names by which a link may point into a page (`a heading, with signs` → `a-heading-with-signs`)."""
    found = re.findall(r"^#{1,6} +(.+?) *$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found]


def cells(page: Path, columns: int) -> list[list[str]]:
    """The rows of all tables of that many columns, without their heads; code ticks and blanks are taken off."""
    rows = []
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            continue
        row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(row) == columns:
            rows.append(row)
    return [row for row, after in zip(rows, [*rows[1:], []], strict=True) if not _is_rule(row) and not _is_rule(after)]


def _is_rule(row: list[str]) -> bool:
    return bool(row) and all(re.fullmatch(r":?-+:?", cell) for cell in row)
