"""Every wrong field of a body that does not fit its type, in our words.

msgspec stops at the first error; this walks the schema that is made from the same type. It runs only for bodies that
are refused, and looks at no more of long arrays and objects than their bounds allow, so that a refusal stays cheap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec
from jsonschema import validators
from jsonschema.exceptions import ValidationError

from sessionmanager.api.schemas import schema_of
from sessionmanager.errors import FieldError
from sessionmanager.fields import TIME_BEGINS
from sessionmanager.wire.common import END, ID_CHARS, ID_FORM, NO_CONTROLS, NOT_A_TIME, pointer

LOOKED_AT_MAX: Final = 1_001
"""Items of one array and members of one nested object that are looked at: one more than any bound in our types."""
_NESTED_MAX: Final = 3
_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda v: v is None,
    "string": lambda v: isinstance(v, str),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
}


class FieldErrors:
    """Finds the wrong fields of values that should be of one type. Building one costs a few milliseconds."""

    __slots__ = ("_validator",)

    def __init__(self, body_type: Any) -> None:
        self._validator: Any = _Validator(schema_of(body_type))

    def find(self, value: Any, first: msgspec.ValidationError, errors_max: int) -> list[FieldError]:
        """At most `errors_max` wrong fields, at least one: what msgspec said (`first`) where the schema finds nothing,
        such as 1.0 where an integer is due."""
        found: dict[FieldError, None] = {}
        for error in self._validator.iter_errors(_shortened(value)):
            for one in _in_words(error):
                found.setdefault(one)
            if len(found) >= errors_max:
                break
        return list(found)[:errors_max] or [_of_msgspec(first)]


def _shortened(value: Any, depth: int = 0) -> Any:
    """The part of a value that is looked at; free members lie deeper and are not walked."""
    if depth > _NESTED_MAX:
        return value
    if isinstance(value, dict):
        members = cast(dict[str, Any], value)
        names = list(members) if depth == 0 else list(members)[:LOOKED_AT_MAX]
        return {name: _shortened(members[name], depth + 1) for name in names}
    if isinstance(value, list):
        items = cast(list[Any], value)
        return [_shortened(item, depth + 1) for item in items[:LOOKED_AT_MAX]]
    return value


def _any_of(validator: Any, branches: list[dict[str, Any]], value: Any, schema: Any) -> Iterator[Any]:
    """`anyOf` that says what is wrong with the branch that was meant, rather than that none fits."""
    meant = [i for i, branch in enumerate(branches) if _meant(branch, value)]
    if len(meant) == 1:
        yield from validator.descend(value, branches[meant[0]], schema_path=meant[0])
    elif not meant and isinstance(value, dict) and all(_tag(branch) for branch in branches):
        error = ValidationError("tag", validator="tag", validator_value=[b["title"] for b in branches], path=["type"])
        error.validator = "required_tag" if "type" not in value else "tag"
        yield error
    elif not any(validator.evolve(schema=branch).is_valid(value) for branch in branches):
        names = list(dict.fromkeys(_named(branch) for branch in branches))
        yield ValidationError("choice", validator="choice", validator_value=names)


def _tag(branch: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return branch.get("properties", {}).get("type")


def _meant(branch: Mapping[str, Any], value: Any) -> bool:
    """Whether a branch is for this kind of value: by its JSON type, and by its tag where it has one."""
    kind = "object" if "$ref" in branch else branch.get("type")
    if kind is None:
        return "enum" not in branch or value in branch["enum"] or isinstance(value, str)
    if not _TYPES[kind](value):
        return False
    tag = _tag(branch)
    if tag is None:
        return True
    name = value.get("type")
    if "const" in tag:
        return bool(name == tag["const"])
    return isinstance(name, str) and re.search(tag["pattern"], name) is not None


def _named(branch: Mapping[str, Any]) -> str:
    return ", ".join(map(str, branch["enum"])) if "enum" in branch else str(branch.get("type", "object"))


_Validator = cast(Any, validators).extend(validators.Draft202012Validator, {"anyOf": _any_of})

_FORMS: Final[Mapping[str, str]] = {
    f"^{ID_CHARS}{END}": ID_FORM,
    TIME_BEGINS: NOT_A_TIME,
    f"^{NO_CONTROLS}{END}": "no control characters",
    f"^(?!e[0-9]+$){NO_CONTROLS}{END}": "no control characters, and not `e` with digits, which is the service's own",
}
"""Patterns, in words."""
_DETAILS: Final[Mapping[str, Callable[[Any], str]]] = {
    "type": lambda v: f"expected {v}",
    "enum": lambda v: f"expected one of {', '.join('null' if one is None else str(one) for one in v)}",
    "choice": lambda v: f"expected {' or '.join(v)}",
    "tag": lambda v: f"not an entry type that clients append; allowed: {', '.join(v)}",
    "required_tag": lambda v: "required",
    "minLength": lambda v: f"at least {v} characters",
    "maxLength": lambda v: f"at most {v} characters",
    "minItems": lambda v: f"at least {v} items",
    "maxItems": lambda v: f"at most {v} items",
    "minProperties": lambda v: f"at least {v} members",
    "maxProperties": lambda v: f"at most {v} members",
    "minimum": lambda v: f"not below {v}",
    "maximum": lambda v: f"not above {v}",
    "exclusiveMinimum": lambda v: f"above {v}",
    "exclusiveMaximum": lambda v: f"below {v}",
    "pattern": lambda v: "not of the form that is allowed here" + (f": {_FORMS[v]}" if v in _FORMS else ""),
}


def _in_words(error: Any) -> Iterator[FieldError]:
    """One schema error. jsonschema's own message would repeat what was sent."""
    path: list[str | int] = list(error.absolute_path)
    wanted: Any = error.validator_value
    if error.validator == "required":
        yield from (FieldError(pointer(*path, name), "required") for name in wanted if name not in error.instance)
    elif error.validator == "additionalProperties":
        known: Any = error.schema.get("properties", {})
        unknown = [name for name in error.instance if name not in known]
        yield from (FieldError(pointer(*path, name), "not a known member") for name in unknown[:LOOKED_AT_MAX])
    else:
        if "propertyNames" in error.absolute_schema_path:
            path = [*path, str(error.instance)]
        say = _DETAILS.get(error.validator)
        yield FieldError(pointer(*path), say(wanted) if say else "not of the form that is allowed here")


_place = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_part = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def _of_msgspec(error: msgspec.ValidationError) -> FieldError:
    """The place and the reason of msgspec's message, without the value that was found."""
    match = _place.search(str(error))
    parts = [name or index for name, index in _part.findall(match["path"])] if match else []
    said = str(error).partition(" - at `")[0].partition(", got ")[0].replace("`", "")
    return FieldError(pointer(*parts), said.lower() if said.startswith("Expected") else "not valid")
