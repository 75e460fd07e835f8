"""A session's window as the chat context of a LiveKit agent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from livekit.agents import llm

ROLES: Final = frozenset(("developer", "system", "user", "assistant"))


def chat_context(items: Iterable[Mapping[str, Any]], at: float) -> llm.ChatContext:
    """The items of a window for `realtime`, as they stand: they are legal for every model, each with its entry's id.

    at: when they were loaded, in seconds since 1970. It is the time of all of them, because an agent puts what comes
    later behind what came before by their times, and keeps the order of those that are equal.
    """
    found: list[llm.ChatItem] = []
    names: dict[str, str] = {}
    for item in items:
        match item["type"]:
            case "message" if item["role"] in ROLES:
                text = [str(part["text"]) for part in item["content"]]
                found.append(llm.ChatMessage(id=item["id"], role=item["role"], content=[*text], created_at=at))
            case "function_call":
                names[item["call_id"]] = item["name"]
                found.append(
                    llm.FunctionCall(
                        id=item["id"],
                        call_id=item["call_id"],
                        name=item["name"],
                        arguments=item["arguments"],
                        created_at=at,
                    )
                )
            case "function_call_output":
                found.append(
                    llm.FunctionCallOutput(
                        id=item["id"],
                        call_id=item["call_id"],
                        name=names.get(item["call_id"], ""),
                        output=item["output"],
                        is_error=_tells_an_error(item["output"]),
                        created_at=at,
                    )
                )
            case _:
                continue  # a kind of item that this agent has no place for
    return llm.ChatContext(found)


def _tells_an_error(output: str) -> bool:
    """Whether an output says no more than that it failed, as that of a call that was cut off does."""
    if not output.startswith('{"error"'):
        return False
    try:
        said = json.loads(output)
    except ValueError:
        return False
    return isinstance(said, dict) and list(cast(dict[str, Any], said)) == ["error"]
