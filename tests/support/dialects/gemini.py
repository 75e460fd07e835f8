"""A strict reader of generateContent requests.

From the `google-genai` package 3.4, types.py: Content, Part, FunctionCall, FunctionResponse, FunctionDeclaration; and
from answers of the API: "the number of function response parts is equal to the number of function call parts of the
function call turn", "function call turn comes immediately after a user turn or after a function response turn", empty
parts, "Function call is missing a thought_signature" (Gemini 3; the first call of a step has one, its siblings none).
"""

from __future__ import annotations

from typing import Any

from tests.support.dialects.common import keys, matches, text

NAME = r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}"


def objections(body: dict[str, Any]) -> list[str]:
    found = keys("body", body, {"contents"}, frozenset(("system",)))
    if "system" in body:
        found += text("system", body["system"])
    contents = body["contents"]
    if contents and (contents[0]["role"], contents[-1]["role"]) != ("user", "user"):
        found.append("the user has neither the first nor the last word")
    awaited: list[str] = []
    before = ""
    for i, content in enumerate(contents):
        where = f"contents[{i}]"
        found += keys(where, content, {"role", "parts"})
        if content["role"] not in ("user", "model") or not content["parts"]:
            found.append(f"{where}: role or parts")
        calls, responses, texts = _parts(where, content, found)
        if content["role"] == "model" and before == "model":
            found.append(f"{where}: the model twice in a row")
        if responses != awaited:
            found.append(f"{where}: answers {responses}, not {awaited}")
        if responses and texts:
            found.append(f"{where}: text among responses")
        awaited, before = calls, content["role"]
    if awaited:
        found.append(f"the end: {awaited} are not answered")
    return found


def _parts(where: str, content: dict[str, Any], found: list[str]) -> tuple[list[str], list[str], int]:
    """Names of the calls made and of those answered, and how many texts there are."""
    calls: list[str] = []
    responses: list[str] = []
    texts = 0
    for part in content["parts"]:
        if "text" in part:
            found += keys(where, part, {"text"}) + text(where, part["text"])
            texts += 1
            if calls:
                found.append(f"{where}: text after a call")
        elif "functionCall" in part and content["role"] == "model":
            found += keys(where, part, {"functionCall"}, frozenset(("thoughtSignature",)))
            found += keys(where, part["functionCall"], {"name", "args"})
            found += matches(where, part["functionCall"]["name"], NAME)
            if not isinstance(part["functionCall"]["args"], dict):
                found.append(f"{where}: args is no object")
            if ("thoughtSignature" in part) == bool(calls):
                found.append(f"{where}: a signature is missing, or one too many")
            calls.append(part["functionCall"]["name"])
        elif "functionResponse" in part and content["role"] == "user":
            found += keys(where, part, {"functionResponse"}) + keys(
                where, part["functionResponse"], {"name", "response"}
            )
            if not isinstance(part["functionResponse"]["response"], dict):
                found.append(f"{where}: response is no object")
            responses.append(part["functionResponse"]["name"])
        else:
            found.append(f"{where}: a part {sorted(part)} of the {content['role']}")
    return calls, responses, texts
