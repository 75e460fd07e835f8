"""Preconditions and idempotency: headers → values. Sources: RFC 9110 section 13, the Idempotency-Key draft.

The entity tag of a session is `"v<version>"`; versions fit a double (< 2**53), so that no client can round one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, NoReturn

from sessionmanager.errors import FieldError, Malformed
from sessionmanager.words import H_IDEMPOTENCY_KEY, H_MIN_VERSION, INTEGER_MAX

TAGS_MAX: Final = 64
HEADER_CHARS_MAX: Final = 4096
KEY_CHARS_MAX: Final = 255

Versions = frozenset[int] | Literal["*"]
"""The versions that a precondition names, or any."""

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (RFC 9110 section 8.8.3)
_tag = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|$)')
_ours = re.compile(r"v(0|[1-9][0-9]*)")
_digits = re.compile(r"[0-9]{1,20}")
_visible = re.compile(r"[\x21-\x7e]{1,255}")
_quoted = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


def etag(version: int) -> bytes:
    """The value of `ETag`: covers a session's state, not its placement."""
    return b'"v%d"' % version


def if_match(value: str | None) -> Versions | None:
    """`If-Match`; None = not sent. A tag that is none of ours matches nothing. Raises Malformed, also for weak tags,
    which a strong comparison can never match (RFC 9110 section 13.1.1)."""
    return _versions("If-Match", value, weak=False)


def if_none_match(value: str | None) -> Versions | None:
    """`If-None-Match`; None = not sent. Weak tags count (section 13.1.2). Raises Malformed."""
    return _versions("If-None-Match", value, weak=True)


def matches(versions: Versions, version: int) -> bool:
    return versions == "*" or version in versions


def _versions(header: str, value: str | None, *, weak: bool) -> Versions | None:
    if value is None:
        return None
    text = value.strip(" \t")
    if text == "*":
        return "*"
    if not text or len(text) > HEADER_CHARS_MAX:
        _refuse(header, 'entity tags such as "v7", quotes and all, or *')
    found: set[int] = set()
    at = tags = 0
    while at < len(text):
        match = _tag.match(text, at)
        if match is None or tags >= TAGS_MAX:
            _refuse(header, f'at most {TAGS_MAX} entity tags such as "v7", quotes and all, or *')
        at = match.end()
        if match[2] is None:
            continue  # an empty list element (RFC 9110 section 5.6.1)
        tags += 1
        if match[1] and not weak:
            _refuse(header, "a weak tag never matches here")
        ours = _ours.fullmatch(match[2])
        if ours:
            found.add(_bounded(header, ours[1]))
    if not tags:
        _refuse(header, 'entity tags such as "v7", quotes and all, or *')
    return frozenset(found)


def min_version(value: str | None) -> int | None:
    """`Min-Version`; None = not sent. Raises Malformed."""
    if value is None:
        return None
    text = value.strip(" \t")
    if not _digits.fullmatch(text):
        _refuse(H_MIN_VERSION, f"an integer from 0 to {INTEGER_MAX}")
    return _bounded(H_MIN_VERSION, text)


def idempotency_key(value: str | None) -> str | None:
    """`Idempotency-Key`: 1–255 visible ASCII, bare or as the quoted string of the draft (both are the same key).

    None = not sent. Raises Malformed.
    """
    if value is None:
        return None
    text = value.strip(" \t")
    quoted = _quoted.fullmatch(text)
    if quoted:
        text = quoted[1].replace('\\"', '"').replace("\\\\", "\\")
    if not _visible.fullmatch(text):
        _refuse(H_IDEMPOTENCY_KEY, f"1 to {KEY_CHARS_MAX} visible ASCII characters")
    return text


def body_hash(method: str, path: str, body: bytes) -> bytes:
    """What was asked, in 32 bytes: the same for a repeat and for nothing else. Each part carries its length."""
    hasher = hashlib.sha256(b"%b %d %b\n" % (method.encode(), len(path), path.encode("utf-8", "surrogateescape")))
    hasher.update(body)
    return hasher.digest()


def _bounded(header: str, digits: str) -> int:
    if len(digits) > 16 or (number := int(digits)) > INTEGER_MAX:
        _refuse(header, f"a version is at most {INTEGER_MAX}")
    return number


def _refuse(header: str, expected: str) -> NoReturn:
    raise Malformed(f"{header}: {expected}", [FieldError(f"header/{header}", expected)])
