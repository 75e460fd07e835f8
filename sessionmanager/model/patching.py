"""Merge patch (RFC 7396) and JSON patch (RFC 6902) on JSON texts, so that numbers nobody touched keep their text."""

from __future__ import annotations

from collections.abc import Iterable
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


class _Untouched:
    """A member that no operation names: its text stays as it is, down to the last digit."""

    __slots__ = ("text",)

    def __init__(self, text: Raw) -> None:
        self.text = text


def _encode_kept(value: Any) -> Raw:
    if isinstance(value, _Untouched):
        return value.text
    assert isinstance(value, _Number), f"unexpected {type(value).__name__} in a patched document"
    return Raw(value.text.encode())


_decode_any = msgspec.json.Decoder(float_hook=_Number).decode
_encode_any = msgspec.json.Encoder(enc_hook=_encode_kept).encode


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


def apply_operations(document: Raw, operations: Raw, *, bytes_max: int, depth_max: int) -> Raw:
    """The document (an object) after all operations, or Invalid that names the first one that does not apply (`/3`).

    A failed `test` is Invalid too: the document is not as the caller believes. What is copied is held under `bytes_max`
    in all, and nothing may lie deeper than `depth_max`, so that copies that double can blow up neither size nor depth.
    Cost: linear in document, patch and what is copied; a thousand operations do not copy the document.
    """
    parsed = _decode_any(operations)
    if not isinstance(parsed, list):
        raise Invalid([FieldError("", "a JSON patch is an array of operations")])
    steps = cast("list[Any]", parsed)
    if len(steps) > OPERATIONS_MAX:
        raise Invalid([FieldError("", f"at most {OPERATIONS_MAX} operations")])
    current: Any = _opened(document, steps)
    copied = 0
    for i, step in enumerate(steps):
        if not isinstance(step, dict):
            raise Invalid([FieldError(f"/{i}", "an operation is an object")])
        operation = cast("dict[str, Any]", step)
        try:
            _check_paths(operation, depth_max)
            if operation.get("op") == "copy":
                # Not by `jsonpatch`, whose copy takes a hundred times as long as writing the value and reading it.
                text = _encode_any(jsonpointer.JsonPointer(operation["from"]).resolve(current))
                copied += len(text)
                if copied > bytes_max:
                    raise Invalid([FieldError(f"/{i}", f"the patch copies over {bytes_max} bytes")])
                operation = {**operation, "op": "add", "value": _decode_any(text)}
            current = jsonpatch.apply_patch(current, [operation], in_place=True)
        except jsonpatch.JsonPatchTestFailed as error:
            raise Invalid([FieldError(f"/{i}", "the test does not hold")]) from error
        except _REFUSED as error:
            raise Invalid([FieldError(f"/{i}", "the operation does not apply to the session")]) from error
    if not isinstance(current, dict):
        raise Invalid([FieldError("", "a session is an object")])
    if _is_deeper(current, depth_max):
        raise Invalid([FieldError("", f"the result is nested over {depth_max} deep")])
    return Raw(_encode_any(current))


_REFUSED: Final = (
    jsonpatch.JsonPatchException,
    jsonpointer.JsonPointerException,
    *(TypeError, ValueError, KeyError, AttributeError, RecursionError),
)


def _opened(document: Raw, steps: list[Any]) -> Any:
    """The document with those members decoded that an operation names."""
    named: set[str] | None = set()
    for step in steps:
        operation = cast("dict[str, Any]", step) if isinstance(step, dict) else {}
        for path in (operation[name] for name in ("path", "from") if name in operation):
            if not isinstance(path, str) or not path.startswith("/"):
                named = None  # the whole document, or a path that will be refused
                break
            if named is not None:
                named.add(path.split("/", 2)[1].replace("~1", "/").replace("~0", "~"))
    members = _members.decode(document)
    return {
        name: _decode_any(text) if named is None or name in named else _Untouched(text)
        for name, text in members.items()
    }


def _check_paths(step: dict[str, Any], depth_max: int) -> None:
    for name in ("path", "from"):
        path = step.get(name)
        if isinstance(path, str) and path.count("/") > depth_max:
            raise ValueError("a path deeper than anything may lie")


def _children(node: Any) -> Iterable[Any]:
    return cast("dict[str, Any]", node).values() if isinstance(node, dict) else node


def _is_deeper(value: Any, depth_max: int) -> bool:
    """Whether arrays and objects are nested over `depth_max`. Level by level: whatever the depth, nothing recurses."""
    level: list[Any] = [value]
    for _ in range(depth_max):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True
