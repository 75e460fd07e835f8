"""A strict reader of Messages API requests.

From the `anthropic` package 2.12: types/{message,text_block,tool_use_block,tool_result_block}_param.py and
message_create_params.py; and from answers of the API: "`tool_use` ids were found without `tool_result` blocks
immediately after", "`tool_use` ids must be unique", "String should match pattern '^[a-zA-Z0-9_-]+$'", "text content
blocks must be non-empty" and "must contain non-whitespace text", "first message must use the user role", "roles must
alternate", "This model does not support assistant message prefill. The conversation must end with a user message".
"""

from __future__ import annotations

from typing import Any

from tests.support.dialects.common import keys, matches, once, text

ID = r"[A-Za-z0-9_-]{1,64}"
NAME = r"[A-Za-z0-9_-]{1,64}"


def objections(body: dict[str, Any]) -> list[str]:
    found = keys("body", body, {"messages"}, frozenset(("system",)))
    if "system" in body:
        found += text("system", body["system"])
    messages = body["messages"]
    if messages and (messages[0]["role"], messages[-1]["role"]) != ("user", "user"):
        found.append("the user has neither the first nor the last word")
    uses: list[str] = []
    awaited: list[str] = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        found += keys(where, message, {"role", "content"})
        if message["role"] != ("user", "assistant")[i % 2]:
            found.append(f"{where}: roles do not alternate")
        if not isinstance(message["content"], list) or not message["content"]:
            found.append(f"{where}: no content")
            continue
        made, results = _blocks(where, message, found)
        if sorted(results) != sorted(awaited):
            found.append(f"{where}: answers {results}, not {awaited}")
        awaited = made
        uses += made
    if awaited:
        found.append(f"the end: {awaited} are not answered")
    return found + once("tool_use", uses)


def _blocks(where: str, message: dict[str, Any], found: list[str]) -> tuple[list[str], list[str]]:
    """Ids of the calls made and of those answered."""
    made: list[str] = []
    results: list[str] = []
    before = ""
    for block in message["content"]:
        kind = block.get("type")
        if kind == "text":
            found += keys(where, block, {"type", "text"}) + text(where, block["text"])
            if before == "tool_use":
                found.append(f"{where}: text after a call")
        elif kind == "tool_use" and message["role"] == "assistant":
            found += keys(where, block, {"type", "id", "name", "input"})
            found += matches(where, block["id"], ID) + matches(where, block["name"], NAME)
            if not isinstance(block["input"], dict):
                found.append(f"{where}: input is no object")
            made.append(block["id"])
        elif kind == "tool_result" and message["role"] == "user":
            found += keys(where, block, {"type", "tool_use_id", "content"}, frozenset(("is_error",)))
            found += text(where, block["content"])
            if block.get("is_error", True) is not True:
                found.append(f"{where}: is_error")
            if before not in ("", "tool_result"):
                found.append(f"{where}: a result after something else")
            results.append(block["tool_use_id"])
        else:
            found.append(f"{where}: a block {kind!r} of the {message['role']}")
        before = kind
    return made, results
