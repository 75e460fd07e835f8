"""Public keys from an identity provider's JWKS address, fetched so that nobody can make it slow or steer it.

Keys are fetched ahead of need and used on for an hour while the address is down. At most one fetch a minute starts,
whatever tokens come: a flood of unknown key ids costs nothing but look-ups. Tokens never name an address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import httpx2
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

BODY_BYTES_MAX: Final = 64 * 1024
FETCH_DEADLINE_SECONDS: Final = 5.0
FETCH_INTERVAL_SECONDS: Final = 60.0
"""At most one fetch starts in this time, also when it fails."""
REFRESH_AFTER_SECONDS: Final = 300.0
"""Keys older than this are fetched anew in the background, while they go on being used."""
TRUSTED_SECONDS: Final = 3600.0
"""Keys older than this verify nothing."""
KEYS_MAX: Final = 64
RSA_BITS: Final = range(2048, 8193)
RSA_EXPONENT_MAX: Final = 2**32

_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
log = structlog.get_logger()


class JwksKey(NamedTuple):
    """A public key and the algorithms whose signatures it may check."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey
    source: str


class FetchFailed(Exception):
    """The address did not answer with usable keys. Its text holds nothing that the other side sent."""


class Jwks:
    """The keys behind one address. url: https, or http to this machine (or anywhere with `allow_http`).

    clock: seconds that only grow. transport: for tests. Raises ValueError for an address that is not safe.
    """

    def __init__(
        self,
        url: str,
        *,
        allow_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        loopback = _check_url(url, allow_http)
        self._url = url
        self._clock = clock
        # An operator's proxy from the environment is used, but never on the way to this machine itself.
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            timeout=FETCH_DEADLINE_SECONDS,
            trust_env=not loopback,
            transport=transport,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=0),
        )
        self._keys: tuple[JwksKey, ...] = ()
        self._generation = 0
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._trouble: str | None = None  # why the last fetch failed

    @property
    def epoch(self) -> int | None:
        """Changes whenever a key comes or goes; None while no key may be trusted. Starts a fetch ahead of need."""
        age = self._age()
        if age is None or age >= TRUSTED_SECONDS:
            return None
        if age >= REFRESH_AFTER_SECONDS:
            self._start()
        return self._generation

    async def find(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        """The keys that fit; none if there are none. Without a kid only a single fitting key will do.

        Waits for a fetch, at most 5 s, only if nothing fits and none was started within the last minute.
        """
        found = self._fitting(algorithm, kid) if self.epoch is not None else []
        if not found:
            fetching = self._start()
            if fetching is not None:
                # Shielded: one caller that goes away must not take the fetch from the others.
                await asyncio.shield(fetching)
                found = self._fitting(algorithm, kid) if self.epoch is not None else []
        return found if kid is not None or len(found) == 1 else []

    async def refresh(self) -> None:
        """Fetch now, unless one is under way or was started within a minute; for the start of the service."""
        fetching = self._start()
        if fetching is not None:
            await asyncio.shield(fetching)

    async def aclose(self) -> None:
        """Stop fetching and close the connection."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    def _age(self) -> float | None:
        return None if self._fetched_at is None else self._clock() - self._fetched_at

    def _fitting(self, algorithm: str, kid: str | None) -> list[PublicKey]:
        return [k.key for k in self._keys if algorithm in k.algorithms and (kid is None or k.kid == kid)]

    def _start(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None if the last was started less than a minute ago."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < FETCH_INTERVAL_SECONDS:
            return None
        self._tried_at = now
        self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        """Replace the keys; what fails leaves them as they are."""
        began = self._clock()
        try:
            async with asyncio.timeout(FETCH_DEADLINE_SECONDS):
                keys = read_keys(await self._get())
        except Exception as error:
            # Whatever the other side or the way to it did, the keys at hand stay and requests go on.
            reason = str(error) if isinstance(error, FetchFailed) else type(error).__name__
            if reason != self._trouble:
                log.warning("jwks.cannot_fetch", reason=reason)
            self._trouble = reason
            return
        self._trouble = None
        if {k.source for k in keys} != {k.source for k in self._keys}:
            self._generation += 1
        self._keys, self._fetched_at = keys, began

    async def _get(self) -> bytes:
        body = bytearray()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != 200:
                raise FetchFailed(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed("a compressed answer, which was not asked for")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise FetchFailed(f"an answer over {BODY_BYTES_MAX} bytes")
        return bytes(body)


def read_keys(body: bytes) -> tuple[JwksKey, ...]:
    """The usable keys of a JWK set; those that are not for checking signatures are passed over (RFC 7517 section 5).

    Raises FetchFailed if it is no JWK set, has more than 64 keys, or none that can be used.
    """
    try:
        document: object = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise FetchFailed("not JSON") from None
    listed = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise FetchFailed("not a JWK set")
    entries = cast("list[object]", listed)
    if len(entries) > KEYS_MAX:
        raise FetchFailed(f"more than {KEYS_MAX} keys")
    keys = tuple(key for key in map(_read_key, entries) if key is not None)
    if not keys:
        raise FetchFailed("no usable key")
    return keys


def _read_key(entry: object) -> JwksKey | None:
    if not isinstance(entry, dict):
        return None
    jwk = cast("dict[str, Any]", entry)
    operations: object = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        return None
    loaded = _load(jwk)
    if loaded is None:
        return None
    key, algorithms = loaded
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    if not algorithms:
        return None
    return JwksKey(kid, algorithms, key, json.dumps(jwk, sort_keys=True))


def _load(jwk: Mapping[str, Any]) -> tuple[PublicKey, frozenset[str]] | None:
    """The key, with the algorithms its type fits; None for types, curves and sizes that are not taken, and for a key
    that is not public: what was published is no secret."""
    members = {name: value for name, value in jwk.items() if isinstance(value, str)}
    try:
        if members.get("kty") == "RSA":
            key = RSAAlgorithm.from_jwk(members)
            if isinstance(key, RSAPublicKey) and _is_strong(key):
                return key, _RSA_ALGORITHMS
        elif members.get("kty") == "EC":
            key = ECAlgorithm.from_jwk(members)
            if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
                return key, frozenset({_CURVES[key.curve.name]})
        elif members.get("kty") == "OKP":
            key = OKPAlgorithm.from_jwk(members)
            if isinstance(key, Ed25519PublicKey):
                return key, frozenset({"EdDSA"})
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        pass  # a key that does not read as one is passed over like one of an unknown type
    return None


def _is_strong(key: RSAPublicKey) -> bool:
    """Not weak, and not so big that each signature becomes an attack on the processor."""
    exponent = key.public_numbers().e
    return key.key_size in RSA_BITS and 2 < exponent <= RSA_EXPONENT_MAX and exponent % 2 == 1


def _check_url(url: str, allow_http: bool) -> bool:
    """Whether the address is this machine. Raises ValueError, without the address: it may hold credentials."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise ValueError("the JWKS address is not a URL") from None
    if not _is_host(parsed.host) or parsed.userinfo or parsed.fragment:
        raise ValueError("the JWKS address needs a host, and no credentials and no fragment")
    loopback = _is_loopback(parsed.host)
    if parsed.scheme != "https" and not (parsed.scheme == "http" and (loopback or allow_http)):
        raise ValueError("the JWKS address must be https (http only to this machine)")
    return loopback


def _is_host(host: str) -> bool:
    """Whether this is a name or an address; the URL class takes `[broken`, too."""
    return _NAME.fullmatch(host) is not None or _address(host) is not None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
