"""Where a JSON text breaks the strict rules: a plain tokenizer with a stack of its own, used only after a refusal."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from sessionmanager.wire.common import pointer

LOOKED_AT_BYTES_MAX: Final = 128 * 1024
"""Further in, the refusal names the rule and no place: finding it costs a hundred times the fast pass."""

_space = re.compile(rb"[ \t\n\r]*")
_token = re.compile(
    rb'(?P<string>"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")'
    rb"|(?P<number>-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?))"
    rb"|(?P<mark>[\[\]{},:])|(?P<word>true|false|null)|(?P<constant>-?Infinity|NaN)"
)
_escape = re.compile(rb"\\(?:u(?:[dD][89abAB]..\\u[dD][c-fC-F]..|(0000)|([dD][89a-fA-F]..)|)|.)", re.DOTALL)


class Offence(NamedTuple):
    """A broken rule: in words, the byte where it is, and the JSON pointer of the value it is in."""

    reason: str
    at: int
    pointer: str


class _Frame:
    """One open array or object."""

    __slots__ = ("key", "names")

    def __init__(self, is_object: bool) -> None:
        self.names: set[str] | None = set() if is_object else None
        self.key: str | int | None = None if is_object else 0


def find_offence(body: bytes, depth_max: int, number_chars_max: int) -> Offence | None:
    """The first broken rule, or None where this pass finds none in the part it looks at. Linear; never recursive."""
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return Offence("the body begins with a byte order mark", 0, "")
    if len(body) > LOOKED_AT_BYTES_MAX:
        return None
    stack: list[_Frame] = []
    # What may come next: a value, a first value or an end, a name, a first name or an end, a colon, a comma or an end.
    due, at = "value", 0
    while True:
        at = _end(_space, body, at)
        if due == "end" and not stack:
            return None if at == len(body) else Offence("something follows the value", at, "")
        if at == len(body):
            empty = due == "value" and not stack
            return Offence("the body is empty" if empty else "the body ends too early", at, _where(stack))
        token = _token.match(body, at)
        if token is None:
            return Offence("the body is not JSON", at, _where(stack))
        kind, text = token.lastgroup or "", token[0]
        if (kind == "real" or token["number"] is not None) and due in ("value", "first"):
            reason = _number(token["number"], token["real"], number_chars_max)
            if reason:
                return Offence(reason, at, _where(stack))
        if token["string"] is not None and (reason := _string(text)):
            return Offence(reason, at, _where(stack))
        if token["constant"] is not None:
            return Offence("NaN and Infinity are not JSON", at, _where(stack))
        step = _step(text, due, stack, depth_max)
        if isinstance(step, tuple):
            return Offence(step[0], at, step[1])
        due, at = step, token.end()


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    return match.end() if match else at


def _step(text: bytes, due: str, stack: list[_Frame], depth_max: int) -> str | tuple[str, str]:
    """What is due after this token, or (reason, pointer) where it must not stand here."""
    wrong = ("the body is not JSON", _where(stack))
    if text in (b"]", b"}"):
        fits = stack and (stack[-1].names is None) == (text == b"]")
        if not fits or due not in ("end", "first" if text == b"]" else "first name"):
            return wrong
        stack.pop()
        return "end"
    if due in ("value", "first"):
        return _value(text, stack, depth_max) or wrong
    if due in ("name", "first name"):
        return _name(text, stack) or wrong
    if due == "colon":
        return "value" if text == b":" else wrong
    if text != b",":
        return wrong
    frame = stack[-1]
    if frame.names is not None:
        return "name"
    assert isinstance(frame.key, int), "an array counts its items"
    frame.key += 1
    return "value"


def _value(text: bytes, stack: list[_Frame], depth_max: int) -> str | tuple[str, str] | None:
    if text in (b"[", b"{"):
        if len(stack) >= depth_max:
            return f"the body is nested over {depth_max} deep", _where(stack[:1])
        stack.append(_Frame(text == b"{"))
        return "first name" if text == b"{" else "first"
    return None if text in (b":", b",") else "end"


def _name(text: bytes, stack: list[_Frame]) -> str | tuple[str, str] | None:
    if text[:1] != b'"':
        return None
    frame, name = stack[-1], _plain(text)
    assert frame.names is not None, "only objects have names"
    frame.key = name
    if name in frame.names:
        return "an object has a member twice", _where(stack)
    frame.names.add(name)
    return "colon"


def _plain(text: bytes) -> str:
    """A string token without its escapes; they are known to be whole."""
    return str(json.loads(text)) if b"\\" in text else text[1:-1].decode()


def _number(text: bytes, real: bytes, number_chars_max: int) -> str | None:
    if len(text) > number_chars_max:
        return "an integer is beyond 64 bits" if not real else f"a number is over {number_chars_max} characters"
    if not real:
        return None if -(2**63) <= int(text) < 2**63 else "an integer is beyond 64 bits"
    return "a number is beyond a double" if abs(float(text)) == float("inf") else None


def _string(text: bytes) -> str | None:
    if b"\\u" not in text:
        return None
    for match in _escape.finditer(text):
        if match[1]:
            return "a string holds a NUL"
        if match[2]:
            return "a string holds a lone surrogate"
    return None


def _where(stack: list[_Frame]) -> str:
    return pointer(*(frame.key for frame in stack[:16] if frame.key is not None))
