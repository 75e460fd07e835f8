"""API keys: what a service shows in the place of a token, made once, shown once, revoked at any time.

    smk_<id: 16 hex><tag: 16 hex><secret: 64 hex>

The id finds the record; the tag is a MAC of the id, so that an invented key is refused without a look into warm; of
the secret only a hash is kept (it has 256 random bits, so that a plain hash gives nothing to guess). A key that was
verified is remembered and looked at anew after `FRESH_SECONDS`: revoked here it is void at once, elsewhere within that
time. While warm is down what was known goes on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, cast

import msgspec
from msgspec import Struct

from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.errors import (
    Contended,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    RevConflict,
    TierUnavailable,
    Unauthenticated,
)
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS, Actor, may_grant
from sessionmanager.tiers.warm.protocol import Record, Warm
from sessionmanager.words import API_KEY_PREFIX, ROLES, Instant, Role

KIND: Final = "api-key"
OF_TENANT: Final = "api-keys"
KEYS_PER_TENANT_MAX: Final = 1_000
KNOWN_MAX: Final = 8_192
FRESH_SECONDS: Final = 30.0
GOOD_SECONDS: Final = 3_600.0
"""How long a stream may go on before it is asked again, where the key itself has no end."""
TRIES: Final = 5
_SHAPE: Final = re.compile(rf"{API_KEY_PREFIX}([0-9a-f]{{16}})([0-9a-f]{{16}})([0-9a-f]{{64}})")


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is kept of a key. secret: the hash of its secret, hexadecimal. expires_at: None = until it is revoked."""

    id: str
    tenant: str
    subject: str
    roles: tuple[Role, ...]
    name: str
    created_at: Instant
    created_by: str
    secret: str
    expires_at: Instant | None = None


class Made(NamedTuple):
    """A new key. text: the key itself, shown to its maker once and kept nowhere."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"Made(key={self.key.id!r})"


class _Known(NamedTuple):
    actor: Actor
    until: float
    checked_at: float


_form = RecordForm(ApiKey, "the record of an API key")


class ApiKeys:
    """Makes, verifies and revokes. mac_key: 32 bytes of this service. wall: seconds since 1970.

    revoked: whether a subject's tokens were taken back since; its keys then go with them.
    """

    def __init__(
        self,
        warm: Warm,
        mac_key: bytes,
        *,
        random_bytes: Callable[[int], bytes],
        revoked: Callable[[Actor], bool],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warm = warm
        self._mac_key = mac_key
        self._random_bytes = random_bytes
        self._revoked = revoked
        self._wall = wall
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    # -- making and taking back

    async def make(
        self, actor: Actor, *, name: str, subject: str, roles: Collection[str], ttl_seconds: float | None
    ) -> Made:
        """A key that can do no more than its maker, of its maker's tenant and of no session.

        Raises Forbidden, Invalid, QuotaExceeded, TierUnavailable, OutcomeUnknown. Cost: one write of warm, and a read
        for each 200 keys of the tenant.
        """
        tenant = actor.tenant
        if tenant == ALL_TENANTS:
            raise Forbidden("a key belongs to one tenant: make it with a token of that tenant")
        if "participant" in roles or not roles or not set(roles) <= set(ROLES):
            raise Invalid([FieldError("/roles", "one or more roles, but participant: that one is bound to a session")])
        granted = cast("frozenset[Role]", frozenset(roles))
        if not may_grant(actor, granted, tenant):
            raise Forbidden("a key cannot be above whoever makes it")
        if len(await self.list(tenant)) >= KEYS_PER_TENANT_MAX:
            raise QuotaExceeded("API keys", KEYS_PER_TENANT_MAX)
        now = self._warm.now()
        key_id, secret = self._random_bytes(8).hex(), self._random_bytes(32).hex()
        key = ApiKey(
            id=key_id,
            tenant=tenant,
            subject=subject,
            roles=tuple(sorted(granted)),
            name=name,
            created_at=now,
            created_by=actor.subject,
            secret=_hash(key_id, secret),
            expires_at=None if ttl_seconds is None else instants.plus(now, ttl_seconds),
        )
        # First in the list of its tenant, then where it is looked for: what is good for anything can be revoked.
        await self._warm.put_record(tenant, OF_TENANT, key_id, _form.encode(key), rev=0, expires_at=key.expires_at)
        await self._warm.put_record(ALL_TENANTS, KIND, key_id, _form.encode(key), rev=0, expires_at=key.expires_at)
        return Made(key, f"{API_KEY_PREFIX}{key_id}{self._tag(key_id)}{secret}")

    async def list(self, tenant: str) -> list[ApiKey]:
        """All of a tenant's. Cost: a read of warm for each 200."""
        return [_form.read(record.data) async for record in every_record(self._warm, tenant, OF_TENANT)]

    async def revoke(self, tenant: str, key_id: str) -> None:
        """Void at once here, elsewhere within `FRESH_SECONDS`. Raises NotFound: there is none of this tenant.

        Cost: two reads and two writes of warm.
        """
        if await self._warm.get_record(tenant, OF_TENANT, key_id) is None:
            raise NotFound("no such key")
        # First where it is looked for: one that is still listed can be revoked again.
        await self._remove(ALL_TENANTS, KIND, key_id)
        for digest, known in tuple(self._known.items()):
            if known.actor.jti == key_id:
                del self._known[digest]
        await self._remove(tenant, OF_TENANT, key_id)

    async def _remove(self, tenant: str, kind: str, key_id: str) -> None:
        for _ in range(TRIES):
            record = await self._warm.get_record(tenant, kind, key_id)
            if record is None:
                return
            try:
                await self._warm.put_record(tenant, kind, key_id, None, rev=record.rev)
            except RevConflict:
                continue
            return
        raise Contended

    # -- verifying

    def recall(self, text: str) -> Actor | None:
        """The actor of a key verified a moment ago; None = ask `verify`. No wait."""
        known = self._known.get(_digest(text))
        if known is None or self._clock() - known.checked_at >= FRESH_SECONDS:
            return None
        return self._judged(known)

    async def verify(self, text: str) -> Actor:
        """The actor that a key speaks for. Raises Unauthenticated whatever is wrong with it; TierUnavailable where it
        was never seen here and warm cannot be asked.

        Cost: one read of warm every `FRESH_SECONDS`; none for a key that nobody ever made.
        """
        match = _SHAPE.fullmatch(text)
        if match is None or not hmac.compare_digest(match[2], self._tag(match[1])):
            raise Unauthenticated
        digest = _digest(text)
        known = self._known.get(digest)
        try:
            record = await self._warm.get_record(ALL_TENANTS, KIND, match[1])
        except TierUnavailable:
            if known is None:
                raise
            fresh = known
        else:
            fresh = self._check(record, match[1], match[3])
        if fresh is None:
            self._known.pop(digest, None)
            raise Unauthenticated
        self._known[digest] = fresh
        self._known.move_to_end(digest)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        actor = self._judged(fresh)
        if actor is None:
            raise Unauthenticated
        return actor

    def _check(self, record: Record | None, key_id: str, secret: str) -> _Known | None:
        if record is None:
            return None
        key = _form.read(record.data)
        if not hmac.compare_digest(key.secret, _hash(key_id, secret)):
            return None
        until = float("inf") if key.expires_at is None else instants.to_ms(key.expires_at) / 1000
        actor = Actor(
            tenant=key.tenant,
            subject=key.subject,
            roles=frozenset(key.roles),
            jti=key.id,
            issued_at=instants.to_ms(key.created_at) / 1000,
        )
        return _Known(actor, until, self._clock())

    def _judged(self, known: _Known) -> Actor | None:
        """The actor, if the key is good at this moment."""
        now = self._wall()
        if known.until <= now or self._revoked(known.actor):
            return None
        return msgspec.structs.replace(known.actor, expires_at=min(known.until, now + GOOD_SECONDS))

    def _tag(self, key_id: str) -> str:
        return hmac.new(self._mac_key, f"api-key/{key_id}".encode(), hashlib.sha256).hexdigest()[:16]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _hash(key_id: str, secret: str) -> str:
    return hashlib.sha256(f"{key_id}/{secret}".encode()).hexdigest()
