"""Gemini: `contents` of generateContent, and `system` for its `systemInstruction`.

Source: types.py of the `google-genai` package 3.4 (Content, FunctionCall, FunctionResponse), and what the API refuses:
another number of function responses than of calls, a function call that does not follow the user or a response, empty
parts, and with Gemini 3 a step whose first call has no thought signature. Calls carry no ids: responses are told by
name and order, which every version takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sessionmanager.model.window.anthropic import CLOSING, OPENING
from sessionmanager.model.window.texts import Answer
from sessionmanager.model.window.turns import Called, Said, Turn, steps

ID_CHARS_MAX: Final = 64
UNSIGNED: Final = "skip_thought_signature_validator"
"""What Google's page on thought signatures wants in the first call of a step that another model or client has made."""


def write(turns: Sequence[Turn]) -> dict[str, Any]:
    """`{"contents": […], "system": "…"}`. Responses are a content of their own, in the order of the calls."""
    system: list[str] = []
    contents: list[dict[str, Any]] = []
    for step in steps(turns):
        if not isinstance(step, Said):
            _add(contents, "model", [_call(called, first=i == 0) for i, called in enumerate(step)])
            contents.append({"role": "user", "parts": [_response(called) for called in step]})
        elif step.role == "system":
            system.append(step.text)
        else:
            _add(contents, "model" if step.role == "assistant" else "user", [{"text": step.text}])
    return {"contents": contents, **({"system": "\n\n".join(system)} if system else {})}


def close(body: dict[str, Any]) -> dict[str, Any]:
    """The same with the user's first and last word, where the window has neither."""
    contents = body["contents"]
    if contents and contents[0]["role"] != "user":
        contents.insert(0, {"role": "user", "parts": [{"text": OPENING}]})
    if contents and contents[-1]["role"] != "user":
        contents.append({"role": "user", "parts": [{"text": CLOSING}]})
    return body


def _add(contents: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    last = contents[-1] if contents else None
    if last is not None and last["role"] == role and "functionResponse" not in last["parts"][0]:
        last["parts"] += parts
    else:
        contents.append({"role": role, "parts": parts})


def _call(called: Called, *, first: bool) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": called.name, "args": called.arguments}}
    return {**part, "thoughtSignature": UNSIGNED} if first else part


def _response(called: Called) -> dict[str, Any]:
    return {"functionResponse": {"name": called.name, "response": _members(called.answer)}}


def _members(answer: Answer) -> Any:
    """An object; `error` and `output` are the words that the API knows."""
    if answer.members is not None:
        return answer.members
    return {"error" if answer.failed else "output": answer.text}
