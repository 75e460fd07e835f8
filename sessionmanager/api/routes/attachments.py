"""Attachments: whole objects beside a session."""

from __future__ import annotations

from base64 import b64encode
from time import perf_counter

from sessionmanager.api.context import Api, receipt_reply, request_key, session_key, tier_headers, who
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import RawHeaders, Reply
from sessionmanager.errors import FieldError, Malformed

CONTENT_TYPE_CHARS_MAX = 255


class AttachmentRoutes:
    """Handlers; each answers as the HTTP reference says."""

    def __init__(self, api: Api) -> None:
        self._attachments = api.core.attachments

    async def put(self, ex: Exchange) -> Reply:
        media, data = content_type(ex), await ex.body()
        written = await self._attachments.put(
            session_key(ex), ex.params["name"], data, media, who(ex), await request_key(ex)
        )
        return receipt_reply(written, 201)

    async def get(self, ex: Exchange) -> Reply:
        began = perf_counter()
        found, data = await self._attachments.get(session_key(ex), ex.params["name"])
        headers: RawHeaders = [
            *bytes_headers(found.content_type),
            (b"etag", f'"{found.sha256}"'.encode()),
            (b"repr-digest", f"sha-256=:{_base64(found.sha256)}:".encode()),
            *tier_headers("cold", began),
        ]
        return Reply(200, data, headers)

    async def delete(self, ex: Exchange) -> Reply:
        written = await self._attachments.remove(session_key(ex), ex.params["name"], who(ex), await request_key(ex))
        return receipt_reply(written)


def content_type(ex: Exchange) -> str:
    """What the caller says its bytes are. Raises Malformed."""
    media = ex.header("Content-Type") or "application/octet-stream"
    if len(media) > CONTENT_TYPE_CHARS_MAX or not media.isprintable():
        raise Malformed("Content-Type", [FieldError("header/Content-Type", "at most 255 printable characters")])
    return media


def bytes_headers(media: str) -> RawHeaders:
    """Of bytes that somebody else has brought: no browser runs them."""
    return [
        (b"content-type", media.encode("ascii", "replace")),
        (b"content-disposition", b"attachment"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
    ]


def _base64(hexadecimal: str) -> str:
    """A digest as RFC 9530 writes it."""
    return b64encode(bytes.fromhex(hexadecimal)).decode()
