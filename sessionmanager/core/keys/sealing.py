"""What one session's key seals: bodies on their way to cold, compressed and then encrypted; and how keys are wrapped.

Every ciphertext is bound to its purpose, its owner and its name, so that none can be moved to another place. The first
byte of everything stored is its format.
"""

from __future__ import annotations

import hashlib
import os
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sessionmanager.core.keys.files import KEY_BYTES
from sessionmanager.errors import DataCorrupt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OWNER_BYTES: Final = 16
ZSTD_LEVEL: Final = 3
WINDOW_LOG_MAX: Final = 23
"""Frames that ask for more than 8 MiB of window are refused; level 3 asks for 2."""
_FORMAT: Final = 1
_NONCE_BYTES: Final = 12
_OPTIONS: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
    zstd.CompressionParameter.checksum_flag: 1,
    zstd.CompressionParameter.content_size_flag: 1,
}


class SessionKey:
    """What one session's bodies are sealed with. `owner` says where it was born; a fork keeps its parent's."""

    __slots__ = ("_secret", "aead", "id", "owner")

    def __init__(self, key_id: str, secret: bytes, owner: bytes) -> None:
        assert len(secret) == KEY_BYTES
        assert len(owner) == OWNER_BYTES
        self.id = key_id
        self.owner = owner
        self.aead = AESGCM(secret)
        self._secret = secret

    def __repr__(self) -> str:
        return f"SessionKey({self.id}, ***)"

    def packed(self) -> bytes:
        """What is wrapped: the secret and its owner."""
        return self._secret + self.owner


def seal_body(key: SessionKey, name: str, canonical: bytes) -> bytes:
    """Compress, then encrypt: what lies in cold under `name`. Never the same bytes twice.

    Frame: format (1), length of the key's id, the id, nonce (12 bytes), AES-256-GCM of one zstd frame.
    """
    head = _body_head(key)
    nonce = os.urandom(_NONCE_BYTES)
    packed = zstd.compress(canonical, options=_OPTIONS)
    return head + nonce + key.aead.encrypt(nonce, packed, bind("body", head, key.owner, name))


def open_body(key: SessionKey, name: str, data: bytes, *, max_bytes: int, sha256: str | None = None) -> bytes:
    """The canonical bytes of what was sealed by this key under this name; at most `max_bytes` are ever unpacked.

    sha256: hex, of the canonical bytes. Raises DataCorrupt: another key, name, owner or format, or a changed bit.
    """
    head = _body_head(key)
    start = len(head) + _NONCE_BYTES
    if not data.startswith(head) or len(data) < start:
        raise DataCorrupt("a sealed body has another format or another key")
    try:
        packed = key.aead.decrypt(data[len(head) : start], data[start:], bind("body", head, key.owner, name))
    except InvalidTag:
        raise DataCorrupt("a sealed body was changed or moved") from None
    return _checked(_decompress(packed, max_bytes), sha256)


def pack(canonical: bytes) -> bytes:
    """The form in which warm keeps bodies: format (1), one zstd frame with its length and checksum."""
    return bytes([_FORMAT]) + zstd.compress(canonical, options=_OPTIONS)


def unpack(data: bytes, *, max_bytes: int, sha256: str | None = None) -> bytes:
    """What was packed; at most `max_bytes` are ever unpacked. Raises DataCorrupt."""
    if data[:1] != bytes([_FORMAT]):
        raise DataCorrupt("a packed body has a format that is not known here")
    return _checked(_decompress(data[1:], max_bytes), sha256)


def _body_head(key: SessionKey) -> bytes:
    key_id = key.id.encode()
    return bytes([_FORMAT, len(key_id)]) + key_id


def _decompress(data: bytes, max_bytes: int) -> bytes:
    try:
        # The stubs know no frame without a length; there are such.
        size = cast("int | None", zstd.get_frame_info(data).decompressed_size)
        if size is None or size > max_bytes:
            raise DataCorrupt("a compressed body is longer than its pointer says, or does not say how long it is")
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX})
        # One byte more than there may be, so that a frame that holds more is seen and the checksum is read.
        plain = decompressor.decompress(data, size + 1)
    except zstd.ZstdError:
        raise DataCorrupt("a compressed body does not unpack") from None
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise DataCorrupt("a compressed body is cut off or has something after it")
    return plain


def _checked(plain: bytes, sha256: str | None) -> bytes:
    if sha256 is not None and hashlib.sha256(plain).hexdigest() != sha256:
        raise DataCorrupt("a body does not match its checksum")
    return plain


# -- wraps


def bind(*parts: str | bytes) -> bytes:
    """Additional data of a ciphertext: each part after its length, so that no two lists of parts look alike."""
    raw = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join([len(part).to_bytes(4, "big") + part for part in raw])


def wrap(aead: AESGCM, kek_id: str, aad: bytes, secret: bytes) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return f"{_FORMAT}.{kek_id}.{urlsafe_b64encode(nonce + aead.encrypt(nonce, secret, aad)).decode()}"


def kek_id_of(wrapped: str) -> str:
    """The id of the key that opens this. Raises DataCorrupt."""
    parts = wrapped.split(".")
    if len(parts) != 3 or parts[0] != str(_FORMAT):
        raise DataCorrupt("a wrapped key has a format that is not known here")
    return parts[1]


def unwrap(aead: AESGCM, kek_id: str, aad: bytes, wrapped: str) -> bytes:
    assert kek_id_of(wrapped) == kek_id, "the wrong key for this wrap"
    try:
        data = urlsafe_b64decode(wrapped.rpartition(".")[2])
        return aead.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise DataCorrupt("a wrapped key was changed or moved") from None
