"""Bodies of requests, read with a bound and a deadline: nothing is held or waited for beyond what is named here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from starlette.types import Receive

from sessionmanager.errors import FieldError, Malformed, TooLarge, UnsupportedMediaType
from sessionmanager.waits.deadline import Late, in_time

JSON_MEDIA: Final = ("application/json",)
ANY_MEDIA: Final = "*/*"
_media = re.compile(rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*((?:;.*)?)", re.DOTALL)
_charset = re.compile(rb";[ \t]*charset[ \t]*=[ \t]*(\"[^\"]*\"|[^; \t]*)", re.IGNORECASE)


class ClientGone(Exception):
    """The caller has hung up; nobody waits for an answer."""


class Pace(Struct, frozen=True, kw_only=True):
    """How slowly a body may come: `grace_seconds`, and then at least `bytes_per_second` on average."""

    grace_seconds: float = 15.0
    bytes_per_second: float = 16 * 1024.0


DEFAULT_PACE: Final = Pace()


def check_media(headers: Mapping[bytes, bytes], accepted: Sequence[str] = JSON_MEDIA) -> str:
    """The media type of the body, in lower case and without parameters; as it was sent where any is taken.

    Raises UnsupportedMediaType, which lists what is accepted: also for a compressed body (a small one may unfold into a
    huge one) and for any charset but UTF-8.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise UnsupportedMediaType("a body must not be compressed: send it without Content-Encoding")
    value = headers.get(b"content-type", b"")
    if value == b"application/json" and "application/json" in accepted:
        return "application/json"
    if ANY_MEDIA in accepted:
        return value.decode("latin-1")
    match = _media.fullmatch(value)
    media = match[1].decode().lower() if match else ""
    if media not in accepted:
        raise UnsupportedMediaType(f"Content-Type must be one of: {', '.join(accepted)}")
    charsets = _charset.findall(match[2]) if match else []
    if media.endswith("json") and any(one.strip(b'"').lower() not in (b"utf-8", b"utf8") for one in charsets):
        raise UnsupportedMediaType("JSON is UTF-8: leave charset out, or say utf-8")
    return media


def content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """The length that was announced; None = not known. Raises Malformed."""
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 19:
        raise Malformed("Content-Length is not a length", [FieldError("header/Content-Length", "an integer")])
    return int(value)


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], bytes_max: int, pace: Pace = DEFAULT_PACE
) -> bytes:
    """The whole body, which may be empty.

    Raises: TooLarge before it is read in full: by its announced length at once, else by count. Malformed when it comes
    more slowly than `pace` or ends early. ClientGone.
    Cost: no timer is set while the bytes are already there.
    """
    length = content_length(headers)
    if length is not None and length > bytes_max:
        raise TooLarge(bytes_max)
    if length == 0 or (length is None and b"transfer-encoding" not in headers):
        return b""
    now = asyncio.get_running_loop().time
    until = now() + pace.grace_seconds
    chunks: list[bytes] = []
    received = 0
    more = True
    try:
        while more:
            message = await in_time(until + received / pace.bytes_per_second - now(), receive())
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            received += len(chunk)
            if received > bytes_max:
                raise TooLarge(bytes_max)
            chunks.append(chunk)
    except Late:
        raise Malformed("the body came too slowly") from None
    if length is not None and received != length:
        raise Malformed("the body is not as long as Content-Length says")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
