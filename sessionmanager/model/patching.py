"""Merge patch (RFC 7396) and JSON patch (RFC 6902) on JSON texts, so that numbers nobody touched keep their text."""

from __future__ import annotations

from typing import Any, Final, cast

import jsonpatch  # pyright: ignore[reportMissingTypeStubs]
import jsonpointer  # pyright: ignore[reportMissingTypeStubs]
import msgspec
from msgspec import Raw

from sessionmanager.errors import FieldError, Invalid

OPERATIONS_MAX: Final = 1_000
_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class _Number:
    """A number that is not an integer: equal by value, written back by its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Number):
            return float(self.text) == float(other.text)
        return isinstance(other, int | float) and not isinstance(other, bool) and float(self.text) == other

    def __hash__(self) -> int:
        return hash(float(self.text))

    def __deepcopy__(self, memo: object) -> _Number:
        return self


def _encode_number(value: Any) -> Raw:
    assert isinstance(value, _Number), f"unexpected {type(value).__name__} in a patched document"
    return Raw(value.text.encode())


_decode_any = msgspec.json.Decoder(float_hook=_Number).decode
_encode_any = msgspec.json.Encoder(enc_hook=_encode_number).encode


def is_object(text: Raw | bytes) -> bool:
    return bytes(text).lstrip()[:1] == b"{"


def merge(target: Raw | None, patch: Raw) -> Raw:
    """`patch` merged into `target` (None = absent). Cost: linear in both; depth is bounded by the strict reader."""
    if not is_object(patch):
        return patch
    members: dict[str, Raw] = _members.decode(target) if target is not None and is_object(target) else {}
    for name, value in _members.decode(patch).items():
        if bytes(value) == b"null":
            members.pop(name, None)
        else:
            members[name] = merge(members.get(name), value)
    return Raw(_encode(members))


def apply_operations(document: Raw, operations: Raw, bytes_max: int) -> Raw:
    """The document after all operations, or Invalid that names the first one that does not apply (`/3/path`).

    A failed `test` is Invalid too: the document is not as the caller believes. The result is held under `bytes_max`
    after each operation, so that copies that double cannot blow it up.
    """
    parsed = _decode_any(operations)
    if not isinstance(parsed, list):
        raise Invalid([FieldError("", "a JSON patch is an array of operations")])
    steps = cast("list[Any]", parsed)
    if len(steps) > OPERATIONS_MAX:
        raise Invalid([FieldError("", f"at most {OPERATIONS_MAX} operations")])
    current = _decode_any(document)
    for i, step in enumerate(steps):
        if not isinstance(step, dict):
            raise Invalid([FieldError(f"/{i}", "an operation is an object")])
        operation = cast("dict[str, Any]", step)
        try:
            current = jsonpatch.apply_patch(current, [operation])
        except jsonpatch.JsonPatchTestFailed as error:
            raise Invalid([FieldError(f"/{i}", "the test does not hold")]) from error
        except (
            jsonpatch.JsonPatchException,
            jsonpointer.JsonPointerException,
            TypeError,
            ValueError,
            KeyError,
        ) as error:
            raise Invalid([FieldError(f"/{i}", "the operation does not apply to the session")]) from error
        if operation.get("op") == "copy" and len(_encode_any(current)) > bytes_max:
            raise Invalid([FieldError(f"/{i}", f"the result is over {bytes_max} bytes")])
    return Raw(_encode_any(current))
