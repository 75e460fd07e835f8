"""`X-Twilio-Signature`: whether a webhook or a WebSocket handshake came from Twilio.

The whole address as Twilio called it, then each parameter of a form, sorted, name and value without anything between;
HMAC-SHA1 with the account's auth token, in base64. A WebSocket is signed with its `wss://` address, word for word as
the TwiML had it. Sources: Twilio, "Security: validating requests"; the `twilio` package 9.13, `request_validator.py`;
the changelog of 2025-04-01 for handshakes.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

SIGNATURE: Final = "x-twilio-signature"
SETTINGS: Final = "x-twilio-webhooks-signature-settings"
_PORTS: Final = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_settings: Final = re.compile(r"key=([^,\s]{1,128}),\s*algorithm=HMAC_SHA256")

Form = Sequence[tuple[str, str]]


def sign(address: str, form: Form, secret: str, algorithm: str = "sha1") -> str:
    """The signature of a request, as its header has it."""
    by_name: dict[str, set[str]] = {}
    for name, value in form:
        by_name.setdefault(name, set()).add(value)
    text = address + "".join(name + value for name in sorted(by_name) for value in sorted(by_name[name]))
    return b64encode(hmac.digest(secret.encode(), text.encode(), algorithm)).decode()


class Signatures:
    """Checks requests. auth_tokens: of the account, any of them. shared_keys: secrets by their id, for requests that
    name one. Every secret is tried and every comparison takes the same time."""

    def __init__(self, auth_tokens: Iterable[str], shared_keys: Mapping[str, str] | None = None) -> None:
        self._auth_tokens = tuple(auth_tokens)
        self._shared_keys = dict(shared_keys or {})

    def __repr__(self) -> str:
        return f"<signatures of {len(self._auth_tokens)} auth tokens and {len(self._shared_keys)} shared keys>"

    def fits_form(self, headers: Mapping[str, str], address: str, form: Form) -> bool:
        """A webhook with a form, or without a body."""
        return self._fits(headers, ((at, form) for at in _with_and_without_port(address)))

    def fits_socket(self, headers: Mapping[str, str], address: str) -> bool:
        """A handshake. Of an address with a query, ConversationRelay signs its pairs as if they were a form."""
        parts = _split(address)
        readings: list[tuple[str, Form]] = [(at, ()) for at in _with_and_without_port(address)]
        if parts is not None and parts.query:
            bare = urlunsplit(parts._replace(query=""))
            pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
            readings += [(at, pairs) for at in _with_and_without_port(bare)]
        return self._fits(headers, readings)

    def _fits(self, headers: Mapping[str, str], readings: Iterable[tuple[str, Form]]) -> bool:
        sent = headers.get(SIGNATURE, "").encode("latin-1", "replace")
        keys = self._keys(headers)
        found = [
            hmac.compare_digest(sent, sign(address, form, secret, algorithm).encode())
            for address, form in readings
            for secret, algorithm in keys
        ]
        return any(found)

    def _keys(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        settings = headers.get(SETTINGS)
        if settings is None:
            return [(token, "sha1") for token in self._auth_tokens]
        # A request that names a key or an algorithm that is not known here has no secret that could fit.
        named = _settings.fullmatch(settings.strip())
        secret = self._shared_keys.get(named[1]) if named else None
        return [] if secret is None else [(secret, "sha256")]


def _with_and_without_port(address: str) -> Iterator[str]:
    """The address as it stands, and with its default port named or left out: Twilio has done either."""
    yield address
    parts = _split(address)
    if parts is None:
        return
    host, port, default = parts.hostname or "", parts.port, _PORTS.get(parts.scheme)
    if ":" in host:
        host = f"[{host}]"
    if port is None and default is not None:
        yield urlunsplit(parts._replace(netloc=f"{host}:{default}"))
    elif port == default:
        yield urlunsplit(parts._replace(netloc=host))


def _split(address: str) -> SplitResult | None:
    """None for what is no address: a `Host` header can say anything."""
    try:
        parts = urlsplit(address)
        return parts if parts.port != 0 else None
    except ValueError:
        return None
