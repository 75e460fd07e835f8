"""Token → Actor. The one way in: who calls is what a verified token says, and nothing else.

PyJWT does the signatures; what it is lax about is closed here before it: how a token is split and encoded, doubled
members, what counts as a number, and which header members may be there at all. Keys and algorithms come from settings
alone (RFC 8725 section 3.1). Every refusal answers the same; why is known to metrics only.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from sessionmanager.api.identity.claims import Refused, actor_of, decoded, instant, is_for, strict_object
from sessionmanager.core.tokens.revocations import Revocations
from sessionmanager.core.tokens.rules import TOKEN_LIFE_SECONDS_MAX, check_secret
from sessionmanager.model.roles import Actor

TOKEN_BYTES_MAX: Final = 8192
REMEMBERED_MAX: Final = 8192
LEEWAY_SECONDS_DEFAULT: Final = 5.0
LEEWAY_SECONDS_MAX: Final = 60.0

HMAC_DIGEST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
PUBLIC_KEY_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)

_REFUSED_MEMBERS: Final = ("jku", "jwk", "x5u", "x5c")
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_HMAC_KEY_ID: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY_ID: Final = re.compile("[\x21-\x7e]{1,255}")
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9_.~+/=-]+) *")


class KeySource(Protocol):
    """Where public keys come from (`api/identity/jwks.py`)."""

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

    secrets: one, or two during a rotation (either verifies). algorithms: what is taken, of the family.
    issuer, audience: None = not checked. leeway_seconds: how far clocks may differ, 0 to 60.
    Raises ValueError for settings that are not safe.
    """

    def __init__(
        self,
        *,
        algorithms: Sequence[str],
        secrets: Sequence[bytes] = (),
        keys: KeySource | None = None,
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
        known = self._judge(strict_object(parsed.payload))
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
        header = strict_object(decoded(segments[0]))
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
        payload, signature = decoded(segments[1]), decoded(segments[2])  # what passes is ASCII
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
        issued_at, expires_at = instant(claims.get("iat")), instant(claims.get("exp"))
        not_before = instant(claims["nbf"]) if "nbf" in claims else issued_at
        if expires_at <= now - leeway:
            raise Refused("expired")
        if max(issued_at, not_before) > now + leeway:
            raise Refused("early")
        if not 0 < expires_at - issued_at <= TOKEN_LIFE_SECONDS_MAX:
            raise Refused("lifetime")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Refused("issuer")
        if self._audience is not None and not is_for(claims.get("aud"), self._audience):
            raise Refused("audience")
        actor = actor_of(claims, issued_at, expires_at)
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


def _known_algorithms(names: Sequence[str], *, hmac: bool) -> tuple[str, ...]:
    """The algorithms to take; of one family, or a public key could pass for a secret."""
    family = tuple(HMAC_DIGEST_BYTES) if hmac else PUBLIC_KEY_ALGORITHMS
    wrong = [name for name in names if name not in family]
    if wrong or not names:
        kind = "a secret" if hmac else "a JWKS address"
        raise ValueError(
            f"with {kind} the token algorithms are of {', '.join(family)}; not {', '.join(wrong) or 'none'}"
        )
    return tuple(names)
