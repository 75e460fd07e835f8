"""What Twilio's two WebSocket protocols have in common: how a frame is read, and names that strangers chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

FRAME_BYTES_MAX: Final = 256 * 1024
"""Of one frame; Twilio's own are under 2 KiB, a long prompt a few more."""
TEXT_MAX: Final = 256
PARAMETERS_MAX: Final = 32


class Unreadable(ValueError):
    """A frame that is no message of the protocol. kind: `binary`, `not-json`, `unknown-type`, `wrong-field`,
    `too-large`."""

    def __init__(self, kind: str, type_: str | None = None) -> None:
        super().__init__(f"{kind}{f' in {type_}' if type_ else ''}")
        self.kind = kind
        self.type = type_


class FrameReader(Generic[T]):
    """Reads frames as one of several types, told apart by the member `tag`."""

    def __init__(self, types: type[T] | Any, tag: str, names: frozenset[str]) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(types)
        self._tag = tag
        self._names = names

    def read(self, frame: str | bytes) -> T:
        """The message in a frame. Raises Unreadable. Cost: one pass over its text."""
        if isinstance(frame, bytes):
            raise Unreadable("binary")
        if len(frame) > FRAME_BYTES_MAX:
            raise Unreadable("too-large")
        try:
            return self._decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise self._unreadable(frame) from None

    def _unreadable(self, frame: str) -> Unreadable:
        try:
            whole = msgspec.json.decode(frame, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return Unreadable("not-json")
        kind = whole.get(self._tag)
        if isinstance(kind, str) and kind in self._names:
            return Unreadable("wrong-field", kind)
        # The text of an unknown type is a stranger's: it is not handed on.
        return Unreadable("unknown-type")


def text_of(value: object) -> str | None:
    """A name or a number as text, cut to `TEXT_MAX`; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return "".join(c for c in str(value) if c.isprintable())[:TEXT_MAX].strip() or None


def parameters_of(custom: object) -> dict[str, str]:
    """The texts among `customParameters`, at most `PARAMETERS_MAX`."""
    if not isinstance(custom, Mapping):
        return {}
    found: dict[str, str] = {}
    for name, value in custom.items():  # pyright: ignore[reportUnknownVariableType]
        text = text_of(value)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(name, str) and text is not None and len(found) < PARAMETERS_MAX:
            found[name[:TEXT_MAX]] = text
    return found
