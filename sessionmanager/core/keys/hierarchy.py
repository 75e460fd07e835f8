"""The keys: master key → tenant key → session key.

Master keys are in a file. A tenant's key is a record in warm, wrapped by one of them; a session's key is in the head,
wrapped by its tenant's, and goes with the tombstone: what it sealed is noise from then on, wherever copies lie
(crypto-shredding, reliability.md Corr. 8). Every wrap names the key that opens it. Wrapped keys are never sent to hot.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sessionmanager.core.keys.files import KEY_BYTES
from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.keys.sealing import OWNER_BYTES, SessionKey, bind, kek_id_of, unwrap, wrap
from sessionmanager.core.keys.standing import Anew, Where, wrap_anew, writing
from sessionmanager.core.records import RecordForm
from sessionmanager.errors import DataCorrupt, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.head import KeyRing
from sessionmanager.tiers.warm.protocol import WarmRecords
from sessionmanager.words import Key

TENANT_KEYS_MAX: Final = 1024
TENANT_KEY: Final = "tenant-key"
RING_ID: Final = "ring"
_TRIES: Final = 4
_form = RecordForm(KeyRing, "a tenant's stored key")


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
    """The way from a master key to a session's. One a process; keeps the keys of the last 1,024 tenants in memory."""

    def __init__(self, masters: MasterKeys, records: WarmRecords, *, tenants_max: int = TENANT_KEYS_MAX) -> None:
        self._masters = masters
        self._records = records
        self._tenants: OrderedDict[str, TenantKeys] = OrderedDict()
        self._tenants_max = tenants_max
        self._loading: dict[str, asyncio.Task[TenantKeys]] = {}

    async def create(self, key: Key) -> KeyRing:
        """The ring of a new session, with a new key.

        Raises TierUnavailable, DataCorrupt. Cost: some 6 µs; one read of warm for a tenant not seen lately, five and a
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

    def _loaded(self, tenant: str, task: asyncio.Task[TenantKeys]) -> None:
        self._loading.pop(tenant, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._tenants[tenant] = task.result()
        while len(self._tenants) > self._tenants_max:
            self._tenants.popitem(last=False)

    async def _load(self, tenant: str) -> TenantKeys:
        where = Where(tenant, TENANT_KEY, RING_ID)
        for _ in range(_TRIES):
            record = await self._records.get_record(*where)
            if record is not None:
                return _open(self._masters, tenant, record.data)
            master = await writing(self._records, self._masters)
            key_id = "t" + os.urandom(8).hex()
            wrapped = master.wrap(_aad(master, tenant, key_id), os.urandom(KEY_BYTES))
            try:
                data = _form.encode(KeyRing(current=key_id, wrapped={key_id: wrapped}))
                await self._records.put_record(*where, data, rev=0)
            except (RevConflict, OutcomeUnknown):
                pass  # another replica was quicker, or it may stand: whatever is read next is the tenant's key
            # Crash here: a key that nothing was sealed with; whoever runs `rewrap` later wraps it anew.
            await wrap_anew(self._records, self._masters, where, tenant_key_anew(self._masters, tenant))
        raise TierUnavailable("warm", "a tenant's key could not be kept")


def tenant_key_anew(masters: MasterKeys, tenant: str) -> Anew:
    """How the record of a tenant's keys is wrapped by another master key."""

    def anew(data: bytes, to: MasterKey) -> bytes | None:
        ring = _form.read(data)
        if all(kek_id_of(each) == to.id for each in ring.wrapped.values()):
            return None
        secrets = {key_id: _unwrap(masters, tenant, key_id, each) for key_id, each in ring.wrapped.items()}
        wrapped = {key_id: to.wrap(_aad(to, tenant, key_id), secret) for key_id, secret in secrets.items()}
        return _form.encode(KeyRing(current=ring.current, wrapped=wrapped))

    return anew


def _open(masters: MasterKeys, tenant: str, data: bytes) -> TenantKeys:
    ring = _form.read(data)
    secrets = {key_id: _unwrap(masters, tenant, key_id, wrapped) for key_id, wrapped in ring.wrapped.items()}
    if ring.current is None or ring.current not in secrets:
        raise DataCorrupt("a tenant has no key in use")
    return TenantKeys(tenant, ring.current, secrets)


def _unwrap(masters: MasterKeys, tenant: str, key_id: str, wrapped: str) -> bytes:
    master = masters.opening(wrapped)
    return master.unwrap(_aad(master, tenant, key_id), wrapped)


def _aad(master: MasterKey, tenant: str, key_id: str) -> bytes:
    return bind("tenant-key", master.id, tenant, key_id)


def _owner(key: Key) -> bytes:
    return hashlib.blake2b(key.text.encode(), digest_size=OWNER_BYTES).digest()
