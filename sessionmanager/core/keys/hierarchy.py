"""The keys: master key → tenant key → session key.

The master key is a file. A tenant's key is a record in warm, wrapped by it; a session's key is in the head, wrapped by
its tenant's, and goes with the tombstone: what it sealed is noise from then on, wherever copies lie (crypto-shredding,
reliability.md Corr. 8). Every wrap names the key that opens it. Wrapped keys are never sent to hot.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sessionmanager.core.keys.files import KEY_BYTES
from sessionmanager.core.keys.sealing import OWNER_BYTES, SessionKey, bind, kek_id_of, unwrap, wrap
from sessionmanager.core.records import RecordForm
from sessionmanager.errors import DataCorrupt, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.head import KeyRing
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import WarmRecords
from sessionmanager.words import Key

TENANT_KEYS_MAX: Final = 1024
TENANT_KEY: Final = "tenant-key"
MASTER_KEY: Final = "master-key"
_TRIES: Final = 4
_form = RecordForm(KeyRing, "a tenant's stored key")

Purpose = Literal["kek", "cursor", "derived-id", "hot-mac", "api-key", "id"]


class MasterKey:
    """The root of all keys, and the keys for other purposes that come from it (HKDF-SHA256, RFC 5869)."""

    __slots__ = ("_aead", "_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._key = key
        self._aead = AESGCM(self.derive("kek"))
        self.id = "m" + self.derive("id")[:8].hex()

    def __repr__(self) -> str:
        return f"MasterKey({self.id}, ***)"

    def derive(self, purpose: Purpose) -> bytes:
        """32 bytes for one purpose, the same each time; none tells anything about another or about the key."""
        return HKDF(
            algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"sessionmanager:1:{purpose}".encode()
        ).derive(self._key)

    @property
    def cursor_key(self) -> bytes:
        return self.derive("cursor")

    @property
    def derived_id_key(self) -> bytes:
        return self.derive("derived-id")

    @property
    def hot_mac_key(self) -> bytes:
        return self.derive("hot-mac")

    @property
    def api_key_key(self) -> bytes:
        return self.derive("api-key")

    def wrap(self, aad: bytes, secret: bytes) -> str:
        return wrap(self._aead, self.id, aad, secret)

    def unwrap(self, aad: bytes, wrapped: str) -> bytes:
        return unwrap(self._aead, self.id, aad, wrapped)


class TenantKeys:
    """A tenant's keys in the clear, one of them in use."""

    __slots__ = ("_aeads", "current", "tenant")

    def __init__(self, tenant: str, current: str, secrets: Mapping[str, bytes]) -> None:
        self.tenant = tenant
        self.current = current
        self._aeads = {key_id: AESGCM(secret) for key_id, secret in secrets.items()}

    def __repr__(self) -> str:
        return f"TenantKeys({self.current}, ***)"

    def wrap(self, key: Key, session_key: SessionKey) -> str:
        aad = bind("session-key", self.current, key.tenant, key.id, session_key.id)
        return wrap(self._aeads[self.current], self.current, aad, session_key.packed())

    def unwrap(self, key: Key, key_id: str, wrapped: str) -> SessionKey:
        kek_id = kek_id_of(wrapped)
        aead = self._aeads.get(kek_id)
        if aead is None:
            raise DataCorrupt("a session key is wrapped by a key that its tenant does not have")
        packed = unwrap(aead, kek_id, bind("session-key", kek_id, key.tenant, key.id, key_id), wrapped)
        if len(packed) != KEY_BYTES + OWNER_BYTES:
            raise DataCorrupt("a wrapped session key has a wrong length")
        return SessionKey(key_id, packed[:KEY_BYTES], packed[KEY_BYTES:])


class SessionKeys:
    """The way from the master key to a session's. One a process; keeps the keys of the last 1,024 tenants in memory.

    older: master keys that were replaced; they open what they wrapped and wrap nothing new.
    """

    def __init__(
        self,
        master: MasterKey,
        records: WarmRecords,
        *,
        older: Sequence[MasterKey] = (),
        tenants_max: int = TENANT_KEYS_MAX,
    ) -> None:
        self._master = master
        self._masters = {each.id: each for each in (*older, master)}
        self._records = records
        self._tenants: OrderedDict[str, TenantKeys] = OrderedDict()
        self._tenants_max = tenants_max
        self._loading: dict[str, asyncio.Task[TenantKeys]] = {}

    async def create(self, key: Key) -> KeyRing:
        """The ring of a new session, with a new key.

        Raises TierUnavailable, DataCorrupt. Cost: some 6 µs; one read of warm for a tenant not seen lately, and one
        write for a new one.
        """
        keys = await self.tenant(key.tenant)
        session_key = SessionKey("s" + os.urandom(8).hex(), os.urandom(KEY_BYTES), _owner(key))
        return KeyRing(current=session_key.id, wrapped={session_key.id: keys.wrap(key, session_key)})

    async def unwrap(self, key: Key, ring: KeyRing, key_id: str) -> SessionKey:
        """The session's key with this id. Raises DataCorrupt: not in the ring, or not wrapped for this session."""
        wrapped = ring.wrapped.get(key_id)
        if wrapped is None:
            raise DataCorrupt("a body names a key that its session does not have")
        return (await self.tenant(key.tenant)).unwrap(key, key_id, wrapped)

    async def tenant(self, tenant: str) -> TenantKeys:
        """The tenant's keys, made and kept in warm when it has none. One look-up at a time for each tenant."""
        keys = self._tenants.get(tenant)
        if keys is not None:
            self._tenants.move_to_end(tenant)
            return keys
        loading = self._loading.get(tenant)
        if loading is None:
            loading = self._loading[tenant] = asyncio.get_running_loop().create_task(self._load(tenant))
            loading.add_done_callback(lambda task: self._loaded(tenant, task))
        # Shielded: a caller that goes away must not take the keys from the others that wait.
        return await asyncio.shield(loading)

    async def check_master(self) -> None:
        """Whether this master key is the one that this data was written with; the first one to ask is written down.

        Raises ValueError with what would be right, TierUnavailable. Cost: one read of warm, at start.
        """
        for _ in range(_TRIES):
            record = await self._records.get_record(ALL_TENANTS, MASTER_KEY, "current")
            if record is not None and record.data.decode("latin-1") not in self._masters:
                raise ValueError("the key that the data was written with: this is another master key")
            if record is not None and record.data == self._master.id.encode():
                return
            try:
                rev = record.rev if record is not None else 0
                await self._records.put_record(ALL_TENANTS, MASTER_KEY, "current", self._master.id.encode(), rev=rev)
            except (RevConflict, OutcomeUnknown):
                continue  # read again: it tells what stands
        raise TierUnavailable("warm", "the master key's name could not be kept")

    def _loaded(self, tenant: str, task: asyncio.Task[TenantKeys]) -> None:
        self._loading.pop(tenant, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._tenants[tenant] = task.result()
        while len(self._tenants) > self._tenants_max:
            self._tenants.popitem(last=False)

    async def _load(self, tenant: str) -> TenantKeys:
        for _ in range(_TRIES):
            record = await self._records.get_record(tenant, TENANT_KEY, "ring")
            if record is not None:
                return self._open(tenant, record.data)
            key_id = "t" + os.urandom(8).hex()
            wrapped = self._master.wrap(bind("tenant-key", self._master.id, tenant, key_id), os.urandom(KEY_BYTES))
            data = _form.encode(KeyRing(current=key_id, wrapped={key_id: wrapped}))
            try:
                await self._records.put_record(tenant, TENANT_KEY, "ring", data, rev=0)
            except (RevConflict, OutcomeUnknown):
                continue  # another replica was quicker, or it may stand: whatever is read next is the tenant's key
            return self._open(tenant, data)
        raise TierUnavailable("warm", "a tenant's key could not be kept")

    def _open(self, tenant: str, data: bytes) -> TenantKeys:
        ring = _form.read(data)
        secrets: dict[str, bytes] = {}
        for key_id, wrapped in ring.wrapped.items():
            master = self._masters.get(kek_id_of(wrapped))
            if master is None:
                raise DataCorrupt("a tenant's key is wrapped by a master key that this service was not given")
            secrets[key_id] = master.unwrap(bind("tenant-key", master.id, tenant, key_id), wrapped)
        if ring.current is None or ring.current not in secrets:
            raise DataCorrupt("a tenant has no key in use")
        return TenantKeys(tenant, ring.current, secrets)


def _owner(key: Key) -> bytes:
    return hashlib.blake2b(key.text.encode(), digest_size=OWNER_BYTES).digest()
