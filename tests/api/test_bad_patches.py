"""JSON patches that try what a merge patch cannot: none of them stands, each is refused by its operation."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import pytest

from tests.support.bad_input import TARGETS, refused, send
from tests.support.server import Served, pointers

UNCHANGED = pytest.mark.usefixtures("unchanged")
pytestmark = [pytest.mark.contract, UNCHANGED]


# -- JSON patch


ADD: Final = {"op": "add", "path": "/labels/-", "value": "x"}
TRICKS: Final[dict[str, tuple[Any, str]]] = {
    "version": ([{"op": "replace", "path": "/version", "value": 1}], "/0"),
    "a new version": ([{"op": "add", "path": "/version", "value": 99}], "/version"),
    "tenant": ([{"op": "add", "path": "/tenant", "value": "x"}], "/tenant"),
    "id": ([{"op": "add", "path": "/id", "value": "x"}], "/id"),
    "placement": ([{"op": "add", "path": "/placement", "value": "cold"}], "/placement"),
    "status": ([{"op": "add", "path": "/status", "value": "ended"}], "/status"),
    "a prototype": ([{"op": "add", "path": "/__proto__", "value": {}}], "/__proto__"),
    "the whole": ([{"op": "replace", "path": "", "value": []}], ""),
    "the whole as a number": ([{"op": "replace", "path": "", "value": 7}], ""),
    "the whole with more": ([{"op": "replace", "path": "", "value": {"version": 3}}], "/version"),
    "the whole removed": ([{"op": "remove", "path": ""}], ""),
    "an empty name": ([{"op": "add", "path": "/", "value": 1}], "/"),
    "a path without its slash": ([{"op": "add", "path": "labels", "value": []}], "/0"),
    "a path that is a number": ([{"op": "add", "path": 5, "value": 1}], "/0"),
    "a path that is null": ([{"op": "add", "path": None, "value": 1}], "/0"),
    "no path": ([{"op": "add", "value": 1}], "/0"),
    "no value": ([{"op": "add", "path": "/caller"}], "/0"),
    "no operation": ([{"path": "/caller", "value": 1}], "/0"),
    "an unknown operation": ([{"op": "merge", "path": "/caller", "value": 1}], "/0"),
    "an operation that is a number": ([{"op": 5, "path": "/caller", "value": 1}], "/0"),
    "no from": ([{"op": "move", "path": "/caller"}], "/0"),
    "a from that is nowhere": ([{"op": "copy", "from": "/nowhere", "path": "/caller"}], "/0"),
    "a from that is an array": ([{"op": "copy", "from": ["a"], "path": "/caller"}], "/0"),
    "into itself": ([{"op": "move", "from": "/context/a", "path": "/context/a/b/c"}], "/0"),
    "nowhere": ([{"op": "remove", "path": "/context/nowhere"}], "/0"),
    "through a number": ([{"op": "add", "path": "/context/a/b/c", "value": 1}], "/0"),
    "a place before the first": ([{"op": "add", "path": "/labels/-1", "value": "x"}], "/0"),
    "a place with a zero before": ([{"op": "add", "path": "/labels/00", "value": "x"}], "/0"),
    "a place far away": ([{"op": "add", "path": "/labels/99999999999999999999", "value": "x"}], "/0"),
    "a place in words": ([{"op": "add", "path": "/labels/first", "value": "x"}], "/0"),
    "after the last": ([{"op": "replace", "path": "/labels/-", "value": "x"}], "/0"),
    "a wrong escape": ([{"op": "add", "path": "/context/~2", "value": 1}], "/0"),
    "an open escape": ([{"op": "add", "path": "/context/~", "value": 1}], "/0"),
    "a long path": ([{"op": "add", "path": "/context" + "/a" * 5_000, "value": 1}], "/0"),
    "a test that fails": ([ADD, {"op": "test", "path": "/labels/0", "value": "other"}], "/1"),
    "a test of true against 1": ([{"op": "test", "path": "/context/a/b", "value": True}], "/0"),
    "a test of nothing": ([{"op": "test", "path": "/nowhere", "value": None}], "/0"),
    "no array": ({"op": "add"}, ""),
    "a text": ("add", ""),
    "null": (None, ""),
    "operations that are texts": (["add"], "/0"),
    "operations that are arrays": ([["add"]], "/0"),
    "1,001 operations": ([{"op": "test", "path": "/labels/0", "value": "l"}] * 1_001, ""),
    "copies that double": (
        [{"op": "add", "path": "/context/x", "value": ["x" * 1_000]}]
        + [{"op": "copy", "from": "/context/x", "path": "/context/x/-"}] * 12,
        "/7",
    ),
    "a context over its bound": (
        [
            {"op": "add", "path": "/context/x", "value": "x" * 9_000},
            {"op": "copy", "from": "/context/x", "path": "/context/y"},
        ],
        "/context",
    ),
    "deeper than a body may be": (
        [{"op": "add", "path": "/context/d", "value": json.loads("[" * 30 + "]" * 30)}]
        + [{"op": "copy", "from": "/context/d", "path": "/context/d" + "/0" * 29 + "/-"}] * 2
        + [{"op": "move", "from": "/context/d", "path": "/context/e"}],
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TRICKS)
def test_a_json_patch_that_does_not_apply_is_refused_by_its_operation_and_nothing_of_it_stands(
    narrow: Served, what: str
) -> None:
    operations, pointer = TRICKS[what]
    document = refused(send(narrow, TARGETS["json patch"], json.dumps(operations).encode()), 422)
    assert document["type"] == "invalid"
    if pointer:
        assert any(found.startswith(pointer) for found in pointers(document)), document
    assert document["errors"]


def test_a_json_patch_of_a_thousand_operations_on_a_large_context_does_not_hold_the_service_up(
    narrow: Served,
) -> None:
    admin = narrow.caller(tenant="patched")
    admin.create("large", context={"deep": [[] for _ in range(5_000)], "to": {}})
    patches = {
        "tests": [{"op": "test", "path": "/context/deep/0", "value": []}] * 1_000,
        "adds": [{"op": "add", "path": "/context/to/a", "value": i} for i in range(1_000)],
        "copies": [{"op": "copy", "from": "/context/deep", "path": "/context/to/a"}] * 800,
    }
    for what, operations in patches.items():
        began = time.process_time()
        answer = admin.patch("/sessions/large", operations, media="application/json-patch+json", if_match="*")
        spent = time.process_time() - began
        assert answer.status_code in (200, 422), answer.text[:300]
        assert spent < 2.0, f"{what} took {spent:.1f} s of the event loop"
