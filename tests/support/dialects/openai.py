"""A strict reader of Chat Completions messages.

From the `openai` package 3.54: types/chat/chat_completion_{system,user,assistant,tool}_message_param.py,
chat_completion_message_function_tool_call_param.py and shared_params/function_definition.py; and from answers of the
API: ids of at most 40 characters, at most 128 calls in a message, "An assistant message with 'tool_calls' must be
followed by tool messages responding to each 'tool_call_id'", "messages with role 'tool' must be a response to a
preceding message with 'tool_calls'".
"""

from __future__ import annotations

from typing import Any

from tests.support.dialects.common import json_object, keys, matches, once, text

ID = r"[A-Za-z0-9_-]{1,40}"
NAME = r"[A-Za-z0-9_-]{1,64}"


def objections(body: dict[str, Any]) -> list[str]:
    found = keys("body", body, {"messages"})
    awaited: list[str] = []
    ids: list[str] = []
    for i, message in enumerate(body["messages"]):
        where = f"messages[{i}]"
        role = message.get("role")
        if role == "tool":
            found += keys(where, message, {"role", "tool_call_id", "content"}) + text(where, message["content"])
            if message["tool_call_id"] not in awaited:
                found.append(f"{where}: answers no call of the message before")
            else:
                awaited.remove(message["tool_call_id"])
            continue
        if awaited:
            found.append(f"{where}: {awaited} are not answered")
        awaited = []
        if role == "assistant" and "tool_calls" in message:
            found += keys(where, message, {"role", "tool_calls"}, frozenset(("content",)))
            if message.get("content") is not None:
                found += text(where, message["content"])
            if not 1 <= len(message["tool_calls"]) <= 128:
                found.append(f"{where}: {len(message['tool_calls'])} calls")
            for call in message["tool_calls"]:
                found += keys(where, call, {"id", "type", "function"})
                found += keys(where, call["function"], {"name", "arguments"})
                found += matches(where, call["id"], ID) + matches(where, call["function"]["name"], NAME)
                found += json_object(where, call["function"]["arguments"])
                if call["type"] != "function":
                    found.append(f"{where}: a call that is no function")
                awaited.append(call["id"])
                ids.append(call["id"])
        elif role in ("system", "user", "assistant"):
            found += keys(where, message, {"role", "content"}) + text(where, message["content"])
        else:
            found.append(f"{where}: role {role!r}")
    if awaited:
        found.append(f"the end: {awaited} are not answered")
    return found + once("calls", ids)
