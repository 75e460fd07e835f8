"""Anthropic: `messages` and `system` of the Messages API.

Source: types/*_block_param.py and message_create_params.py of the `anthropic` package 2.12, and what the API refuses:
"`tool_use` ids were found without `tool_result` blocks immediately after", "`tool_use` ids must be unique", ids beyond
`^[a-zA-Z0-9_-]+$`, "text content blocks must be non-empty", a first message that is not the user's, and since Claude
4.6 a last one that is the assistant's ("does not support assistant message prefill").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sessionmanager.model.window.texts import Answer
from sessionmanager.model.window.turns import Said, Turn, steps

ID_CHARS_MAX: Final = 64
OPENING: Final = "[The conversation begins with the assistant.]"
CLOSING: Final = "[The user has not replied yet.]"


def write(turns: Sequence[Turn]) -> dict[str, Any]:
    """`{"messages": […], "system": "…"}`, without `system` where there is none. Roles alternate; all that the user's
    side says between two words of the assistant is one message, results of calls first."""
    system: list[str] = []
    messages: list[dict[str, Any]] = []
    for step in steps(turns):
        if not isinstance(step, Said):
            calls = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in step]
            _add(messages, "assistant", calls)
            _add(messages, "user", [_result(c.id, c.answer) for c in step])
        elif step.role == "system":
            system.append(step.text)
        else:
            _add(messages, step.role, [{"type": "text", "text": step.text}])
    return {"messages": messages, **({"system": "\n\n".join(system)} if system else {})}


def close(body: dict[str, Any]) -> dict[str, Any]:
    """The same with the user's first and last word, where the window has neither."""
    messages = body["messages"]
    if messages and messages[0]["role"] != "user":
        messages.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    if messages and messages[-1]["role"] != "user":
        messages.append({"role": "user", "content": [{"type": "text", "text": CLOSING}]})
    return body


def _add(messages: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _result(call_id: str, answer: Answer) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id, "content": answer.text}
    return {**block, "is_error": True} if answer.failed else block
