"""What the checkers share: they say what an API would refuse, one sentence each, and know nothing of the service."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def keys(where: str, value: Any, required: set[str], optional: frozenset[str] = frozenset()) -> list[str]:
    """An object with these members and no other."""
    if not isinstance(value, Mapping):
        return [f"{where}: not an object"]
    missing, unknown = required - value.keys(), value.keys() - required - optional
    return [f"{where}: no {name}" for name in missing] + [f"{where}: unknown {name}" for name in unknown]


def text(where: str, value: Any) -> list[str]:
    """A text that says something."""
    if not isinstance(value, str):
        return [f"{where}: not a text"]
    return [] if value.strip() else [f"{where}: an empty text"]


def matches(where: str, value: Any, pattern: str) -> list[str]:
    ok = isinstance(value, str) and re.fullmatch(pattern, value) is not None
    return [] if ok else [f"{where}: {value!r} does not match {pattern}"]


def json_object(where: str, value: Any) -> list[str]:
    """A text that holds a JSON object."""
    try:
        ok = isinstance(value, str) and isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        ok = False
    return [] if ok else [f"{where}: not the text of a JSON object"]


def once(where: str, values: list[str]) -> list[str]:
    return [f"{where}: {value} more than once" for value in {v for v in values if values.count(v) > 1}]
