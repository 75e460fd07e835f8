"""Every block of TypeScript in every page is what the client's own compiler takes, as its users' code would be."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import Final

import pytest

from tests.clients.node import typescript
from tests.support import blocks
from tests.support.house import ROOT

pytestmark = pytest.mark.slow

CLIENT: Final = ROOT / "clients" / "typescript"
OURS: Final = 'import("@sessionmanager/client")'
GIVEN: Final = {
    "docs/how-to/typescript.md": {
        "token": "string",
        "manager": f"{OURS}.SessionManager",
        "session": f"{OURS}.Session",
        "isProblem": f"typeof {OURS}.isProblem",
    },
    "docs/how-to/livekit.md": {
        "id": "string",
        "manager": f"{OURS}.SessionManager",
        "show": "(text: string) => void",
    },
}
"""What the blocks of a page take for granted: names that its text or an earlier block has introduced."""
IMPORT: Final = re.compile(r"^import .*;\n", re.MULTILINE)


def module(block: blocks.Block) -> str:
    """A block as a module: what it imports, and all else in a function, where it may name anew what is given."""
    imports = "".join(IMPORT.findall(block.text))
    known = set(re.findall(r"\w+", imports))
    given = [f"declare const {name}: {type_};\n" for name, type_ in GIVEN[block.page].items() if name not in known]
    rest = textwrap.indent(IMPORT.sub("", block.text), "    ")
    return f"{imports}{''.join(given)}export async function block(): Promise<void> {{\n{rest}}}\n"


def test_every_block_of_typescript_is_what_the_clients_compiler_takes(tmp_path: Path) -> None:
    found = blocks.of("ts")
    assert len(found) > 5
    assert GIVEN.keys() == {block.page for block in found}
    for name in ("src", "react"):
        shutil.copytree(CLIENT / name, tmp_path / name)
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(CLIENT / name, tmp_path)
    for block in found:
        page = tmp_path / "pages" / f"{re.sub(r'[^a-z]', '_', block.page.removesuffix('.md'))}_{block.line}.ts"
        page.parent.mkdir(exist_ok=True)
        page.write_text(module(block))
    options = {"noEmit": True, "noUnusedLocals": False, "skipLibCheck": True}
    project = {"extends": "./tsconfig.json", "compilerOptions": options, "include": ["pages"]}
    (tmp_path / "pages.json").write_text(json.dumps(project))
    typescript("check", str(tmp_path), "pages.json")
