"""What all bodies share: the bounds of a request, ids, and the rule for members that are not built yet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Protocol, runtime_checkable

import msgspec
from msgspec import Meta, Struct

from sessionmanager.errors import FieldError
from sessionmanager.words import Instant

END: Final = r"$(?!\n)"
"""The end of a pattern. In Python `$` alone lets a last line feed pass; the OpenAPI document drops what is in brackets,
which other dialects do not need."""

ID_CHARS: Final = r"[A-Za-z0-9+_][A-Za-z0-9._:@+=~-]{0,127}"
"""Ids of sessions: call ids, E.164 numbers, room names and GUIDs fit; paths, `..`, operators and control characters do
not. Begins with no dot, so that no id is a relative path."""

ID_FORM: Final = "1 to 128 letters, digits and . _ : @ + = ~ -, the first a letter, a digit, + or _"
"""The same for people."""

NO_CONTROLS: Final = r"[^\x00-\x1f\x7f]+"

SessionId = Annotated[str, Meta(min_length=1, max_length=128, pattern=f"^{ID_CHARS}{END}", examples=["call-4711"])]
ClientId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=f"^(?!e[0-9]+$){NO_CONTROLS}{END}",
        description="Chosen by the client, unique in the session for ever; `e` and digits is the service's own form.",
        examples=["utterance-17"],
    ),
]
PlainText = Annotated[str, Meta(min_length=1, max_length=255, pattern=f"^{NO_CONTROLS}{END}")]
At = Annotated[Instant, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-21T13:07:39.123Z"])]
Version = Annotated[int, Meta(ge=0, le=2**53 - 1, examples=[7])]
Seq = Annotated[int, Meta(ge=0, le=2**53 - 1)]

NOT_A_TIME: Final = "an RFC 3339 time with its offset, such as 2026-11-21T13:07:39.123Z"
RESUME_ENTRIES: Final = 50
RESUME_ENTRIES_MAX: Final = 500
PAGE: Final = 50
PAGE_MAX: Final = 200
BYTES_MAX: Final = 2**24


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of requests (api.md "Limits"); settings may change each. Bytes are of compact JSON in UTF-8."""

    body_bytes_max: int = 1024 * 1024
    entry_bytes_max: int = 64 * 1024
    append_entries_max: int = 256
    context_bytes_max: int = 256 * 1024
    metadata_keys_max: int = 64
    metadata_bytes_max: int = 16 * 1024
    json_depth_max: int = 64
    attachment_bytes_max: int = 16 * 1024 * 1024


DEFAULT_LIMITS: Final = Limits()


SECRET_MEMBERS: Final = frozenset({"token", "access_token", "session_token", "key", "secret"})


class Masked(Struct, frozen=True, kw_only=True):
    """A body with a secret in it: what is printed of it, in a log or a traceback, never shows that."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        members = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, "***" if name in SECRET_MEMBERS and isinstance(one, str) else one) for name, one in members]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


@runtime_checkable
class Checked(Protocol):
    """A body with rules that its types do not say."""

    def check(self, limits: Limits) -> Iterator[FieldError]:
        """Every broken rule, by JSON pointer; nothing of what was sent is repeated in the details."""
        ...


def is_time(text: str) -> bool:
    """Whether a text is an RFC 3339 time that exists; the one reading of it is `model/instants.py`."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return moment.tzinfo is not None and moment.astimezone(UTC).year > 0
    except (ValueError, OverflowError):
        return False


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) of these members, cut where a member's name is unreasonably long."""
    return "".join("/" + str(p)[:128].replace("~", "~0").replace("/", "~1") for p in parts)


def raw_bytes(value: msgspec.Raw) -> int:
    return len(memoryview(value))
