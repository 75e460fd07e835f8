"""Making tokens, never above their maker, and asking for them to be taken back."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, cast

import jwt

from sessionmanager.core.tokens.revocations import REVOKED_JTI, REVOKED_SUBJECT, Revocations
from sessionmanager.core.tokens.rules import check_secret, is_tenant, is_text
from sessionmanager.errors import FieldError, Forbidden, Invalid
from sessionmanager.model.roles import ALL_TENANTS, Actor, check, check_tenant, may_grant
from sessionmanager.words import ROLES, Key, Role

TTL_SECONDS_DEFAULT: Final = 3600
TTL_SECONDS_MAX: Final = 30 * 86_400


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
