"""No token forged against public keys passes: confusion of kinds, key ids, and signatures that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from sessionmanager.api.identity.claims import Refused
from sessionmanager.api.identity.jwks import Jwks
from sessionmanager.api.identity.verifier import Verifier
from sessionmanager.settings_checks import PUBLIC_ALGORITHMS
from tests.support.forge import AUDIENCE, ISSUER, NOW, Sign, claims, hs, token

pytestmark = pytest.mark.unit

URL = "https://id.example.com/jwks"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RSA_JWK = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa", "use": "sig"}
EC_JWK = ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True) | {"kid": "ec", "use": "sig"}
ED_JWK = OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True) | {"kid": "ed", "use": "sig"}


def rs(key: rsa.RSAPrivateKey = RSA_KEY, digest: hashes.HashAlgorithm | None = None) -> Sign:
    return lambda data: key.sign(data, padding.PKCS1v15(), digest or hashes.SHA256())


def ps(data: bytes) -> bytes:
    return RSA_KEY.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def es(key: ec.EllipticCurvePrivateKey = EC_KEY, digest: hashes.HashAlgorithm | None = None) -> Sign:
    def sign(data: bytes) -> bytes:
        size = (key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest or hashes.SHA256())))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign


def constant(data: bytes) -> Sign:
    return lambda _: data


def pair(number: int, other: int | None = None) -> Sign:
    return constant(number.to_bytes(32, "big") + (number if other is None else other).to_bytes(32, "big"))


def public_texts() -> dict[str, bytes]:
    """Every form in which a forger can have the public key, to be tried as an HMAC secret."""
    found: dict[str, bytes] = {}
    for name, key, jwk in (("rsa", RSA_KEY, RSA_JWK), ("ec", EC_KEY, EC_JWK), ("ed", ED_KEY, ED_JWK)):
        public = key.public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serialization.Encoding.PEM, info)
        found |= {
            f"{name}-pem": pem,
            f"{name}-pem-without-line-end": pem.strip(),
            f"{name}-pem-crlf": pem.replace(b"\n", b"\r\n"),
            f"{name}-pem-one-line": pem.replace(b"\n", b""),
            f"{name}-pem-indented": b"  " + pem.replace(b"\n", b"\n  "),
            f"{name}-pem-twice": pem + pem,
            f"{name}-der": public.public_bytes(serialization.Encoding.DER, info),
            f"{name}-ssh": public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
            f"{name}-jwk": json.dumps(jwk).encode(),
            f"{name}-jwk-compact": json.dumps(jwk, separators=(",", ":")).encode(),
            f"{name}-jwk-set": json.dumps({"keys": [jwk]}).encode(),
            f"{name}-base64": pem.split(b"-----")[2].replace(b"\n", b""),
        }
    return found


def asymmetric() -> Iterator[tuple[str, str]]:
    for secret_name, secret in public_texts().items():
        for alg, digest in (("HS256", "sha256"), ("HS512", "sha512")):
            kid = secret_name.split("-")[0]
            yield f"{alg}-by-{secret_name}", token(header={"alg": alg, "kid": kid}, sign=hs(secret, digest))
        yield f"RS256-by-hmac-of-{secret_name}", token(header={"alg": "RS256", "kid": "rsa"}, sign=hs(secret))
    for alg in ("none", "None", "NONE", "nOnE", ""):
        for kid in ("rsa", "ec", "ed"):
            yield f"{alg!r}-{kid}", token(header={"alg": alg, "kid": kid}, sign=constant(b""))
    for alg, kid, sign in (("RS256", "rsa", rs()), ("ES256", "ec", es()), ("EdDSA", "ed", ED_KEY.sign)):
        for wrong in ("rsa", "ec", "ed", "unknown", "RSA", "../rsa", "", "rsa\x00", "https://evil.example"):
            if wrong == kid:
                continue
            yield f"{alg}-kid-{wrong!r}", token(header={"alg": alg, "kid": wrong}, sign=sign)
        for member in ("jku", "x5u", "jwk", "x5c"):
            yield f"{alg}-{member}", token(header={"alg": alg, "kid": kid, member: "https://evil.example"}, sign=sign)
        for size in (0, 1, 32, 63, 64, 65, 128, 256, 512):
            for byte in (0, 255):
                header = {"alg": alg, "kid": kid}
                yield f"{alg}-{size}-bytes-of-{byte}", token(header=header, sign=constant(bytes([byte]) * size))
        yield f"{alg}-expired", token(claims(exp=NOW - 6), {"alg": alg, "kid": kid}, sign)
        yield f"{alg}-other-audience", token(claims(aud="x"), {"alg": alg, "kid": kid}, sign)


def against_each_kind() -> Iterator[tuple[str, str]]:
    right = {"alg": "RS256", "kid": "rsa"}
    yield "RS256-by-another-key", token(header=right, sign=rs(RSA_OTHER))
    yield "RS256-signed-by-PS256", token(header=right, sign=ps)
    yield "RS256-signed-by-sha1-in-name", token(header=right | {"alg": "RS1"}, sign=rs())
    yield "RS512-not-configured", token(header=right | {"alg": "RS512"}, sign=rs(digest=hashes.SHA512()))
    yield "PS256-not-configured", token(header=right | {"alg": "PS256"}, sign=ps)
    curve = {"alg": "ES256", "kid": "ec"}
    for name, sign in {
        "r-s-zero": pair(0),
        "r-s-one": pair(1),
        "r-s-order": pair(P256_ORDER),
        "r-zero": pair(0, 1),
        "s-zero": pair(1, 0),
        "r-order-s-one": pair(P256_ORDER, 1),
        "r-s-largest": pair(2**256 - 1),
        "der": lambda data: EC_KEY.sign(data, ec.ECDSA(hashes.SHA256())),
        "sha512": es(digest=hashes.SHA512()),
        "another-key": es(ec.generate_private_key(ec.SECP256R1())),
        "another-curve": es(ec.generate_private_key(ec.SECP384R1())),
    }.items():
        yield f"ES256-{name}", token(header=curve, sign=sign)
    yield (
        "EdDSA-another-key",
        token(header={"alg": "EdDSA", "kid": "ed"}, sign=ed25519.Ed25519PrivateKey.generate().sign),
    )
    yield "EdDSA-neutral-point", token(header={"alg": "EdDSA", "kid": "ed"}, sign=constant(b"\x01" + bytes(63)))
    for alg in ("RS256", "ES256", "EdDSA"):
        yield f"{alg}-by-the-hmac-secret", token(header={"alg": alg}, sign=hs())


FORGED_ASYMMETRIC = dict((*asymmetric(), *against_each_kind()))


def test_there_are_as_many_kinds_of_forgery_as_promised() -> None:
    assert len(FORGED_ASYMMETRIC) >= 234


def by_jwks(
    *jwks: dict[str, Any], algorithms: Sequence[str] = PUBLIC_ALGORITHMS
) -> tuple[Verifier, Jwks, list[httpx2.Request]]:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"keys": list(jwks)})

    keys = Jwks(URL, transport=httpx2.MockTransport(answer), clock=lambda: 0.0)
    judge = Verifier(keys=keys, algorithms=algorithms, issuer=ISSUER, audience=AUDIENCE, clock=lambda: NOW)
    return judge, keys, asked


@pytest.mark.parametrize("name", FORGED_ASYMMETRIC)
async def test_a_token_forged_against_public_keys_is_refused(name: str) -> None:
    judge, keys, asked = by_jwks(RSA_JWK, EC_JWK, ED_JWK)
    with pytest.raises(Refused) as caught:
        await judge.verify(FORGED_ASYMMETRIC[name])
    assert (str(caught.value), judge.recall(FORGED_ASYMMETRIC[name])) == (Refused.advice, None)
    assert {str(request.url) for request in asked} <= {URL}, "a token sent us elsewhere"
    assert len(asked) <= 1
    await keys.aclose()


@pytest.mark.parametrize(
    ("alg", "kid", "sign"),
    [("RS256", "rsa", rs()), ("ES256", "ec", es()), ("EdDSA", "ed", ED_KEY.sign), ("PS256", "rsa", ps)],
    ids=["RS256", "ES256", "EdDSA", "PS256"],
)
async def test_a_good_token_of_a_public_key_passes(alg: str, kid: str, sign: Sign) -> None:
    judge, keys, _ = by_jwks(RSA_JWK, EC_JWK, ED_JWK, algorithms=[alg])
    text = token(header={"alg": alg, "kid": kid}, sign=sign)
    actor = await judge.verify(text)
    assert (actor.subject, judge.recall(text)) == ("alice", actor)
    await keys.aclose()


@pytest.mark.parametrize("name", public_texts())
def test_a_public_key_cannot_be_configured_as_a_secret(name: str) -> None:
    if name.endswith("base64"):
        return  # not told from a secret; as one it verifies nothing that a key pair signed
    with pytest.raises(ValueError, match="token secret"):
        Verifier(secrets=[public_texts()[name]], algorithms=["HS256"])
