"""Realtime: the `item` of one `conversation.item.create` each, oldest first, as OpenAI's realtime API (GA) takes them.

Source: types/realtime/realtime_conversation_item_*_param.py of the `openai` package 3.54: assistant speech can only be
created as `output_text`, system messages hold `input_text` alone, the server wants a call before its output. Ids have
at most 32 characters. An item's id is its entry's, so that a restore done twice is refused as a duplicate, not doubled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sessionmanager.model.window.turns import Said, Turn, steps

ID_CHARS_MAX: Final = 32


def write(turns: Sequence[Turn]) -> dict[str, Any]:
    """`{"items": […]}`."""
    items: list[dict[str, Any]] = []
    for step in steps(turns):
        if isinstance(step, Said):
            kind = "output_text" if step.role == "assistant" else "input_text"
            content = [{"type": kind, "text": step.text}]
            items.append({"id": step.id, "type": "message", "role": step.role, "content": content})
            continue
        for called in step:
            arguments = bytes(called.arguments).decode()
            call = {"call_id": called.id, "name": called.name, "arguments": arguments}
            items.append({"id": called.item_id, "type": "function_call", **call})
        for called in step:
            output = {"call_id": called.id, "output": called.answer.text}
            items.append({"id": called.output_id, "type": "function_call_output", **output})
    return {"items": items}
