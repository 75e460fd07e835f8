"""The pages on the client name what there is, and their code is code."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Final

import pytest

from sessionmanager import client
from sessionmanager.client import AsyncClient
from tests.support import house
from tests.support.house import DOCS

pytestmark = pytest.mark.unit

REFERENCE: Final = DOCS / "reference/client.md"
HOW_TO: Final = DOCS / "how-to/client.md"


def test_the_reference_has_every_call_with_its_route_and_no_other() -> None:
    told = {
        (name.strip("`"), route.strip("`"))
        for name, route in house.cells(REFERENCE, 2)
        if re.match(r"`(GET|POST|PUT|PATCH|DELETE) ", route)
    }
    there = {
        (name, method.serves)
        for name, method in inspect.getmembers(AsyncClient, inspect.isfunction)
        if hasattr(method, "serves")
    }
    assert told == there


def test_the_reference_has_every_public_name() -> None:
    text = REFERENCE.read_text() + HOW_TO.read_text()
    missing = [name for name in client.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == []
    public = {name for name in dir(AsyncClient) if not name.startswith("_")} - {"caller", "rng"}
    assert sorted(name for name in public if f"`{name}`" not in REFERENCE.read_text()) == []


def test_the_code_of_the_how_to_reads_as_python_and_names_what_there_is() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        parsed = ast.parse(f"async def main():\n{textwrap.indent(block, '    ')}")
        for node in ast.walk(parsed):
            if isinstance(node, ast.ImportFrom) and node.module == client.__name__:
                assert all(hasattr(client, one.name) for one in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "client":
                assert hasattr(AsyncClient, node.attr), node.attr


def test_every_public_name_can_be_loaded_and_no_other() -> None:
    assert all(getattr(client, name) is not None for name in client.__all__)
    with pytest.raises(AttributeError):
        _ = client.nonsense  # type: ignore[attr-defined]
