"""The conversation of one connection: items, checked as the real server checks them.

Source: types/realtime and types/beta/realtime of the `openai` package 3.54, and what its server is known to refuse.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final, cast

from sessionmanager.simulate.realtime.script import Heard
from sessionmanager.simulate.speech import CHAR_MS

ID_CHARS_MAX: Final = 32
TEXT_PART: Final = {"ga": "output_text", "beta": "text"}
AUDIO_PART: Final = {"ga": "output_audio", "beta": "audio"}
_MESSAGE: Final = {"id", "type", "object", "role", "content", "status"}
_CALL: Final = {"id", "type", "object", "call_id", "name", "arguments", "status"}
_OUTPUT: Final = {"id", "type", "object", "call_id", "output", "status"}
_USER_PARTS: Final = {
    "input_text": {"type", "text"},
    "input_audio": {"type", "audio", "transcript"},
    "input_image": {"type", "image_url", "detail"},
}

Json = dict[str, Any]


class Refused(Exception):
    """What the server answers with an error."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Item:
    """One item. body: as it is shown. audio_ms: of the assistant's sound, None where it has none. spoken: its words."""

    def __init__(self, body: Json, audio_ms: float | None = None) -> None:
        self.body = body
        self.audio_ms = audio_ms
        self.spoken = ""

    @property
    def id(self) -> str:
        return self.body["id"]

    @property
    def heard(self) -> Heard | None:
        """What it says to the script; None = nothing."""
        kind = self.body["type"]
        if kind == "function_call":
            return Heard("call", self.body["name"])
        if kind != "message" or self.body["role"] == "system":
            return None
        if self.audio_ms is not None:
            # A model knows its own sound, also where the words of it were taken away.
            said = self.spoken.encode()[: round(self.audio_ms / CHAR_MS)]
            return Heard("assistant", said.decode("utf-8", "ignore"))
        texts = (part.get("text") or part.get("transcript") or "" for part in self.body["content"])
        return Heard(self.body["role"], " ".join(text for text in texts if text))


class Items:
    """All of them, in order. flavour: `ga` or `beta`."""

    def __init__(self, flavour: str) -> None:
        self._flavour = flavour
        self._items: list[Item] = []

    def __iter__(self) -> Any:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def find(self, id: str) -> Item | None:
        return next((item for item in self._items if item.id == id), None)

    @property
    def heard(self) -> list[Heard]:
        """The conversation as the script reads it."""
        return [heard for item in self._items if (heard := item.heard) is not None]

    def add(self, item: Item, previous: str | None = None) -> None:
        """Put it at the end, or after `previous` (`root`: first)."""
        if previous is None:
            self._items.append(item)
        elif previous == "root":
            self._items.insert(0, item)
        else:
            found = self.find(previous)
            if found is None:
                raise Refused("invalid_value", f"Previous item with id '{previous}' not found.", "previous_item_id")
            self._items.insert(self._items.index(found) + 1, item)

    def create(self, body: Any, previous: Any) -> Item:
        """An item that the client sends. Raises Refused."""
        if not isinstance(body, dict):
            raise Refused("missing_required_parameter", "Missing required parameter: 'item'.", "item")
        made = self._checked(cast(Json, body))
        id = made.setdefault("id", f"item_{uuid.uuid4().hex[:21]}")
        if not isinstance(id, str) or not 0 < len(id) <= ID_CHARS_MAX:
            raise Refused("string_above_max_length", f"'item.id': at most {ID_CHARS_MAX} characters.", "item.id")
        if self.find(id) is not None:
            raise Refused("item_create_duplicate_item_id", f"Item with id '{id}' already exists.", "item.id")
        made |= {"object": "realtime.item", "status": "completed"}
        item = Item(made)
        self.add(item, None if previous is None else str(previous))
        return item

    def _checked(self, body: Json) -> Json:
        kind = body.get("type")
        match kind:
            case "message":
                _known(body, _MESSAGE)
                self._check_message(body)
            case "function_call":
                _known(body, _CALL)
                for name in ("name", "arguments"):
                    _text(body, name)
                self._check_call_id(body, must_exist=False)
            case "function_call_output":
                _known(body, _OUTPUT)
                _text(body, "output")
                self._check_call_id(body, must_exist=True)
            case _:
                raise Refused("invalid_value", f"Invalid value: '{kind}'.", "item.type")
        return dict(body)

    def _check_call_id(self, body: Json, *, must_exist: bool) -> None:
        call_id = _text(body, "call_id")
        if len(call_id) > ID_CHARS_MAX:
            raise Refused("string_above_max_length", f"At most {ID_CHARS_MAX} characters.", "item.call_id")
        calls = [item.body["call_id"] for item in self._items if item.body["type"] == "function_call"]
        if must_exist and call_id not in calls:
            raise Refused(
                "invalid_tool_call_id", f"Tool call ID '{call_id}' not found in conversation.", "item.call_id"
            )

    def _check_message(self, body: Json) -> None:
        role, content = body.get("role"), body.get("content")
        if role not in ("user", "assistant", "system"):
            raise Refused("invalid_value", f"Invalid value: '{role}'.", "item.role")
        if not isinstance(content, list) or not content:
            raise Refused("missing_required_parameter", "Missing required parameter: 'item.content'.", "item.content")
        allowed: Mapping[str, set[str]] = {
            "user": _USER_PARTS,
            "system": {"input_text": {"type", "text"}},
            "assistant": {TEXT_PART[self._flavour]: {"type", "text"}},
        }[role]
        for i, part in enumerate(cast(list[Any], content)):
            at = f"item.content[{i}]"
            kind = cast(Json, part).get("type") if isinstance(part, dict) else None
            if kind not in allowed:
                raise Refused("invalid_value", f"Invalid value: '{kind}' for role '{role}'.", f"{at}.type")
            _known(cast(Json, part), allowed[kind], at)
            if "text" in allowed[kind]:
                _text(cast(Json, part), "text", at)

    def truncate(self, id: Any, index: Any, end_ms: Any) -> None:
        """Forget what was not heard. Raises Refused."""
        item = self.find(str(id))
        if item is None:
            raise Refused("invalid_value", f"Item with id '{id}' not found.", "item_id")
        if item.audio_ms is None:
            raise Refused("invalid_value", "Only model output audio messages can be truncated.", "item_id")
        if index != 0:
            raise Refused("invalid_value", "Invalid 'content_index'.", "content_index")
        if not isinstance(end_ms, int) or isinstance(end_ms, bool) or end_ms < 0:
            raise Refused("invalid_type", "'audio_end_ms': an integer of at least 0.", "audio_end_ms")
        if end_ms > item.audio_ms:
            raise Refused("invalid_value", f"Audio content of {item.audio_ms:.0f}ms is already shorter than {end_ms}ms")
        item.audio_ms = end_ms
        item.body["content"][0].pop("transcript", None)

    def delete(self, id: Any) -> None:
        """Raises Refused."""
        item = self.find(str(id))
        if item is None:
            raise Refused("item_delete_invalid_item_id", f"Item with id '{id}' not found.", "item_id")
        self._items.remove(item)


def _known(body: Json, names: set[str], at: str = "item") -> None:
    for name in body:
        if name not in names:
            raise Refused("unknown_parameter", f"Unknown parameter: '{at}.{name}'.", f"{at}.{name}")


def _text(body: Json, name: str, at: str = "item") -> str:
    value = body.get(name)
    if value is None:
        raise Refused("missing_required_parameter", f"Missing required parameter: '{at}.{name}'.", f"{at}.{name}")
    if not isinstance(value, str):
        raise Refused("invalid_type", f"Invalid type for '{at}.{name}': expected a string.", f"{at}.{name}")
    return value
