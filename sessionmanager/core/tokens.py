"""Making tokens, never above their maker, and taking them back.

A token taken back is void on this replica at once and on the others within a refresh. Revocations are records in warm,
so they outlive a restart; each is kept for as long as a token may live at all, so that nothing taken back comes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, cast

import jwt
import msgspec
from msgspec import Struct

from sessionmanager.errors import (
    Contended,
    DataCorrupt,
    FieldError,
    Forbidden,
    Invalid,
    RevConflict,
    SessionManagerError,
)
from sessionmanager.model.instants import from_ms
from sessionmanager.model.roles import ALL_TENANTS, Actor, check, check_tenant, may_grant
from sessionmanager.tiers.warm.protocol import Record, WarmRecords
from sessionmanager.words import ROLES, Key, Role

SECRET_BYTES_MIN: Final = 32
TTL_SECONDS_DEFAULT: Final = 3600
TTL_SECONDS_MAX: Final = 30 * 86_400
TOKEN_LIFE_SECONDS_MAX: Final = 366 * 86_400
"""No verifier takes a token that lives longer, whoever made it; revocations are kept this long."""
TENANT_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TEXT_MAX: Final = 255
REVOKED_JTI: Final = "revoked-jti"
REVOKED_SUBJECT: Final = "revoked-subject"
REVOCATIONS_PER_TENANT_MAX: Final = 10_000
REFRESH_SECONDS: Final = 30.0
REFRESH_DEADLINE_SECONDS: Final = 20.0
_PAGE: Final = 200
_TRIES: Final = 8
_KNOWN_SECRETS: Final = re.compile(
    "changeme|changethis|changeit|replaceme|yoursecretkeyhere|yoursecretkey|yoursecret|your256bitsecret"
    "|astringsecretatleast256bitslong|supersecret|secretkey|jwtsecret|password|default"
)
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_secret(secret: bytes, bytes_min: int = SECRET_BYTES_MIN) -> None:
    """Refuse an HMAC secret that is short or known to everybody. Raises ValueError, which never holds the secret.

    Source: RFC 7518 section 3.2 (at least as long as the digest); RFC 8725 section 3.5.
    """
    if len(secret) < bytes_min:
        raise ValueError(f"a token secret of {len(secret)} bytes is too short; at least {bytes_min} are needed")
    plain = re.sub("[^a-z0-9]", "", secret.decode("latin-1").lower())
    rest, found = _KNOWN_SECRETS.subn("", plain)
    if found and len(rest) < 16:
        raise ValueError("the token secret is a well-known placeholder; make one with `openssl rand -hex 32`")


def is_text(value: object) -> bool:
    """Whether this may be a subject, session, participant or token id: 1–255 characters, none of them a control."""
    return isinstance(value, str) and 0 < len(value) <= TEXT_MAX and not _UNSAFE.search(value)


def is_tenant(value: object) -> bool:
    """Whether this may be a token's tenant: 1–64 of letters, digits, `.`, `_`, `-`, or `*` for all tenants."""
    return isinstance(value, str) and (value == ALL_TENANTS or TENANT_PATTERN.fullmatch(value) is not None)


class _Revoked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a revocation's record holds. `name`: the jti or the subject; `before`: tokens issued up to then are void."""

    tenant: str
    name: str
    until: float
    before: float = 0.0


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Revoked)
_Index = dict[tuple[str, str], _Revoked]


class Revocations:
    """Which tokens are void, in memory: asked at each request, fed from warm.

    While warm is down the last view goes on. Cost of a question: at most two dictionary look-ups. Of a refresh: one
    read for each 200 live revocations of all tenants (at most 20,000 a tenant).
    """

    def __init__(
        self,
        records: WarmRecords,
        *,
        clock: Callable[[], float] = time.time,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        if not 0 < refresh_seconds <= 60:
            raise ValueError("revocations are refreshed at least once a minute")
        self._records = records
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._known: dict[str, _Index] = {REVOKED_JTI: {}, REVOKED_SUBJECT: {}}
        self._added: dict[str, _Index] = {REVOKED_JTI: {}, REVOKED_SUBJECT: {}}
        self._refreshing = asyncio.Lock()
        self._any = False
        self.refreshed_at: float | None = None
        """When the view was last whole, in seconds since 1970."""
        self.unreadable = 0
        """How many records were passed over because they do not read as one, for a metric and its alarm."""

    def __len__(self) -> int:
        return sum(len(index) for index in self._known.values())

    def revoked(self, actor: Actor) -> bool:
        """Whether the token behind this actor was taken back, by its own id or with all of its subject's."""
        if not self._any:
            return False
        if actor.jti is not None and (actor.tenant, actor.jti) in self._known[REVOKED_JTI]:
            return True
        found = self._known[REVOKED_SUBJECT].get((actor.tenant, actor.subject))
        return found is not None and actor.issued_at <= found.before

    async def refresh(self) -> None:
        """Read all revocations anew and forget those whose time is over. Raises TierUnavailable and changes nothing."""
        async with self._refreshing:
            self._added = {kind: {} for kind in self._known}
            now = self._clock()
            read = {kind: await self._read(kind, now) for kind in self._known}
            for kind, index in read.items():
                # What was revoked here while the pages were read may lie on a page already passed.
                for where, mine in self._added[kind].items():
                    theirs = index.get(where)
                    index[where] = mine if theirs is None or mine.before > theirs.before else theirs
            self._known = read
            self._any = len(self) > 0
            self.refreshed_at = now

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh until `stop` is set. A refresh that fails or takes over 20 s is tried again at the next turn."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(REFRESH_DEADLINE_SECONDS):
                    await self.refresh()
            except (SessionManagerError, TimeoutError):
                pass  # `refreshed_at` tells how old the view is; the guard round the tier has counted the failure
            try:
                async with asyncio.timeout(self._refresh_seconds):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _read(self, kind: str, now: float) -> _Index:
        index: _Index = {}
        after = ""
        while True:
            page = await self._records.list_records(ALL_TENANTS, kind, after=after, limit=_PAGE)
            for record in page:
                try:
                    revoked = _decode(record)
                except DataCorrupt:
                    # One broken record must not keep all later revocations from this replica.
                    self.unreadable += 1
                    continue
                if revoked.until > now:
                    index[revoked.tenant, revoked.name] = revoked
            if len(page) < _PAGE:
                return index
            after = page[-1].id

    async def add(self, kind: str, tenant: str, name: str, *, before: float = 0.0) -> None:
        """Keep a revocation in warm, then here. The same again changes nothing but the moment.

        Raises: Invalid: the tenant has 10,000 of this kind alive. Contended, TierUnavailable, OutcomeUnknown.
        """
        index = self._known[kind]
        if (tenant, name) not in index and sum(key[0] == tenant for key in index) >= REVOCATIONS_PER_TENANT_MAX:
            raise Invalid([FieldError("", "too many tokens of this tenant are revoked: revoke subjects instead")])
        now = self._clock()
        # One list for all tenants, so that a replica learns of each without knowing which tenants there are.
        record_id = hashlib.blake2b(f"{len(tenant)}:{tenant}:{name}".encode(), digest_size=16).hexdigest()
        for _ in range(_TRIES):
            record = await self._records.get_record(ALL_TENANTS, kind, record_id)
            moment = max(before, _decode(record).before) if record is not None else before
            until = now + TOKEN_LIFE_SECONDS_MAX
            revoked = _Revoked(tenant=tenant, name=name, until=until, before=moment)
            rev = record.rev if record is not None else 0
            expires_at = from_ms(int(until * 1000))
            try:
                await self._records.put_record(
                    ALL_TENANTS, kind, record_id, _encode(revoked), rev=rev, expires_at=expires_at
                )
            except RevConflict:
                continue
            self._known[kind][tenant, name] = self._added[kind][tenant, name] = revoked
            self._any = True
            return
        raise Contended()


def _decode(record: Record) -> _Revoked:
    try:
        return _decoder.decode(record.data)
    except msgspec.MsgspecError as error:
        raise DataCorrupt("a stored revocation does not read as one") from error


class Minted(NamedTuple):
    """A new token. expires_at: seconds since 1970. The token itself is shown to its maker once and kept nowhere."""

    token: str
    jti: str
    expires_at: int

    def __repr__(self) -> str:
        return f"Minted(jti={self.jti!r}, expires_at={self.expires_at})"


class TokenMinter:
    """Makes HS256 tokens and takes tokens back. secret: None where tokens come from elsewhere (a JWKS address)."""

    def __init__(
        self,
        secret: bytes | None,
        revocations: Revocations,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if secret is not None:
            check_secret(secret)
        self._secret = secret
        self._revocations = revocations
        self._fixed = {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}
        self._clock = clock

    def mint(
        self,
        actor: Actor,
        *,
        subject: str,
        roles: Collection[str],
        tenant: str,
        sid: str | None = None,
        pid: str | None = None,
        epoch: int = 0,
        ttl_seconds: float = TTL_SECONDS_DEFAULT,
    ) -> Minted:
        """A token that can do no more than its maker, for at most 30 days. Nothing is stored.

        pid, epoch: the participant that it speaks for, and the stay for which it is good (`model/participants.py`).

        Raises: Forbidden: the actor may not mint, not this, or there is no key to sign with. NotFound: another
        tenant, or another session than the one the actor is bound to. Invalid: names every wrong field.
        """
        if self._secret is None:
            raise Forbidden("tokens are made by the identity provider: this service has no key to sign with")
        check_tenant(actor, tenant)
        check(actor, "token.mint", Key(tenant, sid) if sid is not None else None)
        errors = _mistakes(subject, roles, tenant, sid, pid, ttl_seconds)
        if errors:
            raise Invalid(errors)
        granted = cast("frozenset[Role]", frozenset(roles))
        if not may_grant(actor, granted, tenant, sid, pid):
            raise Forbidden("a token cannot be above the one that makes it")
        claims: dict[str, object] = {"sub": subject, "tenant": tenant, "roles": sorted(granted)}
        claims.update((name, value) for name, value in (("sid", sid), ("pid", pid)) if value is not None)
        if epoch:
            claims["epoch"] = epoch
        return self._sign(claims, ttl_seconds)

    def bound(self, key: Key, pid: str, epoch: int, *, ttl_seconds: float) -> Minted | None:
        """A token by which a participant speaks for itself, in one session and until it leaves; None without a secret.

        Whether the caller may have it was decided by the route: nothing is above it.
        """
        if self._secret is None:
            return None
        assert 1 <= ttl_seconds <= TTL_SECONDS_MAX, "a life that the wire has checked"
        claims = {"tenant": key.tenant, "roles": ["participant"], "sid": key.id, "pid": pid, "epoch": epoch}
        return self._sign({"sub": pid, **claims}, ttl_seconds)

    def _sign(self, claims: Mapping[str, object], ttl_seconds: float) -> Minted:
        assert self._secret is not None, "asked before"
        # Milliseconds, so that a token made right after its subject was revoked is told from those before.
        issued_at = math.ceil(self._clock() * 1000) / 1000
        expires_at = math.ceil(issued_at + ttl_seconds)
        jti = secrets.token_hex(16)
        stamped = {**self._fixed, **claims, "iat": issued_at, "exp": expires_at, "jti": jti}
        return Minted(jwt.encode(stamped, self._secret, "HS256"), jti, expires_at)

    def check_revoke(
        self, actor: Actor, *, jti: str | None = None, subject: str | None = None, tenant: str | None = None
    ) -> tuple[str, str, str]:
        """Whether the actor may; answers the kind of the revocation, its tenant and its name. Raises as `revoke`."""
        where = actor.tenant if tenant is None else tenant
        check_tenant(actor, where)
        check(actor, "token.revoke")
        given = [(name, value) for name, value in (("jti", jti), ("subject", subject)) if value is not None]
        if len(given) != 1:
            raise Invalid([FieldError("", "give either jti or subject")])
        name, value = given[0]
        if not is_text(value):
            raise Invalid([FieldError(f"/{name}", "1 to 255 characters, no control characters")])
        if not is_tenant(where):
            raise Invalid([FieldError("/tenant", "not the name of a tenant")])
        if name == "subject" and value != actor.subject and "admin" not in actor.roles:
            raise Forbidden("only an admin revokes the tokens of another subject")
        return (REVOKED_JTI if name == "jti" else REVOKED_SUBJECT), where, value

    async def revoke(
        self,
        actor: Actor,
        *,
        jti: str | None = None,
        subject: str | None = None,
        tenant: str | None = None,
        at: float | None = None,
    ) -> None:
        """Void one token, or all that were issued to a subject until now; at once here, elsewhere within a minute.

        at: seconds since 1970 in the place of now, for a request that is made again.

        Repeating it is harmless; a jti nobody ever used is taken too. tenant: the actor's own unless it says otherwise.
        Raises: Forbidden: the role, a token bound to a session, or somebody else's subject without `admin` (whose roles
        may be above the actor's). NotFound: another tenant. Invalid. What `Revocations.add` raises.
        Cost: one read and one write of warm.
        """
        kind, where, name = self.check_revoke(actor, jti=jti, subject=subject, tenant=tenant)
        moment = self._clock() if at is None else at
        before = math.ceil(moment * 1000) / 1000 if kind == REVOKED_SUBJECT else 0.0
        await self._revocations.add(kind, where, name, before=before)


def _mistakes(
    subject: str, roles: Collection[str], tenant: str, sid: str | None, pid: str | None, ttl_seconds: float
) -> list[FieldError]:
    text = "1 to 255 characters, no control characters"
    checks: Sequence[tuple[str, bool, str]] = (
        ("subject", is_text(subject), text),
        ("roles", bool(roles) and set(roles) <= set(ROLES), f"one or more of {', '.join(ROLES)}"),
        ("tenant", is_tenant(tenant), "1 to 64 of letters, digits, '.', '_', '-', or '*'"),
        ("sid", sid is None or is_text(sid), text),
        ("pid", pid is None or is_text(pid), text),
        ("ttl_seconds", 1 <= ttl_seconds <= TTL_SECONDS_MAX, f"1 to {TTL_SECONDS_MAX}"),
    )
    errors = [FieldError(f"/{name}", detail) for name, fine, detail in checks if not fine]
    if "participant" in roles and sid is None:
        errors.append(FieldError("/sid", "a participant's token is bound to a session"))
    if tenant == ALL_TENANTS and sid is not None:
        errors.append(FieldError("/tenant", "a token that is bound to a session names its tenant"))
    return errors
