"""The house: which module may know which, how large things grow, and what is nowhere in the project."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.support import house
from tests.support.house import PACKAGE, ROOT, imports, modules, name_of, tree
from tests.support.house_rules import ARROWS, EVERYTHING, INSIDE, LIBRARIES, PROTOCOLS

pytestmark = pytest.mark.unit

OURS: Final = "sessionmanager"
IMPURE: Final = frozenset(
    ("asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "select", "shutil", "socket", "ssl", "structlog",
     "subprocess", "tempfile", "threading", "time", "uuid")
)  # fmt: skip

# -- sizes

FILE_LINES_MAX: Final = 400
TEST_LINES_MAX: Final = 420
FUNCTION_LINES_MAX: Final = 60
FOLDER_FILES_MAX: Final = 16
WIDE_FOLDERS: Final = {"api": 19, "cli": 17, "core": 18, "model": 20}
"""Folders over the bound, each with its own: they may shrink, never grow."""
ARCHITECTURE_LINES_MAX: Final = 150
PROTOCOL_METHODS_MAX: Final = 10


def within(module: str, parts: tuple[str, ...]) -> bool:
    return any(module == part or (part != "" and module.startswith(f"{part}.")) for part in parts)


def ours(path: Path) -> Iterator[house.Import]:
    for one in imports(path):
        if one.module == OURS or one.module.startswith(f"{OURS}."):
            yield house.Import(one.module.removeprefix(OURS).removeprefix("."), one.inside)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_imports_follow_the_arrows() -> None:
    wrong = []
    for path in modules():
        module = name_of(path)
        if module == EVERYTHING:
            continue
        allowed = next((may for part, may in ARROWS if within(module, (part,))), None)
        assert allowed is not None, f"{module} has no line in ARROWS"
        for one in ours(path):
            may = (*allowed, *INSIDE.get(module, ())) if one.inside else allowed
            if not within(one.module, may):
                wrong.append(f"{module} imports {one.module or OURS}")
    assert wrong == []


def test_every_arrow_is_walked() -> None:
    """A line that nothing needs any more would let something in unseen."""
    walked = {(name_of(path), one.module, one.inside) for path in modules() for one in ours(path)}
    idle = [
        f"{module} → {target}"
        for module, targets in INSIDE.items()
        for target in targets
        if (module, target, True) not in walked
    ]
    assert idle == []
    names = {name_of(path) for path in modules()}
    assert [part for part, _ in ARROWS if not any(within(name, (part,)) for name in names)] == []


def test_a_library_is_known_where_it_is_used_and_nowhere_else() -> None:
    wrong = [
        f"{name_of(path)} imports {one.module}"
        for path in modules()
        for one in imports(path)
        for library in [one.module.split(".")[0]]
        if library in LIBRARIES and not within(name_of(path), LIBRARIES[library])
    ]
    assert wrong == []


def test_the_model_is_pure() -> None:
    """No await, no input or output, no clock, no randomness: time and ids come as arguments."""
    for path in modules():
        if not within(name_of(path), ("model",)):
            continue
        assert not {one.module.split(".")[0] for one in imports(path)} & IMPURE, path
        for node in ast.walk(tree(path)):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor), path
            assert not (isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")), path
            assert not (isinstance(node, ast.Name) and node.id in ("open", "print", "input")), path


def test_only_the_ledger_sends_a_commit_to_warm() -> None:
    """`core/send.py` is its hand; the guard passes calls on. Whoever else calls `commit` calls the ledger's."""
    allowed = {"core.send", "tiers.guarded"}
    callers = {
        name_of(path)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
        and ast.unparse(node.func.value).split(".")[-1] in ("warm", "_warm", "tier", "_tier")
    }
    assert callers <= allowed


def test_no_file_function_or_folder_outgrows_its_bound() -> None:
    wrong = []
    for path in modules():
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES_MAX:
            wrong.append(f"{name_of(path)} has {lines} lines")
        for node in functions(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                wrong.append(f"{name_of(path)}.{node.name} has {length} lines")
    for folder in {path.parent for path in modules()}:
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        name = str(folder.relative_to(PACKAGE))
        if count > WIDE_FOLDERS.get(name, FOLDER_FILES_MAX):
            wrong.append(f"{name} has {count} files")
    for path in ROOT.joinpath("tests").rglob("*.py"):
        lines = len(path.read_text().splitlines())
        if lines > TEST_LINES_MAX:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
    assert wrong == []
    assert len((house.DOCS / "ARCHITECTURE.md").read_text().splitlines()) <= ARCHITECTURE_LINES_MAX


def test_nothing_prints_but_what_speaks_to_a_terminal() -> None:
    allowed = {"cli", "running.servers"}
    for path in modules():
        if not within(name_of(path), tuple(allowed)):
            assert "print" not in {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}, path


def test_nothing_sleeps_but_by_the_loop() -> None:
    for path in modules():
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep"), path
        assert ("time", "sleep") not in {
            (node.module, one.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        }, path


def test_no_head_entry_or_body_is_written_whether_or_not_it_was_there() -> None:
    """An upsert of those would bring an erased session back. The tables named here hold what a commit replaces after
    its compare-and-set, in the same transaction, and what belongs to no session."""
    upsert = re.compile(
        r"(?:INSERT\s+OR\s+REPLACE|REPLACE)\s+INTO\s+(\w+)|INSERT\s+INTO\s+(\w+).*DO\s+UPDATE",
        re.DOTALL | re.IGNORECASE,
    )
    found = set()
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {(name_of(path), table) for hit in upsert.findall(node.value) for table in hit if table}
                assert upsert.search(node.value) or not re.search(
                    r"DO\s+UPDATE|REPLACE\s+INTO", node.value, re.IGNORECASE
                ), path
            assert not (isinstance(node, ast.keyword) and node.arg == "upsert"), path
    changes = {("tiers.warm.sqlite_changes", table) for table in ("parts", "keys", "listings", "tallies")}
    assert found <= {("tiers.warm.sqlite", "state"), *changes}


def test_no_module_holds_state() -> None:
    """A module may hold values that are never changed, loggers, codecs and patterns; a dict or list must be Final."""
    wrong = []
    for path in modules():
        for node in tree(path).body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            final = isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation)
            call = value.func if isinstance(value, ast.Call) else None
            grows = isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp) or (
                isinstance(call, ast.Name)
                and call.id in ("dict", "list", "set", "defaultdict", "deque", "OrderedDict", "Counter", "WeakSet")
            )
            if grows and not final:
                wrong.append(f"{name_of(path)}: {ast.unparse(node)[:60]}")
        wrong += [
            f"{name_of(path)}: {ast.unparse(node)}" for node in ast.walk(tree(path)) if isinstance(node, ast.Global)
        ]
    assert wrong == []


def test_modules_public_classes_and_promises_say_what_they_are_for() -> None:
    """Modules, public classes, and every method of a tier's protocol. An error's `title` says it for the error."""
    wrong = []
    for path in modules():
        module = name_of(path)
        if path.read_text() and ast.get_docstring(tree(path)) is None:
            wrong.append(module)
        for node in tree(path).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and module != "errors":
                wrong.append(f"{module}.{node.name}")
            if module in PROTOCOLS and "Protocol" in {ast.unparse(base) for base in node.bases}:
                methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
                wrong += [f"{module}.{node.name}.{one.name}" for one in methods if ast.get_docstring(one) is None]
                assert len(methods) <= PROTOCOL_METHODS_MAX, node.name
    assert wrong == []


def test_comments_promise_nothing_for_later() -> None:
    later = re.compile(r"#.*\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    assert [str(path) for path in house.files() if path.suffix == ".py" and later.search(path.read_text())] == []


def test_every_test_file_is_of_one_kind_skips_nothing_and_names_its_promises() -> None:
    wrong = []
    for path in ROOT.joinpath("tests").rglob("test_*.py"):
        text = path.read_text()
        marks = re.findall(r"^pytestmark = (.*)$", text, re.MULTILINE)
        kind = r"(\[)?pytest\.mark\.(unit|contract|server|fault|slow)(?(1), \w+\])"
        if len(marks) != 1 or not re.fullmatch(kind, marks[0]):
            wrong.append(f"{path.name}: {marks}")
        names = re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)
        wrong += [f"{path.name}: {name}" for name in names if name.count("_") < 3]
        if re.search(r"^ *@pytest\.mark\.(skip|xfail|flaky)|(?<!\w)pytest\.(skip|xfail)\(", text, re.MULTILINE):
            wrong.append(f"{path.name} skips")
    assert wrong == []


def test_the_project_names_no_machine_and_no_index() -> None:
    """No home directory, no folder of whoever works on it, no host that packages are fetched from."""
    homes = "|".join(re.escape(f"/{name}/") for name in ("home", "Users", "root", "work", "mnt/data"))
    places = re.compile(rf"(?<![\w.>}}~-])(?:{homes})\w")
    told = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(told, capture_output=True, text=True, timeout=60, check=True).stdout
    sources = index_places(said)
    for path in house.files():
        text = path.read_text()
        assert not places.search(text), f"{path.relative_to(ROOT)}: {places.search(text)}"
        for source in sources:
            assert source not in text, f"{path.relative_to(ROOT)} names where this machine fetches packages"


def index_places(configuration: str) -> set[str]:
    """The hosts and folders that pip is told to fetch from, this machine left out."""
    lines = [line for line in configuration.splitlines() if re.search(r"index-url|find-links|trusted-host", line)]
    values = [value for line in lines for value in re.findall(r"[^\s'\",=\[\]]+", line.partition("=")[2])]
    found = {urlsplit(value).hostname or value for value in values}
    return {place for place in found if place not in ("localhost", "127.0.0.1")}


def test_places_of_packages_are_read_from_what_pip_says() -> None:
    said = "global.index-url='https://me:secret@index.example.org/simple'\n:env:.find-links='/srv/wheels'\nglobal.cert='/c'"
    assert index_places(said) == {"index.example.org", "/srv/wheels"}


def test_locked_requirements_are_hashed_and_name_no_address() -> None:
    for path in ROOT.joinpath("requirements").glob("*.txt"):
        text = path.read_text()
        pins = re.findall(r"^[a-zA-Z0-9][\w.\-]*(?:\[[\w,]+\])?==\S+", text, re.MULTILINE)
        assert pins, path
        assert len(re.findall(r"==\S+[^\n]*\\\n +--hash=sha256:", text)) == len(pins), path
        assert "://" not in re.sub(r"#.*", "", text), path
