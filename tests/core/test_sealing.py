"""Sealed and packed bodies: what opens, and every way in which one does not."""

from __future__ import annotations

import os

import pytest

from sessionmanager.core.keys import sealing
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.sealing import SessionKey, open_body, pack, seal_body, unpack
from sessionmanager.errors import DataCorrupt
from sessionmanager.model.codec import sha256
from sessionmanager.words import Key
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

BODY = b'{"seq":1,"content":"hello"}\n' * 50


async def session_key(session: str = "call-1") -> SessionKey:
    service = SessionKeys(MasterKeys(bytes(range(32))), DictRecords())  # type: ignore[arg-type]
    key = Key("acme", session)
    ring = await service.create(key)
    assert ring.current is not None
    return await service.unwrap(key, ring, ring.current)


@pytest.mark.parametrize("body", [b"", b"x", BODY, os.urandom(300_000), b"\0" * 17_000_000], ids=len)
async def test_a_sealed_body_comes_back_as_it_was(body: bytes) -> None:
    key = await session_key()
    sealed = seal_body(key, "t/a/s/b/1", body)
    assert open_body(key, "t/a/s/b/1", sealed, max_bytes=len(body), sha256=sha256(body)) == body
    assert unpack(pack(body), max_bytes=len(body), sha256=sha256(body)) == body
    assert seal_body(key, "t/a/s/b/1", body) != sealed


async def test_a_sealed_body_is_small_and_tells_nothing() -> None:
    key = await session_key()
    sealed = seal_body(key, "o", BODY)
    assert len(sealed) < len(BODY) / 5
    assert b"hello" not in sealed
    assert sealed[:2] == bytes([1, len(key.id)])
    assert sealed[2:].startswith(key.id.encode())


async def test_a_sealed_body_opens_under_its_own_name_and_key_alone() -> None:
    key, other = await session_key(), await session_key("call-2")
    sealed = seal_body(key, "a/1", BODY)
    for opener, name in ((key, "a/2"), (key, "a/1 "), (key, ""), (other, "a/1")):
        with pytest.raises(DataCorrupt):
            open_body(opener, name, sealed, max_bytes=len(BODY))
    impostor = SessionKey(key.id, other.packed()[:32], key.owner)
    moved = SessionKey(key.id, key.packed()[:32], other.owner)
    for opener in (impostor, moved):
        with pytest.raises(DataCorrupt):
            open_body(opener, "a/1", sealed, max_bytes=len(BODY))


async def test_every_changed_bit_and_every_cut_of_a_sealed_body_is_seen() -> None:
    key = await session_key()
    sealed = seal_body(key, "o", b"hello")
    broken = [
        sealed[:i] + bytes([sealed[i] ^ (1 << bit)]) + sealed[i + 1 :] for i in range(len(sealed)) for bit in (0, 7)
    ]
    for data in (*broken, *(sealed[:i] for i in range(len(sealed))), sealed + b"\0", sealed + sealed):
        with pytest.raises(DataCorrupt):
            open_body(key, "o", data, max_bytes=5)


def test_every_changed_bit_and_every_cut_of_a_packed_body_is_seen_or_harmless() -> None:
    packed = pack(BODY)
    broken = [
        packed[:i] + bytes([packed[i] ^ (1 << bit)]) + packed[i + 1 :] for i in range(len(packed)) for bit in range(8)
    ]
    for data in broken:
        try:
            assert unpack(data, max_bytes=len(BODY)) == BODY  # a bit of the header that says nothing
        except DataCorrupt:
            continue
    for data in (*(packed[:i] for i in range(len(packed))), packed + b"\0", packed + packed[1:]):
        with pytest.raises(DataCorrupt):
            unpack(data, max_bytes=len(BODY))


@pytest.mark.parametrize("max_bytes", [0, 1, len(BODY) - 1])
async def test_nothing_is_unpacked_beyond_what_its_pointer_says(max_bytes: int) -> None:
    key = await session_key()
    with pytest.raises(DataCorrupt):
        open_body(key, "o", seal_body(key, "o", BODY), max_bytes=max_bytes)
    with pytest.raises(DataCorrupt):
        unpack(pack(BODY), max_bytes=max_bytes)


def test_a_bomb_a_frame_without_its_length_and_one_that_lies_are_refused() -> None:
    zstd = sealing.zstd
    level = zstd.CompressionParameter.compression_level
    bomb = zstd.compress(bytes(50_000_000), 19)
    nameless = zstd.compress(BODY, options={zstd.CompressionParameter.content_size_flag: 0})
    streamed = zstd.ZstdCompressor(options={level: 3})
    open_ended = streamed.compress(BODY) + streamed.flush()
    wide = zstd.compress(os.urandom(9_000_000), options={zstd.CompressionParameter.window_log: 27, level: 1})
    short = zstd.compress(b"a" * 10) + zstd.compress(b"b" * 10)
    for frame, limit in ((bomb, 1000), (nameless, 9999), (open_ended, 9999), (short, 20), (b"", 0), (b"hello", 9)):
        with pytest.raises(DataCorrupt):
            unpack(b"\x01" + frame, max_bytes=limit)
    with pytest.raises(DataCorrupt):
        unpack(b"\x01" + wide, max_bytes=9_000_000)
    with pytest.raises(DataCorrupt):
        unpack(b"\x02" + pack(BODY)[1:], max_bytes=len(BODY))


async def test_a_body_with_another_checksum_is_corrupt() -> None:
    key = await session_key()
    with pytest.raises(DataCorrupt, match="checksum"):
        open_body(key, "o", seal_body(key, "o", BODY), max_bytes=len(BODY), sha256=sha256(b"other"))
    with pytest.raises(DataCorrupt, match="checksum"):
        unpack(pack(BODY), max_bytes=len(BODY), sha256=sha256(b"other"))
