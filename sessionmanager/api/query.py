"""Query strings → typed parameters: values are only ever data, and whatever is not known is refused by name (400)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct

from sessionmanager.errors import FieldError, Malformed
from sessionmanager.fields import Time
from sessionmanager.model import instants
from sessionmanager.wire.common import NOT_A_TIME, is_time

S = TypeVar("S", bound=Struct)

PARAMETERS_MAX: Final = 64
QUERY_BYTES_MAX: Final = 8 * 1024
_GROUP: Final = "metadata"
_ADDRESSES: Final = frozenset({"caller", "callee"})
_control = re.compile(r"[\x00-\x1f\x7f]")
_integer = re.compile(r"-?[0-9]{1,18}")
_decimal = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_our_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_bad_percent = re.compile(rb"%(?![0-9A-Fa-f]{2})")


# Without the cast, pyright takes the annotated name for a value.
_OPTIONAL_TIME: Final[Any] = cast(Any, Time) | None


class QueryReader(Generic[S]):
    """Reads the parameters of one struct. A field that is a dict takes `<name>.<key>=value`."""

    __slots__ = ("_empty", "_fields", "_floats", "_groups", "_ints", "_times", "type")

    def __init__(self, query_type: type[S]) -> None:
        self.type = query_type
        self._fields = {field.encode_name: field for field in msgspec.structs.fields(query_type)}
        self._groups = frozenset(name for name in self._fields if name == _GROUP)
        self._ints = _fields_of(query_type, msgspec.inspect.IntType)
        self._floats = _fields_of(query_type, msgspec.inspect.FloatType)
        self._times = frozenset(name for name, field in self._fields.items() if field.type == _OPTIONAL_TIME)
        self._empty = query_type()

    def read(self, query_string: bytes) -> S:
        """Raises Malformed with `query/<name>` for every parameter that is unknown, doubled or has a wrong value."""
        if not query_string:
            return self._empty
        values, errors = self._collect(query_string)
        if not errors:
            try:
                if any(name in self._times and not _our_time.fullmatch(values[name]) for name in values):
                    raise msgspec.ValidationError
                return msgspec.convert(values, self.type)
            except msgspec.ValidationError:
                errors = self._wrong(values)
        raise Malformed("; ".join(f"{e.pointer}: {e.detail}" for e in errors[:3]), errors)

    def _collect(self, query_string: bytes) -> tuple[dict[str, Any], list[FieldError]]:
        values: dict[str, Any] = {}
        errors: list[FieldError] = []
        parts = query_string.split(b"&", PARAMETERS_MAX + 1)
        if len(query_string) > QUERY_BYTES_MAX or len(parts) > PARAMETERS_MAX:
            return {}, [FieldError("query", f"at most {PARAMETERS_MAX} parameters and {QUERY_BYTES_MAX} bytes")]
        for part in filter(None, parts):
            raw_name, _, raw_value = part.partition(b"=")
            name, value = _text(raw_name), _text(raw_value)
            if name is None or value is None:
                errors.append(FieldError(_pointer(name or "?"), "not percent-encoded UTF-8, or a control character"))
                continue
            group, dot, key = name.partition(".")
            if dot and group in self._groups:
                into: dict[str, Any] = values.setdefault(group, {})
                known = bool(key) and "$" not in key and "[" not in key
            else:
                into, key = values, name
                known = name in self._fields and name not in self._groups
            if not known:
                errors.append(FieldError(_pointer(name), "not a known parameter"))
            elif name in _ADDRESSES and value.startswith(" "):
                errors.append(FieldError(_pointer(name), "begins with a space: a + is sent as %2B"))
            elif key in into:
                errors.append(FieldError(_pointer(name), "given twice"))
            else:
                into[key] = self._typed(key, value) if into is values else value
        return values, errors

    def _typed(self, name: str, value: str) -> Any:
        """A number where one is due, a time in our own form; a text stays a text (`null`, too)."""
        if name in self._ints and _integer.fullmatch(value):
            return int(value)
        if name in self._floats and _decimal.fullmatch(value):
            return float(value)
        if name in self._times and is_time(value):
            return instants.parse(value)
        return value

    def _wrong(self, values: dict[str, Any]) -> list[FieldError]:
        """Each parameter on its own, so that every wrong one is named."""
        errors: list[FieldError] = []
        for name, value in values.items():
            if isinstance(value, dict):
                group = cast(dict[str, str], value)
                wanted = self._fields[name].type
                errors += [
                    FieldError(_pointer(f"{name}.{key}"), "not valid")
                    for key, one in group.items()
                    if _reason({key: one}, wanted) is not None
                ]
            elif name in self._times and not _our_time.fullmatch(value):
                errors.append(FieldError(_pointer(name), NOT_A_TIME))
            elif (reason := _reason(value, self._fields[name].type)) is not None:
                errors.append(FieldError(_pointer(name), reason))
        return errors or [FieldError("query", f"at most {PARAMETERS_MAX} parameters")]


def _fields_of(query_type: type[Struct], kind: type[msgspec.inspect.Type]) -> frozenset[str]:
    info = msgspec.inspect.type_info(query_type)
    assert isinstance(info, msgspec.inspect.StructType), "parameters are a struct"
    return frozenset(field.encode_name for field in info.fields if _holds(field.type, kind))


def _holds(type_: msgspec.inspect.Type, kind: type[msgspec.inspect.Type]) -> bool:
    if isinstance(type_, msgspec.inspect.UnionType):
        return any(_holds(one, kind) for one in type_.types)
    if isinstance(type_, msgspec.inspect.Metadata):
        return _holds(type_.type, kind)
    return isinstance(type_, kind)


def _reason(value: Any, wanted: Any) -> str | None:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        said = str(error).partition(" - at `")[0].partition(", got ")[0].replace("`", "").replace(" | null", "")
        if "regex" in said:
            return "not of the form that is allowed here"
        return said.lower() if said.startswith("Expected") else f"expected one of {', '.join(_values(wanted))}"
    return None


def _values(wanted: Any) -> list[str]:
    """Those that a parameter may have, of one that may have some alone."""
    info = msgspec.inspect.type_info(wanted)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return [str(one) for kind in kinds if isinstance(kind, msgspec.inspect.LiteralType) for one in kind.values]


def _text(part: bytes) -> str | None:
    if b"%" in part or b"+" in part:
        if _bad_percent.search(part):
            return None
        part = unquote_to_bytes(part.replace(b"+", b" "))
    try:
        text = part.decode()
    except UnicodeDecodeError:
        return None
    return None if _control.search(text) else text


def _pointer(name: str) -> str:
    return f"query/{name[:128]}"


@lru_cache(maxsize=64)
def query_reader(query_type: type[S]) -> QueryReader[S]:
    """The one reader of a parameter struct."""
    return QueryReader(query_type)
