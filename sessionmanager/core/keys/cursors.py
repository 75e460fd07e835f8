"""Cursors: where a page ended, signed, so that a list can trust what comes back and nobody else can make one."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hmac import compare_digest
from typing import Any, Final

import msgspec

from sessionmanager.core.keys.sealing import bind
from sessionmanager.errors import FieldError, Malformed

CURSOR_CHARS_MAX: Final = 4096
_MAC_BYTES: Final = 16
_json_encode = msgspec.json.Encoder().encode


class CursorCodec:
    """Where a page ended, as text that only this service can make and that fits only the list it came from."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "CursorCodec(***)"

    def encode(self, payload: Sequence[Any] | Mapping[str, Any], *, context: bytes) -> str:
        """context: whose list and which filter (tenant first); not in the text, but the text holds for it alone."""
        body = _json_encode(payload)
        text = urlsafe_b64encode(self._mac(body, context) + body).rstrip(b"=").decode()
        assert len(text) <= CURSOR_CHARS_MAX, "a cursor that its own reader would refuse"
        return text

    def decode(self, text: str, *, context: bytes) -> Any:
        """The payload, as JSON has it (a tuple comes back as a list). Raises Malformed for anything else, all alike."""
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= CURSOR_CHARS_MAX else b""
        except ValueError:
            data = b""
        body = data[_MAC_BYTES:]
        canonical = urlsafe_b64encode(data).rstrip(b"=") == text.encode("utf-8", "surrogatepass")
        if not canonical or not compare_digest(data[:_MAC_BYTES], self._mac(body, context)):
            detail = "not a cursor of this list: use `next_cursor` of the page before, with the same filters"
            raise Malformed("the cursor does not belong to this list", [FieldError("query/cursor", detail)])
        return msgspec.json.decode(body)

    def _mac(self, body: bytes, context: bytes) -> bytes:
        return hashlib.blake2b(bind("cursor", context, body), key=self._key, digest_size=_MAC_BYTES).digest()
