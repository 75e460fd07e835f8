"""What may stand in a token, for whoever makes one and whoever verifies it."""

from __future__ import annotations

import re
from typing import Final

from sessionmanager.model.roles import ALL_TENANTS

SECRET_BYTES_MIN: Final = 32
TOKEN_LIFE_SECONDS_MAX: Final = 366 * 86_400
"""No verifier takes a token that lives longer, whoever made it; revocations are kept this long."""
TENANT_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TEXT_MAX: Final = 255
_KNOWN_SECRETS: Final = re.compile(
    "changeme|changethis|changeit|replaceme|yoursecretkeyhere|yoursecretkey|yoursecret|your256bitsecret"
    "|astringsecretatleast256bitslong|supersecret|secretkey|jwtsecret|password|default"
)
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_secret(secret: bytes, bytes_min: int = SECRET_BYTES_MIN) -> None:
    """Refuse an HMAC secret that is short or known to everybody. Raises ValueError, which never holds the secret.

    Source: RFC 7518 section 3.2 (at least as long as the digest); RFC 8725 section 3.5.
    """
    if len(secret) < bytes_min:
        raise ValueError(f"a token secret of {len(secret)} bytes is too short; at least {bytes_min} are needed")
    plain = re.sub("[^a-z0-9]", "", secret.decode("latin-1").lower())
    rest, found = _KNOWN_SECRETS.subn("", plain)
    if found and len(rest) < 16:
        raise ValueError("the token secret is a well-known placeholder; make one with `openssl rand -hex 32`")


def is_text(value: object) -> bool:
    """Whether this may be a subject, session, participant or token id: 1–255 characters, none of them a control."""
    return isinstance(value, str) and 0 < len(value) <= TEXT_MAX and not _UNSAFE.search(value)


def is_tenant(value: object) -> bool:
    """Whether this may be a token's tenant: 1–64 of letters, digits, `.`, `_`, `-`, or `*` for all tenants."""
    return isinstance(value, str) and (value == ALL_TENANTS or TENANT_PATTERN.fullmatch(value) is not None)
