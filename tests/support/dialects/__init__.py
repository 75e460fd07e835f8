"""Strict readers of each model family's requests, written from the vendors' published types and refusals, not from the
service. Each answers with all that it objects to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.support.dialects import anthropic, gemini, openai, raw, realtime

CHECKERS: Final[Mapping[str, Callable[[dict[str, Any]], list[str]]]] = {
    "openai": openai.objections,
    "anthropic": anthropic.objections,
    "gemini": gemini.objections,
    "realtime": realtime.objections,
    "raw": raw.objections,
}
MEMBERS: Final = ("messages", "contents", "items", "entries", "system")


def objections(family: str, answer: Mapping[str, Any]) -> list[str]:
    """What the API of this family would refuse in a window, or in an answer that holds one."""
    return CHECKERS[family]({name: answer[name] for name in MEMBERS if name in answer})
