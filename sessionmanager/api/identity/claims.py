"""What a token's text says, read so strictly that no two readers could read it differently; nothing is believed here.

PyJWT is lax about how a token is encoded, about doubled members, and about what counts as a number.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, Literal, cast

from sessionmanager.core.tokens.rules import is_tenant, is_text
from sessionmanager.errors import Unauthenticated
from sessionmanager.model.roles import ALL_TENANTS, Actor
from sessionmanager.words import ROLES, Role

AUDIENCES_MAX: Final = 16
BRACKETS_MAX: Final = 64
"""Arrays and objects in a header or payload, also within its strings: bounds the depth before the parser recurses."""
INSTANT_MAX: Final = 253_402_300_799
"""The end of year 9999, in seconds since 1970."""
_SEGMENT: Final = re.compile("[A-Za-z0-9_-]+")

Reason = Literal[
    "header", "size", "shape", "base64", "json", "algorithm", "type", "critical", "key-reference", "key-id",
    "unknown-key", "signature", "time", "expired", "early", "lifetime", "issuer", "audience", "subject", "tenant",
    "roles", "binding", "revoked", "api-key",
]  # fmt: skip
"""Why a token was refused: a label of a metric, never part of an answer."""


class Refused(Unauthenticated):
    """A token that is not taken. Its text is the same for all; `reason` is for a metric."""

    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self.reason: Reason = reason


def decoded(segment: str) -> bytes:
    """Base64url without padding, in the one form that encodes these bytes (RFC 7515 section 2)."""
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise Refused("base64")
    data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(data).rstrip(b"=") != segment.encode():
        raise Refused("base64")  # bits that belong to no byte: the same token could be written in many ways
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a doubled member")
    return made


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_json_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse_constant).decode


def strict_object(data: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8 without a byte order mark, no doubled members, no NaN. A number over float's range is inf."""
    if data.count(b"[") + data.count(b"{") > BRACKETS_MAX:
        raise Refused("json")
    try:
        value = _json_decode(data.decode("utf-8"))
    except ValueError:
        raise Refused("json") from None
    if not isinstance(value, dict):
        raise Refused("json")
    return cast("dict[str, Any]", value)


def instant(value: object) -> float:
    """A NumericDate: a JSON number within the calendar. The type is asked for exactly: `bool` is an int in Python."""
    if type(value) not in (int, float):
        raise Refused("time")
    number = cast("float", value)
    if not 0 <= number <= INSTANT_MAX:
        raise Refused("time")
    return float(number)


def is_for(audience: object, ours: str) -> bool:
    if isinstance(audience, list):
        names = cast("list[object]", audience)
        return len(names) <= AUDIENCES_MAX and all(isinstance(name, str) for name in names) and ours in names
    return isinstance(audience, str) and audience == ours


def actor_of(claims: dict[str, Any], issued_at: float, expires_at: float) -> Actor:
    subject, tenant = claims.get("sub"), claims.get("tenant")
    if not is_text(subject):
        raise Refused("subject")
    if not is_tenant(tenant):
        raise Refused("tenant")
    roles = _roles(claims.get("roles"))
    if any(name in claims and not is_text(claims[name]) for name in ("sid", "pid", "jti")):
        raise Refused("binding")
    sid, pid, jti = claims.get("sid"), claims.get("pid"), claims.get("jti")
    if tenant == ALL_TENANTS and (sid is not None or "admin" not in roles):
        raise Refused("tenant")
    if pid is not None and sid is None:
        raise Refused("binding")
    epoch = claims.get("epoch", 0)
    if type(epoch) is not int or epoch < 0 or (epoch and pid is None):
        raise Refused("binding")
    return Actor(
        tenant=cast("str", tenant),
        subject=cast("str", subject),
        roles=roles,
        sid=sid,
        pid=pid,
        epoch=epoch,
        jti=jti,
        expires_at=expires_at,
        issued_at=issued_at,
    )


def _roles(value: object) -> frozenset[Role]:
    names = cast("list[object]", value) if isinstance(value, list) else []
    if not 0 < len(names) <= len(ROLES) or any(not isinstance(name, str) or name not in ROLES for name in names):
        raise Refused("roles")
    return frozenset(cast("list[Role]", names))
