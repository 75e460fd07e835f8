"""Every block of Python in every page is type-checked: its imports, the methods it calls and what it gives them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import blocks
from tests.support.house import ROOT

pytestmark = pytest.mark.slow

SECONDS: Final = 300
CLIENT: Final = "from sessionmanager.client import AsyncClient, Entry, Resync, Signal, message\nclient: AsyncClient\n"
GIVEN: Final = {
    "docs/how-to/client.md": CLIENT + "from sessionmanager.client import Session\nsession: Session\n"
    "token: str\ncall_sid: str\ncaller: str\ncallee: str\n",
    "docs/how-to/livekit.md": CLIENT + "url: str\ntoken: str\noperator_token: str\n",
    "docs/how-to/rooms.md": "access: dict[str, str]\n",
    "docs/how-to/telephone.md": "from sessionmanager.bridges.functions import Functions\n"
    "url: str\ntoken: str\nupstream: str\ncarrier_token: str\nfunctions: Functions\n",
    "docs/how-to/test.md": "from pathlib import Path\nfrom collections.abc import Awaitable, Callable\n"
    "from tests.support.services import owned, s3_address, service_url\nfrom tests.support.toxiproxy import proxied\n"
    "tmp_path: Path\ncall: Callable[[str], Awaitable[None]]\n",
    "docs/reference/bridges.md": "from pathlib import Path\nfrom sessionmanager.client import AsyncClient\n"
    "from sessionmanager.bridges.carrier import Arrival, Line\nfrom collections.abc import Awaitable, Callable\n"
    "client: AsyncClient\ntoken: str\nschema: dict[str, object]\narrival: Arrival\nline: Line\n"
    "balance: Callable[..., Awaitable[object]]\n",
}
"""What the fragments of a page take for granted: names that its text or an earlier page has introduced."""
LEFT_OUT: Final = re.compile(r"\w+\(\.\.\.\)")
"""`AgentSession(...)`: what stands there is another's, and not told here."""


def whole(page: str) -> str:
    """A module of all blocks of a page: each a function of its own, what they import before them."""
    imported: list[str] = [GIVEN.get(page, "")]
    functions: list[str] = []
    for block in blocks.of("python"):
        if block.page != page:
            continue
        text = f"async def block_{block.line}():\n{textwrap.indent(block.text, '    ')}\n"
        [function] = ast.parse(text).body
        assert isinstance(function, ast.AsyncFunctionDef)
        imported += [ast.unparse(node) for node in function.body if isinstance(node, ast.Import | ast.ImportFrom)]
        functions.append(f"# {block.place}\n{text}")
    return "\n".join([*imported, *functions])


def faults(folder: Path) -> list[dict[str, Any]]:
    """What the checker says of all modules in the folder."""
    config = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps({**config, "reportMissingModuleSource": False}))
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder)],
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return json.loads(checked.stdout)["generalDiagnostics"]


def test_every_block_of_python_is_what_the_checker_of_types_takes(tmp_path: Path) -> None:
    pages = {block.page for block in blocks.of("python")}
    assert len(pages) > 8
    assert GIVEN.keys() <= pages
    modules = {page: re.sub(r"\W", "_", page.removesuffix(".md")) for page in pages}
    for page, module in modules.items():
        (tmp_path / f"{module}.py").write_text(whole(page))
    wrong: dict[str, list[str]] = defaultdict(list)
    for fault in faults(tmp_path):
        if fault["severity"] == "error":
            path, line = Path(fault["file"]), int(fault["range"]["start"]["line"])
            said = path.read_text().splitlines()[line].strip()
            if not LEFT_OUT.search(said):
                wrong[path.stem].append(f"{said}: {fault['message']}")
    assert dict(wrong) == {}
