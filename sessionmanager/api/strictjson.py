"""Reading JSON that strangers send: refuse whatever two readers could read differently, then decode into a type.

Strict means: UTF-8 without a byte order mark, depth ≤ 64, no NaN, Infinity or number beyond a double, integers within
int64, numbers of at most 1,000 characters, no member twice, no lone surrogate, no NUL. What passes is valid for every
JSON reader (I-JSON, RFC 7493) and fits every tier. Free members stay texts: nothing about a number's text changes.

Two passes: a fast one in C that only says yes or no, and, after a no, a plain one that finds the place
(`jsonplace.py`). Both are linear and neither recurses in Python.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate, islice
from json import JSONDecodeError
from json.decoder import JSONDecoder
from math import isfinite
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

import msgspec
from msgspec import Raw

from sessionmanager.api.fielderrors import FieldErrors
from sessionmanager.api.jsonplace import find_offence
from sessionmanager.errors import FieldError, Invalid, Malformed
from sessionmanager.wire.common import DEFAULT_LIMITS, Checked, Limits

T = TypeVar("T")

DEPTH_MAX: Final = 64
NUMBER_CHARS_MAX: Final = 1_000
ERRORS_MAX: Final = 100
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_strings = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_steps: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_not_brackets: Final = bytes(c for c in range(256) if c not in b"[{]}")
# Escapes in order, so that an escaped backslash never lends its second half to a `\u`. Group 1 is what is refused.
_bad_escape = re.compile(
    rb"\\(?:u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(0000|[dD][89a-fA-F][0-9a-fA-F]{2})|)|.)",
    re.DOTALL,
)
_compact = msgspec.json.format
_WHITE_SPACE: Final = " \t\n\r"


class _Refused(ValueError):
    """One of our own rules is broken; the message is shown."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("an object has a member twice")
    return members


def _int(text: str) -> int:
    if len(text) < 19:
        return int(text)
    if len(text) > NUMBER_CHARS_MAX or not INT64_MIN <= (value := int(text)) <= INT64_MAX:
        raise _Refused("an integer is beyond 64 bits")
    return value


def _float(text: str) -> float:
    if len(text) > NUMBER_CHARS_MAX:
        raise _Refused(f"a number is over {NUMBER_CHARS_MAX} characters")
    value = float(text)
    if not isfinite(value):
        raise _Refused("a number is beyond a double")
    return value


def _constant(text: str) -> NoReturn:
    raise _Refused("NaN and Infinity are not JSON")


_scan = JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant)


def loads_strict(body: bytes, *, depth_max: int = DEPTH_MAX) -> Any:
    """The value of a JSON text. Raises Malformed with the rule that is broken, its line and column and its pointer.

    Cost: some 5 µs for 300 bytes; linear.
    """
    try:
        if body.count(b"[") + body.count(b"{") > depth_max:
            _check_depth(body, depth_max)
        text = body.decode().strip(_WHITE_SPACE)
        value, end = _scan.raw_decode(text)
        if end != len(text):
            raise _Refused("something follows the JSON value")
        if b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body:
            _check_escapes(body)
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 (byte {error.start})") from error
    except (_Refused, JSONDecodeError, RecursionError) as error:
        _explain(body, depth_max, error)
    return value


def read_raw(body: bytes, *, depth_max: int = DEPTH_MAX) -> Raw:
    """The text of any strict JSON value, without white space between its tokens; the tokens stay as sent.

    Holds no raw line feed: strings cannot, and everything else that is one was white space.
    """
    loads_strict(body, depth_max=depth_max)
    return Raw(_compact(body, indent=-1))


def _check_depth(body: bytes, depth_max: int) -> None:
    """Counts brackets outside strings. Run before the parser, which recurses in C up to the interpreter's own limit."""
    steps = _strings.sub(b"", body).translate(_steps, _not_brackets)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > depth_max:
        raise _Refused(f"the body is nested over {depth_max} deep")


def _check_escapes(body: bytes) -> None:
    for match in _bad_escape.finditer(body):
        if match[1] is not None:
            raise _Refused("a string holds a NUL" if match[1] == b"0000" else "a string holds a lone surrogate")


def _explain(body: bytes, depth_max: int, error: Exception) -> NoReturn:
    """Raise Malformed with the place of the first offence."""
    found = find_offence(body, depth_max, NUMBER_CHARS_MAX)
    reason = str(error) if isinstance(error, _Refused) else "the body is not JSON"
    if found is None:
        raise Malformed(reason) from error
    reason, at, where = found
    line = body.count(b"\n", 0, at) + 1
    column = at - body.rfind(b"\n", 0, at)
    detail = f"{reason} (line {line}, column {column})"
    raise Malformed(detail, [FieldError(where, reason)]) from error


class Reader(Generic[T]):
    """Decodes bodies of one type. Make one a route; the schema is built when the first invalid body comes."""

    __slots__ = ("_checked", "_decoder", "_schema", "type")

    def __init__(self, body_type: type[T]) -> None:
        self.type = body_type
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(body_type)
        self._checked = hasattr(body_type, "check")
        self._schema: FieldErrors | None = None

    def read(self, body: bytes, limits: Limits = DEFAULT_LIMITS) -> T:
        """The typed body. Raises Malformed (not strict JSON), Invalid (names every wrong field, at most 100).

        Its Raw members hold compact texts. Cost: see `loads_strict`, and a few microseconds for small bodies.
        """
        loads_strict(body, depth_max=limits.json_depth_max)
        try:
            value = self._decoder.decode(_compact(body, indent=-1))
        except msgspec.ValidationError as error:
            raise Invalid(self._errors(body, error)) from None
        if self._checked:
            errors = list(islice(cast(Checked, value).check(limits), ERRORS_MAX))
            if errors:
                raise Invalid(errors)
        return value

    def _errors(self, body: bytes, error: msgspec.ValidationError) -> list[FieldError]:
        if self._schema is None:
            self._schema = FieldErrors(self.type)
        return self._schema.find(msgspec.json.decode(body), error, ERRORS_MAX)


@lru_cache(maxsize=256)
def reader_of(body_type: type[T]) -> Reader[T]:
    """The one reader of a type."""
    return Reader(body_type)
