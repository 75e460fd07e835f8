"""What an entry says, as text or as a JSON object that every model's API takes. Nothing here fails on any JSON."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from sessionmanager.model.entry import Entry

INTERRUPTED: Final = Raw(b'{"error":"interrupted, outcome unknown"}')
"""The output of a call that was cut off: it may or may not have had its effect."""
NO_OUTPUT_YET: Final = Raw(b'{"status":"in_progress","note":"no output yet"}')
"""The output of a call that the session still holds open."""
EMPTY_OUTPUT: Final = "(no output)"
EMPTY_OBJECT: Final = Raw(b"{}")
DEPTH_MAX: Final = 64
"""How deep JSON within a text may go to be taken for arguments: what a request may hold itself."""

_PLAIN: Final = frozenset(("text", "input_text", "output_text", "summary_text", "refusal"))
_SAYS: Final = ("text", "transcript", "refusal")
_CARRIES: Final = frozenset(("inline_data", "inlineData", "file_data", "fileData", "image_url", "input_audio"))
_FAILED: Final = frozenset(("failed", "interrupted", "cancelled"))
_label = re.compile(r"[^A-Za-z0-9_./-]+")
_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What a call gave. members: its text again where that is a JSON object. failed: it is an error, or not known."""

    text: str
    members: Raw | None = None
    failed: bool = False


def text_of(value: Raw | UnsetType) -> str:
    """The text of a content: of all its parts; what is no text is named in brackets (`[image]`). Empty where it says
    nothing."""
    return "" if value is UNSET else _text(_decode(value), value)


def spoken(entry: Entry) -> str:
    """What a message said to the other side: what was heard of it where that is known, else its content."""
    heard = entry.heard
    return text_of(entry.content if heard is UNSET or bytes(heard) == b"null" else heard)


def arguments_of(value: Raw | UnsetType) -> Raw:
    """The arguments of a call as the text of a JSON object: they themselves, the object that their text holds, or
    `{"value": …}` around anything else."""
    if value is UNSET or bytes(value) == b"null":
        return EMPTY_OBJECT
    data = bytes(value)
    if data[:1] == b"{":
        return value
    if data[:1] != b'"':
        return Raw(b'{"value":%b}' % data)
    text = cast(str, msgspec.json.decode(data)).strip()
    if not text:
        return EMPTY_OBJECT
    if text[0] == "{" and _is_json_object(text):
        return Raw(text.encode())
    return Raw(b'{"value":%b}' % data)


def answer_of(output: Entry) -> Answer:
    """What an output says; never empty."""
    value = output.output
    if value is UNSET:
        return Answer(EMPTY_OUTPUT)
    data = bytes(value)
    failed = output.status is not UNSET and output.status in _FAILED
    if data[:1] == b"{":
        return Answer(data.decode(), value, failed)
    parts = _decode(value)
    if isinstance(parts, list) and not _are_parts(cast(list[Any], parts)):
        return Answer(data.decode(), None, failed)
    text = text_of(value)
    return Answer(text if text.strip() else EMPTY_OUTPUT, None, failed)


def unanswered(*, running: bool) -> Answer:
    """What stands for an output that is not there: never nothing, since no API takes a call without one."""
    members = NO_OUTPUT_YET if running else INTERRUPTED
    return Answer(bytes(members).decode(), members, not running)


def _decode(value: Raw) -> Any:
    return msgspec.json.decode(bytes(value))


def _text(value: Any, whole: Raw) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, [_part(one) for one in cast(list[Any], value)]))
    return _part(value, whole)


def _part(part: Any, whole: Raw | None = None) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        members = cast(dict[str, Any], part)
        for name in _SAYS:
            said = members.get(name)
            if isinstance(said, str) and said:
                return said
        kind = members.get("type")
        if isinstance(kind, str) and kind not in _PLAIN:
            return f"[{_named(kind)}]"
        if kind in _PLAIN and all(members.get(name) in (None, "") for name in _SAYS):
            return ""
        if kind is None and not _CARRIES.isdisjoint(members):
            return "[attachment]"
    return (_encode(part) if whole is None else bytes(whole)).decode()


def _named(kind: str) -> str:
    """`image` for `input_image` and `image_url`; nothing that a text should not hold."""
    for name in ("image", "audio", "video", "file"):
        if name in kind:
            return name
    return _label.sub("_", kind)[:64].strip("_") or "part"


def _are_parts(value: list[Any]) -> bool:
    return all(isinstance(one, dict) and isinstance(cast(dict[str, Any], one).get("type"), str) for one in value)


def _is_json_object(text: str) -> bool:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return isinstance(value, dict) and _is_shallow(cast(dict[str, Any], value))


def _is_shallow(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(cast(dict[str, Any], one).values())
            elif isinstance(one, list):
                inner.extend(cast(list[Any], one))
        if not inner:
            return True
        level = inner
    return not any(isinstance(one, dict | list) for one in level)
