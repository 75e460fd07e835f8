"""Public keys by JWKS: what is fetched, how often, what is taken from it, and what goes on when it is down."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from sessionmanager.api.identity import jwks
from sessionmanager.api.identity.claims import Refused
from sessionmanager.api.identity.jwks import FetchFailed, Jwks, read_keys
from sessionmanager.api.identity.verifier import Verifier
from sessionmanager.settings_checks import PUBLIC_ALGORITHMS
from tests.support.forge import NOW, token

pytestmark = pytest.mark.unit

URL = "https://id.example.com/jwks"
PRIVATE = {name: ed25519.Ed25519PrivateKey.generate() for name in ("old", "new")}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_JWK: dict[str, Any] = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa"}
ALL_RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def ed_jwk(name: str, **changes: Any) -> dict[str, Any]:
    public = OKPAlgorithm.to_jwk(PRIVATE[name].public_key(), as_dict=True)
    return public | {"kid": name, "use": "sig", "alg": "EdDSA"} | changes


def ec_jwk(curve: ec.EllipticCurve, **changes: Any) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True) | {"kid": "ec"} | changes


def signed(name: str, **header: Any) -> str:
    return token(header={"alg": "EdDSA", "kid": name} | header, sign=PRIVATE[name].sign)


class Provider:
    """An identity provider: its keys, its faults, and what it was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.keys: list[Any] = [ed_jwk("old")]
        self.fault: Callable[[], httpx2.Response] | None = None
        self.asked: list[httpx2.Request] = []
        self.arrived: asyncio.Queue[httpx2.Request] = asyncio.Queue()
        self.gate: asyncio.Event | None = None
        self.jwks = Jwks(URL, transport=httpx2.MockTransport(self.answer), clock=lambda: self.now)
        self.verifier = Verifier(keys=self.jwks, algorithms=PUBLIC_ALGORITHMS, clock=lambda: NOW)

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        self.arrived.put_nowait(request)
        if self.gate is not None:
            await self.gate.wait()
        return self.fault() if self.fault is not None else httpx2.Response(200, json={"keys": self.keys})

    async def passes(self, text: str) -> bool:
        try:
            return await self.verifier.verify(text) is not None
        except Refused:
            return False


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    yield made
    if made.gate is not None:
        made.gate.set()
    await made.jwks.aclose()


def refuses() -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def breaks() -> httpx2.Response:
    raise RuntimeError("a bug of the transport")


def gzipped() -> httpx2.Response:
    body = gzip.compress(json.dumps({"keys": [ed_jwk("new")]}).encode())
    return httpx2.Response(200, content=body, headers={"content-encoding": "gzip"})


FAULTS: dict[str, Callable[[], httpx2.Response]] = {
    "refuses": refuses,
    "breaks": breaks,
    "status-500": lambda: httpx2.Response(500, json={"keys": [ed_jwk("new")]}),
    "status-204": lambda: httpx2.Response(204),
    "redirect": lambda: httpx2.Response(302, headers={"location": "https://evil.example/jwks"}),
    "10-MB": lambda: httpx2.Response(200, content=b" " * 10_000_000),
    "just-over-64-KiB": lambda: httpx2.Response(
        200, content=json.dumps({"keys": [ed_jwk("new")]}).ljust(65_537).encode()
    ),
    "compressed": gzipped,
    "html": lambda: httpx2.Response(200, text="<html>"),
    "empty": lambda: httpx2.Response(200, content=b""),
    "array": lambda: httpx2.Response(200, json=[ed_jwk("new")]),
    "keys-no-array": lambda: httpx2.Response(200, json={"keys": {"new": ed_jwk("new")}}),
    "no-keys": lambda: httpx2.Response(200, json={"keys": []}),
    "no-usable-key": lambda: httpx2.Response(200, json={"keys": [ed_jwk("new", use="enc")]}),
    "65-keys": lambda: httpx2.Response(200, json={"keys": [ed_jwk("new")] * 65}),
    "deep": lambda: httpx2.Response(200, content=b"[" * 60_000),
    "utf-16": lambda: httpx2.Response(200, content=json.dumps({"keys": [ed_jwk("new")]}).encode("utf-16")),
}


# -- fetching


async def test_the_first_token_fetches_the_keys_and_the_next_ones_do_not(provider: Provider) -> None:
    assert all([await provider.passes(signed("old")) for _ in range(5)])
    assert [str(request.url) for request in provider.asked] == [URL]
    assert "authorization" not in provider.asked[0].headers


async def test_many_tokens_at_once_share_one_fetch(provider: Provider) -> None:
    provider.gate = asyncio.Event()
    waiting = [asyncio.create_task(provider.passes(signed("old", typ=kind))) for kind in ("JWT", "jwt", "at+jwt") * 10]
    await asyncio.wait_for(provider.arrived.get(), 5)
    waiting[0].cancel()
    provider.gate.set()
    results = await asyncio.gather(*waiting[1:])
    assert (all(results), len(provider.asked)) == (True, 1)


async def test_a_flood_of_unknown_key_ids_fetches_at_most_once_a_minute(provider: Provider) -> None:
    assert await provider.passes(signed("old"))
    for second in range(0, 121, 2):
        provider.now = 1000.0 + second
        for i in range(5):
            assert not await provider.passes(signed("new", kid=f"unknown-{second}-{i}"))
    assert len(provider.asked) == 3


async def test_an_address_that_is_down_is_asked_at_most_once_a_minute(provider: Provider) -> None:
    provider.fault = refuses
    with capture_logs() as told:
        for second in range(0, 180, 5):
            provider.now = 1000.0 + second
            assert not await provider.passes(signed("old"))
    assert len(provider.asked) == 3
    assert [(line["event"], line["reason"]) for line in told] == [("jwks.cannot_fetch", "ConnectError")]
    provider.fault = None
    provider.now += 60
    assert await provider.passes(signed("old"))


@pytest.mark.parametrize("fault", FAULTS)
async def test_keys_go_on_for_an_hour_while_the_address_fails_and_then_verify_nothing(
    provider: Provider, fault: str
) -> None:
    assert await provider.passes(signed("old"))
    provider.fault = FAULTS[fault]
    for second in (400, 1500, 3599):
        provider.now = 1000.0 + second
        assert await provider.passes(signed("old"))
        assert provider.verifier.recall(signed("old"))
        assert not await provider.passes(signed("new"))
    provider.now = 1000.0 + 3600
    assert provider.verifier.recall(signed("old")) is None
    assert not await provider.passes(signed("old"))
    assert {str(request.url) for request in provider.asked} == {URL}, "a redirect was followed"


async def test_an_address_that_never_answers_holds_a_token_no_longer_than_the_deadline(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_DEADLINE_SECONDS", 0.01)
    provider.gate = asyncio.Event()
    with capture_logs() as told:
        assert not await asyncio.wait_for(provider.passes(signed("old")), 5)
    assert [line["reason"] for line in told] == ["TimeoutError"]


async def test_keys_are_fetched_ahead_in_the_background_while_the_old_ones_are_used(provider: Provider) -> None:
    assert await provider.passes(signed("old"))
    provider.keys = [ed_jwk("old"), ed_jwk("new")]
    provider.gate = asyncio.Event()
    provider.now += 300
    assert provider.verifier.recall(signed("old")), "a recalled token waits for nothing"
    for _ in range(2):
        await asyncio.wait_for(provider.arrived.get(), 5)
    assert await provider.passes(signed("old"))
    provider.gate.set()
    await provider.jwks.refresh()
    assert await provider.passes(signed("new"))
    assert len(provider.asked) == 2


async def test_a_new_key_is_found_as_soon_as_a_token_names_it(provider: Provider) -> None:
    assert await provider.passes(signed("old"))
    provider.keys = [ed_jwk("new")]
    provider.now += 61
    assert await provider.passes(signed("new"))


async def test_tokens_of_a_key_that_was_removed_are_refused_though_they_are_remembered(provider: Provider) -> None:
    assert await provider.passes(signed("old"))
    provider.keys = [ed_jwk("new")]
    provider.now += 61
    await provider.jwks.refresh()
    assert provider.verifier.recall(signed("old")) is None
    assert not await provider.passes(signed("old"))


async def test_tokens_stay_remembered_when_the_same_keys_are_fetched_again(provider: Provider) -> None:
    assert await provider.passes(signed("old"))
    provider.now += 61
    await provider.jwks.refresh()
    assert len(provider.asked) == 2
    assert provider.verifier.recall(signed("old"))


async def test_closing_stops_a_fetch_under_way(provider: Provider) -> None:
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(provider.jwks.refresh())
    await asyncio.wait_for(provider.arrived.get(), 5)
    await provider.jwks.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# -- which key


async def test_without_a_key_id_the_only_fitting_key_is_used(provider: Provider) -> None:
    provider.keys = [ed_jwk("old"), RSA_JWK]
    assert await provider.passes(token(header={"alg": "EdDSA"}, sign=PRIVATE["old"].sign))


async def test_without_a_key_id_nothing_is_guessed_among_several(provider: Provider) -> None:
    provider.keys = [ed_jwk("old"), ed_jwk("new")]
    assert not await provider.passes(token(header={"alg": "EdDSA"}, sign=PRIVATE["old"].sign))


async def test_a_key_without_an_id_is_not_found_by_one(provider: Provider) -> None:
    nameless = ed_jwk("old")
    del nameless["kid"]
    provider.keys = [nameless]
    assert not await provider.passes(signed("old"))
    assert await provider.passes(token(header={"alg": "EdDSA"}, sign=PRIVATE["old"].sign))


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (RSA_JWK, ALL_RSA),
        (RSA_JWK | {"alg": "PS384"}, {"PS384"}),
        (RSA_JWK | {"use": "sig", "key_ops": ["verify"]}, ALL_RSA),
        (ec_jwk(ec.SECP256R1()), {"ES256"}),
        (ec_jwk(ec.SECP384R1()), {"ES384"}),
        (ec_jwk(ec.SECP521R1()), {"ES512"}),
        (ed_jwk("old"), {"EdDSA"}),
    ],
    ids=["rsa", "rsa-with-alg", "rsa-with-ops", "p-256", "p-384", "p-521", "ed25519"],
)
def test_a_key_fits_only_the_algorithms_of_its_type(entry: dict[str, Any], algorithms: set[str]) -> None:
    (key,) = read_keys(json.dumps({"keys": [entry]}).encode())
    assert key.algorithms == algorithms


WEAK_RSA = RSAAlgorithm.to_jwk(
    rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True
)
UNUSABLE: dict[str, Any] = {
    "not-an-object": "key",
    "null": None,
    "no-type": {"kid": "a"},
    "symmetric": HMACAlgorithm.to_jwk(b"a" * 32, as_dict=True),
    "symmetric-alg-on-rsa": RSA_JWK | {"alg": "HS256"},
    "none-alg": RSA_JWK | {"alg": "none"},
    "alg-of-another-type": RSA_JWK | {"alg": "ES256"},
    "alg-no-text": RSA_JWK | {"alg": ["RS256"]},
    "for-encryption": RSA_JWK | {"use": "enc"},
    "use-null": RSA_JWK | {"use": None},
    "ops-sign": RSA_JWK | {"key_ops": ["sign"]},
    "ops-text": RSA_JWK | {"key_ops": "verify"},
    "kid-number": RSA_JWK | {"kid": 1},
    "private-rsa": RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True) | {"key_ops": ["verify"]},
    "private-ed": OKPAlgorithm.to_jwk(PRIVATE["old"], as_dict=True),
    "rsa-1024": WEAK_RSA,
    "rsa-exponent-1": RSA_JWK | {"e": "AQ"},
    "rsa-exponent-even": RSA_JWK | {"e": "AQAC"},
    "rsa-huge": RSA_JWK | {"n": "_" * 40_000},
    "rsa-no-base64": RSA_JWK | {"n": "!!"},
    "rsa-no-modulus": {"kty": "RSA", "e": "AQAB"},
    "ec-secp256k1": ec_jwk(ec.SECP256K1()),
    "ec-not-on-curve": ec_jwk(ec.SECP256R1()) | {"x": "A" * 43},
    "ec-numbers": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
    "ed448": OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True),
    "ed-short": ed_jwk("old", x="AAAA"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_is_not_for_checking_signatures_is_passed_over(name: str) -> None:
    with pytest.raises(FetchFailed, match="no usable key"):
        read_keys(json.dumps({"keys": [UNUSABLE[name]]}).encode())
    (key,) = read_keys(json.dumps({"keys": [UNUSABLE[name], ed_jwk("old")]}).encode())
    assert key.kid == "old"


# -- the address


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.com/.well-known/jwks.json",
        "https://id.example.com:8443/a?b=c",
        "http://127.0.0.1:8080/jwks",
        "http://localhost/jwks",
        "http://[::1]:1/jwks",
        "http://127.8.8.8/jwks",
    ],
)
async def test_a_safe_address_is_taken(url: str) -> None:
    await Jwks(url).aclose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example.com",
        "/jwks",
        "https://",
        "http://id.example.com/jwks",
        "http://localhost.evil.example/jwks",
        "http://10.0.0.1/jwks",
        "http://169.254.169.254/jwks",
        "ftp://id.example.com/jwks",
        "file:///etc/passwd",
        "https://user:hunter2@id.example.com/jwks",
        "http://127.0.0.1@evil.example/jwks",
        "https://id.example.com/jwks#a",
        "https://[broken/jwks",
        "data:application/json,{}",
    ],
)
def test_an_unsafe_address_stops_the_start_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="JWKS address") as caught:
        Jwks(url)
    assert "hunter2" not in str(caught.value)


async def test_plain_http_elsewhere_needs_an_explicit_setting() -> None:
    await Jwks("http://id.internal/jwks", allow_http=True).aclose()
    with pytest.raises(ValueError, match="https"):
        Jwks("ftp://id.internal/jwks", allow_http=True)
