"""Token → Actor. The one way in: who calls is what a verified token says, and nothing else.

PyJWT does the signatures; what it is lax about is closed here before it: how a token is split and encoded, doubled
members, what counts as a number, and which header members may be there at all. Keys and algorithms come from settings
alone (RFC 8725 section 3.1). Every refusal answers the same; why is known to metrics only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from sessionmanager.core.tokens import TOKEN_LIFE_SECONDS_MAX, Revocations, check_secret, is_tenant, is_text
from sessionmanager.errors import Unauthenticated
from sessionmanager.model.roles import ALL_TENANTS, Actor
from sessionmanager.words import ROLES, Role

TOKEN_BYTES_MAX: Final = 8192
REMEMBERED_MAX: Final = 8192
LEEWAY_SECONDS_DEFAULT: Final = 5.0
LEEWAY_SECONDS_MAX: Final = 60.0
AUDIENCES_MAX: Final = 16
BRACKETS_MAX: Final = 64
"""Arrays and objects in a header or payload, also within its strings: bounds the depth before the parser recurses."""

HMAC_DIGEST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
PUBLIC_KEY_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
JWKS_ALGORITHMS_DEFAULT: Final = ("RS256", "ES256", "EdDSA")

Reason = Literal[
    "header", "size", "shape", "base64", "json", "algorithm", "type", "critical", "key-reference", "key-id",
    "unknown-key", "signature", "time", "expired", "early", "lifetime", "issuer", "audience", "subject", "tenant",
    "roles", "binding", "revoked", "api-key",
]  # fmt: skip
"""Why a token was refused: a label of a metric, never part of an answer."""

_REFUSED_MEMBERS: Final = ("jku", "jwk", "x5u", "x5c")
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_SEGMENT: Final = re.compile("[A-Za-z0-9_-]+")
_HMAC_KEY_ID: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY_ID: Final = re.compile("[\x21-\x7e]{1,255}")
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9_.~+/=-]+) *")
_INSTANT_MAX: Final = 253_402_300_799
"""The end of year 9999, in seconds since 1970."""


class Refused(Unauthenticated):
    """A token that is not taken. Its text is the same for all; `reason` is for a metric."""

    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self.reason: Reason = reason


class KeySource(Protocol):
    """Where public keys come from (`api/jwks.py`)."""

    @property
    def epoch(self) -> int | None:
        """Changes whenever a key comes or goes; None while no key may be trusted. No call, no wait."""
        ...

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        """The public keys that may have made a signature: those that fit the algorithm and, if given, the kid."""
        ...


class _Parsed(NamedTuple):
    algorithm: str
    kid: str | None
    payload: bytes
    signed: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"_Parsed({self.algorithm}, ***)"


class _Known(NamedTuple):
    """A token that was verified; judged by the clock anew at each use."""

    actor: Actor
    not_before: float
    until: float


class Verifier:
    """Verifies tokens of one family: HMAC secrets, or public keys by JWKS, never both.

    secrets: one, or two during a rotation (either verifies). algorithms: None = HS256, or RS256, ES256 and EdDSA.
    issuer, audience: None = not checked. leeway_seconds: how far clocks may differ, 0 to 60.
    Raises ValueError for settings that are not safe.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[bytes] = (),
        keys: KeySource | None = None,
        algorithms: Sequence[str] | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_seconds: float = LEEWAY_SECONDS_DEFAULT,
        clock: Callable[[], float] = time.time,
        revocations: Revocations | None = None,
    ) -> None:
        if bool(secrets) == (keys is not None):
            raise ValueError("tokens are verified either by a secret or by a JWKS address: give exactly one of them")
        if not 0 <= leeway_seconds <= LEEWAY_SECONDS_MAX:
            raise ValueError(f"the leeway is 0 to {LEEWAY_SECONDS_MAX:g} seconds")
        if issuer == "" or audience == "":
            raise ValueError("an issuer or audience that is to be checked cannot be empty")
        self._algorithms = _known_algorithms(algorithms, hmac=keys is None)
        self._secrets = self._prepared(secrets)
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway_seconds
        self._clock = clock
        self._revocations = revocations
        self._salt = os.urandom(32)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._epoch: int | None = None

    def rotate(self, secrets: Sequence[bytes]) -> None:
        """Verify by these secrets from now on; what others had verified is forgotten. Raises ValueError."""
        if self._keys is not None or not secrets:
            raise ValueError("only a verifier by secrets has secrets to rotate, and it needs at least one")
        self._secrets = self._prepared(secrets)
        self._known.clear()

    def recall(self, token: str) -> Actor | None:
        """The actor of a token verified before and still good at this moment; None = ask `verify`.

        Clock, revocations and the set of keys are looked at each time. No wait. Cost: about 2 µs.
        """
        digest = self._digest(token)
        known = self._known.get(digest)
        if known is None:
            return None
        if self._keys is not None and self._forget_if_keys_moved():
            return None
        actor, not_before, until = known
        if not not_before <= self._clock() < until or (
            self._revocations is not None and self._revocations.revoked(actor)
        ):
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return actor

    async def verify(self, token: str) -> Actor:
        """The actor that this token speaks for; then it is remembered (the last 8,192 are, by a keyed hash).

        Raises: Refused (`Unauthenticated`) whatever is wrong, with one and the same text.
        Cost: about 20 µs by a secret; by JWKS one signature, and a fetch if the key is new and none was made within a
        minute. Source: RFC 7519 section 7.2, RFC 8725, reliability.md part 6.
        """
        remembered = self.recall(token)
        if remembered is not None:
            return remembered
        parsed = self._parse(token)
        await self._check_signature(parsed)
        known = self._judge(_object(parsed.payload))
        self._known[self._digest(token)] = known
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return known.actor

    def _prepared(self, secrets: Sequence[bytes]) -> tuple[bytes, ...]:
        if len(secrets) > 2:
            raise ValueError("at most two secrets: the one in use and the one it replaces")
        for secret in secrets:
            check_secret(secret, max(HMAC_DIGEST_BYTES[name] for name in self._algorithms))
            try:
                # PyJWT refuses what is really a public key: a forger has it, too.
                _ALGORITHMS["HS256"].prepare_key(secret)
            except InvalidKeyError:
                raise ValueError("the token secret is a key pair's or certificate's text, not a secret") from None
        return tuple(secrets)

    def _digest(self, token: str) -> bytes:
        # Not the token itself: a dump of memory or a comparison that stops early would tell about it.
        return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=16).digest()

    def _forget_if_keys_moved(self) -> bool:
        assert self._keys is not None
        epoch = self._keys.epoch
        if epoch == self._epoch:
            return False  # nothing is ever remembered while it is None
        self._epoch = epoch
        self._known.clear()
        return True

    def _parse(self, token: str) -> _Parsed:
        """Split and decode the token and judge its header; nothing of it is believed yet."""
        if len(token) > TOKEN_BYTES_MAX:
            raise Refused("size")
        segments = token.split(".", 3)
        if len(segments) != 3:
            raise Refused("shape")
        header = _object(_decode(segments[0]))
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Refused("algorithm")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Refused("type")
        if "crit" in header or "b64" in header:
            raise Refused("critical")
        if any(name in header for name in _REFUSED_MEMBERS):
            raise Refused("key-reference")
        if "kid" in header:
            pattern = _HMAC_KEY_ID if self._keys is None else _KEY_ID
            if not isinstance(kid, str) or not pattern.fullmatch(kid):
                raise Refused("key-id")
        payload, signature = _decode(segments[1]), _decode(segments[2])  # what passes is ASCII
        signed = token[: len(segments[0]) + len(segments[1]) + 1].encode("ascii")
        return _Parsed(algorithm, kid, payload, signed, signature)

    async def _check_signature(self, parsed: _Parsed) -> None:
        algorithm = _ALGORITHMS[parsed.algorithm]
        candidates: Sequence[Any] = self._secrets
        if self._keys is not None:
            candidates = await self._keys.find(parsed.algorithm, parsed.kid)
            self._forget_if_keys_moved()
            if not candidates:
                raise Refused("unknown-key")
        for key in candidates:
            try:
                if algorithm.verify(parsed.signed, key, parsed.signature):
                    return
            except ValueError:
                continue  # a signature that cannot even be read as one of this key
        raise Refused("signature")

    def _judge(self, claims: dict[str, Any]) -> _Known:
        """What correctly signed claims say, or why they are refused."""
        now, leeway = self._clock(), self._leeway
        issued_at, expires_at = _instant(claims.get("iat")), _instant(claims.get("exp"))
        not_before = _instant(claims["nbf"]) if "nbf" in claims else issued_at
        if expires_at <= now - leeway:
            raise Refused("expired")
        if max(issued_at, not_before) > now + leeway:
            raise Refused("early")
        if not 0 < expires_at - issued_at <= TOKEN_LIFE_SECONDS_MAX:
            raise Refused("lifetime")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Refused("issuer")
        if self._audience is not None and not _is_for(claims.get("aud"), self._audience):
            raise Refused("audience")
        actor = _actor(claims, issued_at, expires_at)
        if self._revocations is not None and self._revocations.revoked(actor):
            raise Refused("revoked")
        return _Known(actor, max(issued_at, not_before) - leeway, expires_at + leeway)


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token of a request's one `Authorization: Bearer …`. headers: as ASGI has them, names in lower case.

    Raises Refused if there is none, more than one, or another scheme. Source: RFC 6750 section 2.1.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise Refused("header")
            found = value
    match = _BEARER.fullmatch(found) if found is not None else None
    if match is None:
        raise Refused("header")
    return match[1].decode("ascii")


_ALGORITHMS: Final[dict[str, Algorithm]] = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in HMAC_DIGEST_BYTES or name in PUBLIC_KEY_ALGORITHMS
}


def _known_algorithms(given: Sequence[str] | None, *, hmac: bool) -> tuple[str, ...]:
    """The algorithms to take; of one family, or a public key could pass for a secret."""
    family = tuple(HMAC_DIGEST_BYTES) if hmac else PUBLIC_KEY_ALGORITHMS
    names = tuple(given) if given is not None else ("HS256",) if hmac else JWKS_ALGORITHMS_DEFAULT
    wrong = [name for name in names if name not in family]
    if wrong or not names:
        kind = "a secret" if hmac else "a JWKS address"
        raise ValueError(
            f"with {kind} the token algorithms are of {', '.join(family)}; not {', '.join(wrong) or 'none'}"
        )
    return names


def _decode(segment: str) -> bytes:
    """Base64url without padding, in the one form that encodes these bytes (RFC 7515 section 2)."""
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise Refused("base64")
    data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(data).rstrip(b"=") != segment.encode():
        raise Refused("base64")  # bits that belong to no byte: the same token could be written in many ways
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a doubled member")
    return made


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_json_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse_constant).decode


def _object(data: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8 without a byte order mark, no doubled members, no NaN. A number over float's range is inf."""
    if data.count(b"[") + data.count(b"{") > BRACKETS_MAX:
        raise Refused("json")
    try:
        value = _json_decode(data.decode("utf-8"))
    except ValueError:
        raise Refused("json") from None
    if not isinstance(value, dict):
        raise Refused("json")
    return cast("dict[str, Any]", value)


def _instant(value: object) -> float:
    """A NumericDate: a JSON number within the calendar. The type is asked for exactly: `bool` is an int in Python."""
    if type(value) not in (int, float):
        raise Refused("time")
    number = cast("float", value)
    if not 0 <= number <= _INSTANT_MAX:
        raise Refused("time")
    return float(number)


def _is_for(audience: object, ours: str) -> bool:
    if isinstance(audience, list):
        names = cast("list[object]", audience)
        return len(names) <= AUDIENCES_MAX and all(isinstance(name, str) for name in names) and ours in names
    return isinstance(audience, str) and audience == ours


def _actor(claims: dict[str, Any], issued_at: float, expires_at: float) -> Actor:
    subject, tenant = claims.get("sub"), claims.get("tenant")
    if not is_text(subject):
        raise Refused("subject")
    if not is_tenant(tenant):
        raise Refused("tenant")
    roles = _roles(claims.get("roles"))
    if any(name in claims and not is_text(claims[name]) for name in ("sid", "pid", "jti")):
        raise Refused("binding")
    sid, pid, jti = claims.get("sid"), claims.get("pid"), claims.get("jti")
    if tenant == ALL_TENANTS and (sid is not None or "admin" not in roles):
        raise Refused("tenant")
    if pid is not None and sid is None:
        raise Refused("binding")
    epoch = claims.get("epoch", 0)
    if type(epoch) is not int or epoch < 0 or (epoch and pid is None):
        raise Refused("binding")
    return Actor(
        tenant=cast("str", tenant),
        subject=cast("str", subject),
        roles=roles,
        sid=sid,
        pid=pid,
        epoch=epoch,
        jti=jti,
        expires_at=expires_at,
        issued_at=issued_at,
    )


def _roles(value: object) -> frozenset[Role]:
    names = cast("list[object]", value) if isinstance(value, list) else []
    if not 0 < len(names) <= len(ROLES) or any(not isinstance(name, str) or name not in ROLES for name in names):
        raise Refused("roles")
    return frozenset(cast("list[Role]", names))
