"""Tokens made by hand, right or wrong in one chosen place; nothing here uses the code that is tested."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

NOW = 1_795_000_000.0
SECRET = b"kZ3vQ9-this-one-is-for-tests-alone-7Hq2"
ISSUER = "https://id.example.com/"
AUDIENCE = "sessionmanager"

Sign = Callable[[bytes], bytes]


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def hs(secret: bytes = SECRET, digest: str = "sha256") -> Sign:
    return lambda signed: hmac.new(secret, signed, digest).digest()


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; `...` takes a claim away."""
    good: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "tenant": "acme",
        "roles": ["agent"],
        "iat": NOW - 60,
        "exp": NOW + 600,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def as_bytes(value: Any) -> bytes:
    """JSON as Python writes it (NaN and Infinity too); bytes stay as they are."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def token(
    payload: Any = None, header: Any = None, sign: Sign | None = None, *, mend: Callable[[str], str] | None = None
) -> str:
    """Header and payload are objects or raw bytes; `mend` changes the text `header.payload` before it is signed."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    body = claims() if payload is None else payload
    signed = f"{encode(as_bytes(head))}.{encode(as_bytes(body))}"
    if mend is not None:
        signed = mend(signed)
    return f"{signed}.{encode((sign or hs())(signed.encode('utf-8', 'surrogatepass')))}"


def head(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def with_text(payload: Mapping[str, Any], name: str, text: str) -> bytes:
    """The payload with one member's JSON text put in as it stands (`1e400`, a number of 5,000 digits)."""
    rest = {key: value for key, value in payload.items() if key != name}
    return json.dumps(rest)[:-1].encode() + f", {json.dumps(name)}: {text}}}".encode()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
