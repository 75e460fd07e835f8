"""A strict reader of items for `conversation.item.create`.

From the `openai` package 3.54, types/realtime: conversation_item_create_event_param.py and
realtime_conversation_item_{system,user,assistant}_message_param.py, …_function_call_param.py and
…_function_call_output_param.py; and from what is known of the server: ids of items and calls have at most 32
characters, an item of a known id is refused (`item_create_duplicate_item_id`), an output needs its call before it.
"""

from __future__ import annotations

from typing import Any

from tests.support.dialects.common import json_object, keys, matches, once, text

ID = r"[A-Za-z0-9_-]{1,32}"
NAME = r"[A-Za-z0-9_-]{1,64}"
PART = {"user": "input_text", "system": "input_text", "assistant": "output_text"}


def objections(body: dict[str, Any]) -> list[str]:
    found = keys("body", body, {"items"})
    made: list[str] = []
    awaited: list[str] = []
    for i, item in enumerate(body["items"]):
        where = f"items[{i}]"
        found += matches(where, item.get("id"), ID)
        kind = item.get("type")
        if kind == "message":
            found += keys(where, item, {"id", "type", "role", "content"})
            if awaited:
                found.append(f"{where}: {awaited} are not answered")
            for part in item["content"]:
                found += keys(where, part, {"type", "text"}) + text(where, part["text"])
                if part["type"] != PART.get(item["role"]):
                    found.append(f"{where}: {part['type']} of the {item['role']}")
        elif kind == "function_call":
            found += keys(where, item, {"id", "type", "call_id", "name", "arguments"})
            found += matches(where, item["call_id"], ID) + matches(where, item["name"], NAME)
            found += json_object(where, item["arguments"])
            made.append(item["call_id"])
            awaited.append(item["call_id"])
        elif kind == "function_call_output":
            found += keys(where, item, {"id", "type", "call_id", "output"}) + text(where, item["output"])
            if item["call_id"] not in awaited:
                found.append(f"{where}: an output without its call")
            else:
                awaited.remove(item["call_id"])
        else:
            found.append(f"{where}: type {kind!r}")
    if awaited:
        found.append(f"the end: {awaited} are not answered")
    return found + once("items", [item["id"] for item in body["items"]]) + once("calls", made)
