"""What a service is told: where the manager is, who it is itself, and its bounds. Read once, checked whole."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, cast
from urllib.parse import urlsplit

from sessionmanager.client import Token

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - refused as an endpoint below
SECRET_CHARS_MIN: Final = 16
SECONDS_MAX: Final = 3_600.0
JOIN_SECONDS_MAX: Final = 50.0
"""The manager gives up after 60 s, by default."""
SESSIONS_MAX: Final = 900
"""Of one process: each has a connection of its own for its feed."""
QUEUE_MAX: Final = 10_000


class ConfigInvalid(ValueError):
    """A service that cannot start as it is configured. Its text names what is wrong, and holds no value that may be
    secret."""


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """One service process.

    url: of the manager. token, api_key: exactly one, the service's own credential; a function may give tokens. id: of
    this process, the same after a restart, and of no other that runs. type: what sessions ask for in
    `required_services`; by default the id. host, port: where it listens, 0 = any free port. endpoint: where the
    manager finds it, by default the address it listens on. capabilities, metadata: shown by `GET /services`.
    join_secret: whoever calls `/join-room` must send it as `Authorization: Bearer`, beside the token in the body.

    sessions_max: sessions at once; one more is refused. queue_max: entries of a session that wait for `on_message`;
    beyond it its feed is not read. heartbeat_seconds: between two heartbeats to the registry. beat_seconds: of each
    participation. join_seconds, message_seconds, leave_seconds: of one call of `on_join`, `on_message`, and `on_end`
    or `on_leave`. answer_seconds: how long the manager waits in `/join-room` before it is told that joining goes on.
    token_seconds: how long a session's token lives; half of it is how long the manager may be away. drain_seconds:
    how long entries that wait are still worked off when it stops.
    """

    url: str
    id: str
    token: Token | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    type: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    endpoint: str = ""
    capabilities: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    join_secret: str | None = field(default=None, repr=False)
    sessions_max: int = 100
    queue_max: int = 256
    heartbeat_seconds: float = 5.0
    beat_seconds: float = 20.0
    join_seconds: float = 30.0
    message_seconds: float = 30.0
    leave_seconds: float = 10.0
    answer_seconds: float = 5.0
    token_seconds: int = 21_600
    drain_seconds: float = 20.0

    def __post_init__(self) -> None:
        """Raises ConfigInvalid."""
        if not self.type:
            object.__setattr__(self, "type", self.id)
        wrong = [text for text in (*self._who(), *self._where(), *self._bounds()) if text]
        if wrong:
            raise ConfigInvalid("; ".join(wrong))

    def _who(self) -> tuple[str, ...]:
        secret = self.join_secret
        return (
            "" if _ID.fullmatch(self.id) else "id: 1-128 letters, digits, `_`, `.`, `-`",
            "" if len(self.type) <= 128 and self.type.isprintable() else "type: 1-128 printable characters",
            "" if (self.token is None) != (self.api_key is None) else "exactly one of token and api_key",
            "" if self.token != "" and self.api_key != "" else "a credential cannot be empty",
            ""
            if secret is None or len(secret) >= SECRET_CHARS_MIN
            else f"join_secret: at least {SECRET_CHARS_MIN} characters",
        )

    def _where(self) -> tuple[str, ...]:
        listens = 0 <= self.port <= 65_535 and bool(self.host)
        told = _is_http(self.endpoint) if self.endpoint else self.host not in _WILDCARDS
        return (
            "" if _is_http(self.url) else "url: http(s)://host[:port] without credentials, query and fragment",
            "" if listens else "host, port: where to listen",
            "" if told else "endpoint: http(s)://host[:port][/path], needed where it listens on every address",
        )

    def _bounds(self) -> tuple[str, ...]:
        seconds = [one.name for one in fields(self) if one.name.endswith("_seconds")]
        bad = [name for name in seconds if not 0 < getattr(self, name) <= _limit(name)]
        return (
            *(f"{name}: over 0 and at most {_limit(name):g}" for name in bad),
            "" if 1 <= self.sessions_max <= SESSIONS_MAX else f"sessions_max: 1 to {SESSIONS_MAX}",
            "" if 1 <= self.queue_max <= QUEUE_MAX else f"queue_max: 1 to {QUEUE_MAX}",
        )

    def endpoint_at(self, port: int) -> str:
        """Where the manager finds it, once it listens on this port."""
        if self.endpoint:
            return self.endpoint.rstrip("/")
        return f"http://{f'[{self.host}]' if _is_ipv6(self.host) else self.host}:{port}"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, **given: Any) -> ServiceConfig:
        """From `SESSIONMANAGER_URL`, `SESSIONMANAGER_TOKEN` or `SESSIONMANAGER_API_KEY`, and `SERVICE_…` for the rest.

        given: fields that the program sets itself, unless the environment says otherwise. Raises ConfigInvalid.
        """
        source = os.environ if environ is None else environ
        found = dict(given)
        for name, (variable, read) in VARIABLES.items():
            text = source.get(variable, "")
            if text == "":
                continue
            try:
                found[name] = read(text)
            except ValueError:
                raise ConfigInvalid(f"{variable} cannot be read as {read.__name__.strip('_')}") from None
        for name in ("url", "id"):
            if name not in found:
                raise ConfigInvalid(f"{VARIABLES[name][0]} is needed")
        return cls(**found)


def _limit(name: str) -> float:
    return {"token_seconds": 86_400.0, "join_seconds": JOIN_SECONDS_MAX, "answer_seconds": 8.0}.get(name, SECONDS_MAX)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port > 0)
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )
    except ValueError:
        return False


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _text(text: str) -> str:
    return text.strip()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _whole_number(text: str) -> int:
    return int(text)


def _json_object(text: str) -> dict[str, Any]:
    value: Any = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return cast("dict[str, Any]", value)


VARIABLES: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "url": ("SESSIONMANAGER_URL", _text),
    "token": ("SESSIONMANAGER_TOKEN", _text),
    "api_key": ("SESSIONMANAGER_API_KEY", _text),
    "id": ("SERVICE_ID", _text),
    "type": ("SERVICE_TYPE", _text),
    "host": ("SERVICE_HOST", _text),
    "port": ("SERVICE_PORT", _whole_number),
    "endpoint": ("SERVICE_ENDPOINT", _text),
    "capabilities": ("SERVICE_CAPABILITIES", _words),
    "metadata": ("SERVICE_METADATA", _json_object),
    "join_secret": ("SERVICE_JOIN_SECRET", _text),
    "sessions_max": ("SERVICE_SESSIONS_MAX", _whole_number),
    "queue_max": ("SERVICE_QUEUE_MAX", _whole_number),
    "heartbeat_seconds": ("SERVICE_HEARTBEAT_SECONDS", _number),
    "beat_seconds": ("SERVICE_BEAT_SECONDS", _number),
    "join_seconds": ("SERVICE_JOIN_SECONDS", _number),
    "message_seconds": ("SERVICE_MESSAGE_SECONDS", _number),
    "leave_seconds": ("SERVICE_LEAVE_SECONDS", _number),
    "answer_seconds": ("SERVICE_ANSWER_SECONDS", _number),
    "token_seconds": ("SERVICE_TOKEN_SECONDS", _whole_number),
    "drain_seconds": ("SERVICE_DRAIN_SECONDS", _number),
}
"""Field → the variable that sets it, and how it is read."""
