"""OpenAI: `messages` of Chat Completions, which every compatible server takes as well.

Source: types/chat/chat_completion_*_message_param.py of the `openai` package 3.54. An assistant message with
`tool_calls` is followed by one `tool` message for each of them, and by nothing in between; ids have at most 40
characters ("string too long. Expected a string with maximum length 40").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sessionmanager.model.window.turns import Called, Said, Turn, steps

ID_CHARS_MAX: Final = 40


def write(turns: Sequence[Turn]) -> dict[str, Any]:
    """`{"messages": […]}`. System messages stay where they were said, as `system`: older models know no `developer`."""
    messages: list[dict[str, Any]] = []
    for step in steps(turns):
        if isinstance(step, Said):
            messages.append({"role": step.role, "content": step.text})
            continue
        messages.append({"role": "assistant", "content": None, "tool_calls": [_call(called) for called in step]})
        messages += [{"role": "tool", "tool_call_id": called.id, "content": called.answer.text} for called in step]
    return {"messages": messages}


def _call(called: Called) -> dict[str, Any]:
    function = {"name": called.name, "arguments": bytes(called.arguments).decode()}
    return {"id": called.id, "type": "function", "function": function}
