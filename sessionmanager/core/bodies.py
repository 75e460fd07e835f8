"""Reads and writes of immutable bodies, wherever they lie: packed in warm, packed and encrypted in cold.

Whatever is read is checked against its reference before anybody sees it. Bodies never change, so the few that were read
last are kept, decoded, in a bounded cache of the process.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Final, NamedTuple

from msgspec.structs import replace

from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.sealing import open_body, pack, seal_body, unpack
from sessionmanager.errors import Contended, DataCorrupt, Erased, NotFound, OutcomeUnknown, RevConflict
from sessionmanager.model.codec import sha256, split_lines
from sessionmanager.model.head import KeyRing, Ref
from sessionmanager.model.index import Body, decode_node, find_in
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.warm.protocol import WarmBodies
from sessionmanager.words import Key

PUTS_MAX: Final = 3
INLINE_BYTES_MAX: Final = 512 * 1024
"""Up to here a body is compressed on the event loop (under a millisecond); larger ones in a thread."""


class Put(NamedTuple):
    """What lies in cold after a put that was read back: what a pointer needs."""

    object: str
    stored_sha256: str
    stored_bytes: int
    key_id: str

    def named_in(self, ref: Ref) -> Ref:
        """The pointer, which names this copy."""
        return replace(
            ref,
            object=self.object,
            stored_sha256=self.stored_sha256,
            stored_bytes=self.stored_bytes,
            key_id=self.key_id,
        )


def session_prefix(key: Key) -> str:
    """The folder of everything that cold holds of one session. Names say nothing: hashes, tenant first."""
    tenant = hashlib.blake2b(key.tenant.encode(), digest_size=16).hexdigest()
    session = hashlib.blake2b(key.text.encode(), digest_size=20).hexdigest()
    return f"t/{tenant}/s/{session}/"


class Bodies:
    """One a process; shares the tiers with the ledger."""

    def __init__(self, warm: WarmBodies, cold: Cold, keys: SessionKeys, *, cache_bytes_max: int) -> None:
        self.warm = warm
        self.cold = cold
        self._keys = keys
        self._cache: OrderedDict[tuple[Key, str], bytes] = OrderedDict()
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes_max

    async def read(self, key: Key, ring: KeyRing, ref: Ref) -> bytes:
        """The canonical bytes of a body. Raises NotFound (nothing lies there: reload the head), DataCorrupt,
        TierUnavailable. Cost: one read of warm or of cold, or none."""
        # By content, not by id: a node that moves to cold keeps its id, and its references then point elsewhere.
        name = (key, ref.sha256)
        cached = self._cache.get(name)
        if cached is not None:
            self._cache.move_to_end(name)
            return cached
        if ref.object is None:
            data = unpack(await self.warm.get_body(key, ref.id), max_bytes=ref.bytes)
        else:
            stored = await self.cold.get(ref.object)
            if len(stored) != ref.stored_bytes or sha256(stored) != ref.stored_sha256:
                raise DataCorrupt(f"the object {ref.object} does not match its pointer")
            session_key = await self._keys.unwrap(key, ring, ref.key_id or "")
            data = open_body(session_key, ref.object, stored, max_bytes=ref.bytes)
        if len(data) != ref.bytes or sha256(data) != ref.sha256:
            raise DataCorrupt("a body does not match its reference")
        self._remember(name, data)
        return data

    def _remember(self, name: tuple[Key, str], data: bytes) -> None:
        if len(data) > self._cache_bytes_max // 8:
            return
        self._cache[name] = data
        self._cache_bytes += len(data)
        while self._cache_bytes > self._cache_bytes_max:
            _, old = self._cache.popitem(last=False)
            self._cache_bytes -= len(old)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of an erased session."""
        for name in [name for name in self._cache if name[0] == key]:
            self._cache_bytes -= len(self._cache.pop(name))

    async def segment_of(self, key: Key, ring: KeyRing, ref: Ref, seq: int) -> tuple[Ref, list[bytes]]:
        """The segment under `ref` that holds `seq`, and its lines. Cost: one body a level of the index."""
        while ref.level > 0:
            child = find_in(decode_node(await self.read(key, ring, ref)), seq)
            if child is None:
                raise DataCorrupt("a node of the index does not hold its range")
            ref = child
        lines = split_lines(await self.read(key, ring, ref))
        if len(lines) != ref.count:
            raise DataCorrupt("a segment does not hold its range")
        return ref, lines

    async def put_warm(self, key: Key, body: Body) -> None:
        """Keep a new body in warm. Its id was never used before, so an unknown outcome is simply sent again.

        Raises Erased: the session was erased since its head was read, and nothing of it may come back.
        """
        data = pack(body.canonical)
        for i in range(PUTS_MAX):
            try:
                await self.warm.put_body(key, body.ref.id, data)
                return
            except RevConflict as error:
                raise Erased from error
            except OutcomeUnknown:
                if i == PUTS_MAX - 1:
                    raise

    async def put_cold(self, key: Key, ring: KeyRing, name: str, canonical: bytes) -> Put:
        """Encrypt, put once, read back and compare; only then may a pointer be written. Cost: one write, one read."""
        assert ring.current is not None, "a session without a key"
        session_key = await self._keys.unwrap(key, ring, ring.current)
        if len(canonical) > INLINE_BYTES_MAX:
            data = await asyncio.to_thread(seal_body, session_key, name, canonical)
        else:
            data = seal_body(session_key, name, canonical)
        await self.put_object(name, data)
        return Put(name, sha256(data), len(data), ring.current)

    async def put_object(self, name: str, data: bytes) -> None:
        for i in range(PUTS_MAX):
            try:
                await self.cold.put_once(name, data)
                break
            except OutcomeUnknown:
                if i == PUTS_MAX - 1:
                    raise
        try:
            same = await self.cold.get(name) == data
        except NotFound as error:
            raise Contended from error  # an erasure, or who collects what nobody needs, was there in between
        if not same:
            raise DataCorrupt("an object read back is not what was put")
