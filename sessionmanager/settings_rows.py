"""What a row of the settings table is, and how a value is shown: apart from `settings.py`, so that it stays a table."""

from __future__ import annotations

import hmac
from dataclasses import field
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

PREFIX: Final = "SESSIONMANAGER_"
MASK: Final = "***"

Kind = Literal["flag", "whole", "number", "text", "choice", "list", "path", "url", "secret", "host"]
T = TypeVar("T")


class Secret:
    """Text that shows itself only where it is asked to: not in `repr`, not in an f-string, not in a log line."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Row(NamedTuple):
    """One setting as the table has it. `low` and `high` bound numbers, or the bytes of a secret; both are allowed."""

    name: str
    kind: Kind
    default: Any
    toml: str
    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    default_note: str

    @property
    def env(self) -> str:
        """The short name of its environment variable, by which messages call it."""
        return self.name.upper()

    @property
    def nullable(self) -> bool:
        return self.default is None

    @property
    def env_names(self) -> tuple[str, ...]:
        """Every variable that sets it, the one that wins first."""
        names = (PREFIX + self.env, self.env)
        return (*names, *(f"{name}_FILE" for name in names)) if self.kind == "secret" else names

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        number = {"whole": "a whole number", "number": "a number"}.get(self.kind)
        if number is not None:
            high = f"from {_plain(self.low)} to {_plain(self.high)}" if self.high is not None else ""
            return f"{number} {high or f'of at least {_plain(self.low)}'}" + (" (unset: none)" if self.nullable else "")
        if self.kind == "secret":
            return f"a secret of at least {_plain(self.low)} bytes" if self.low else "a secret"
        if self.kind == "list":
            return (
                "a list (commas between) of " + ", ".join(self.choices) if self.choices else "a list (commas between)"
            )
        words = {
            "flag": "true or false",
            "text": "text without spaces",
            "path": "a path",
            "url": "a URL such as scheme://host/path",
        }
        return words.get(self.kind) or (
            "an address or a host name" if self.kind == "host" else "one of " + ", ".join(self.choices)
        )


def _plain(number: float | None) -> str:
    return "nothing" if number is None else f"{number:.15g}"


def setting(
    default: T,
    kind: Kind,
    toml: str,
    help: str,  # the word that the reference page and `config` use
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    default_note: str = "",
) -> T:
    """One row of the table, as a dataclass field. Numbers have 0 as their least value unless `low` says another."""
    if low is None and kind in ("whole", "number"):
        low = 0
    row = Row("", kind, default, toml, help, unit, low, high, choices, default_note)
    return field(default=default, metadata={"row": row})


def is_loopback(host: str) -> bool:
    """True only where it is certain: a name other than localhost may mean anything."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def shown(row: Row, value: Any) -> str:
    """A value as text for people, with nothing secret in it."""
    if value is None:
        return "(unset)"
    if row.kind == "secret":
        return MASK
    if row.kind == "url":
        return mask_url(str(value))
    if row.kind == "list":
        return ",".join(value) or "(none)"
    if row.kind == "flag":
        return "true" if value else "false"
    return _plain(value) if isinstance(value, (int, float)) else str(value)


def mask_url(url: str) -> str:
    """The URL without its user, password, query and fragment: drivers take credentials in any of them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    if parts.scheme in ("memory", "sqlite", "file"):
        return url  # a path, which may well hold an @
    if "@" in url.replace(parts.netloc, "", 1) or ("@" in url and "@" not in parts.netloc):
        return f"{parts.scheme}://{MASK}" if parts.scheme else MASK  # credentials where they do not belong
    host = f"{MASK}@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    tail = f"?{MASK}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{host}{parts.path}{tail}" if parts.scheme else MASK
