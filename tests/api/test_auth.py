"""What a verifier remembers, forgets and refuses to be built with; which header a token is read from."""

from __future__ import annotations

from typing import Any

import pytest

from sessionmanager.api.identity import verifier as verifying
from sessionmanager.api.identity.claims import Refused
from sessionmanager.api.identity.verifier import Verifier, bearer
from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.core.tokens.revocations import Revocations
from sessionmanager.errors import Unauthenticated
from sessionmanager.model.roles import Actor
from tests.support.forge import NOW, SECRET, claims, head, hs, token
from tests.support.identity import Clock
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

OTHER = b"another-secret-of-more-than-32-bytes-Zq"


def verifier(clock: Clock | None = None, **changes: Any) -> Verifier:
    settings: dict[str, Any] = {"secrets": [SECRET], "algorithms": ["HS256"], "clock": clock or Clock()}
    return Verifier(**(settings | changes))


class NoKeys:
    epoch: int | None = None

    def __repr__(self) -> str:
        return "NoKeys"  # without an address: parameter ids must be the same in each process

    async def find(self, algorithm: str, kid: str | None) -> list[Any]:
        return []


# -- what it is built with


@pytest.mark.parametrize(
    "settings",
    [
        {"secrets": []},
        {"secrets": [SECRET], "keys": NoKeys()},
        {"secrets": [SECRET, OTHER, SECRET + b"3"]},
        {"secrets": [b""]},
        {"secrets": [b"x" * 31]},
        {"secrets": [SECRET, b"short"]},
        {"secrets": [b"changeme"]},
        {"secrets": [b"changeme" * 4]},
        {"secrets": [b"CHANGE-ME_change.me!change-me#change-me"]},
        {"secrets": [b"your-256-bit-secret-your-256-bit-secret"]},
        {"secrets": [b"a-string-secret-at-least-256-bits-long"]},
        {"secrets": [b"supersecretpassword1234567890123"]},
        {"algorithms": ["RS256"]},
        {"algorithms": ["HS256", "RS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"algorithms": ["HS512"]},
        {"secrets": (), "keys": NoKeys(), "algorithms": ["HS256"]},
        {"secrets": (), "keys": NoKeys(), "algorithms": ["ES256K"]},
        {"leeway_seconds": -1},
        {"leeway_seconds": 61},
        {"leeway_seconds": float("nan")},
        {"issuer": ""},
        {"audience": ""},
    ],
    ids=str,
)
def test_settings_that_are_not_safe_stop_the_start_and_are_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the point is that every one of them says something else
        verifier(**settings)
    for secret in settings.get("secrets", ()):
        assert len(secret) < 8 or secret.decode() not in str(caught.value)


def test_a_secret_that_only_contains_a_known_word_is_fine() -> None:
    assert verifier(secrets=[b"default-9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c"])


async def test_a_longer_digest_needs_a_longer_secret_and_then_works() -> None:
    secret = SECRET + OTHER
    judge = verifier(secrets=[secret], algorithms=["HS512"])
    assert (await judge.verify(token(header=head(alg="HS512"), sign=hs(secret, "sha512")))).subject == "alice"


# -- what a token says


async def test_the_actor_is_what_the_token_says() -> None:
    text = token(claims(roles=["participant", "viewer"], sid="call-1", pid="p1", jti="j1", iat=NOW - 1, exp=NOW + 9))
    assert await verifier().verify(text) == Actor(
        tenant="acme",
        subject="alice",
        roles=frozenset({"participant", "viewer"}),
        sid="call-1",
        pid="p1",
        jti="j1",
        expires_at=NOW + 9,
        issued_at=NOW - 1,
    )


async def test_issuer_and_audience_are_not_checked_unless_configured() -> None:
    assert await verifier().verify(token(claims(iss=["x"], aud=7)))


async def test_every_refusal_is_the_same_error_with_the_same_text() -> None:
    texts = ["", "a.b.c", token(claims(exp=0)), token(sign=hs(OTHER)), token(claims(sub=""))]
    seen: set[tuple[str, str]] = set()
    for text in texts:
        with pytest.raises(Unauthenticated) as caught:
            await verifier().verify(text)
        seen.add((caught.value.type, str(caught.value)))
    assert len(seen) == 1


# -- remembering


async def test_a_token_is_recalled_only_after_it_was_verified() -> None:
    judge, text = verifier(), token()
    assert judge.recall(text) is None
    actor = await judge.verify(text)
    assert judge.recall(text) is actor
    assert judge.recall(text[:-1]) is None
    assert judge.recall(text + " ") is None


@pytest.mark.parametrize("after_seconds", [605.0, 605.001, 10**6])
async def test_a_remembered_token_ends_when_it_expires(after_seconds: float) -> None:
    clock = Clock()
    judge, text = verifier(clock), token(claims(exp=NOW + 600))
    await judge.verify(text)
    clock.now = NOW + 604.9
    assert judge.recall(text) is not None
    clock.now = NOW + after_seconds
    assert judge.recall(text) is None
    with pytest.raises(Refused, match="may have run out"):
        await judge.verify(text)


async def test_a_remembered_token_is_not_taken_by_a_clock_that_went_back_before_it() -> None:
    clock = Clock()
    judge, text = verifier(clock), token(claims(iat=NOW, nbf=NOW))
    await judge.verify(text)
    clock.now = NOW - 3600
    assert judge.recall(text) is None


async def test_only_a_bounded_number_of_tokens_is_remembered_and_the_oldest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifying, "REMEMBERED_MAX", 3)
    judge = verifier()
    texts = [token(claims(sub=f"s{i}")) for i in range(4)]
    for text in texts[:3]:
        await judge.verify(text)
    assert judge.recall(texts[0])  # used again, so it is no longer the oldest
    await judge.verify(texts[3])
    assert [judge.recall(text) is not None for text in texts] == [True, False, True, True]


async def test_a_refused_token_is_not_remembered() -> None:
    judge = verifier()
    for _ in range(3):
        with pytest.raises(Refused):
            await judge.verify(token(sign=hs(OTHER)))
    assert judge.recall(token(sign=hs(OTHER))) is None


async def test_no_token_or_secret_shows_in_a_repr() -> None:
    judge, text = verifier(), token()
    await judge.verify(text)
    shown = f"{judge!r} {judge._parse(text)!r} {list(judge._known)!r}"
    assert SECRET.decode() not in shown
    assert not any(part in shown for part in text.split("."))


# -- rotation


async def test_during_a_rotation_both_secrets_verify_and_afterwards_the_old_one_does_not() -> None:
    judge = verifier(secrets=[OTHER, SECRET])
    old, new = token(), token(sign=hs(OTHER))
    assert await judge.verify(old)
    assert await judge.verify(new)
    afterwards = verifier(secrets=[OTHER])
    with pytest.raises(Refused):
        await afterwards.verify(old)
    assert await afterwards.verify(new)


def test_secrets_that_are_not_safe_make_no_verifier() -> None:
    for secrets in ([], [b"short"], [SECRET, OTHER, SECRET]):
        with pytest.raises(ValueError, match="secret"):
            verifier(secrets=secrets)


# -- revocation


async def test_a_revoked_token_is_refused_at_once_though_it_is_remembered() -> None:
    clock = Clock()
    revocations = Revocations(DictRecords(), clock=clock)  # type: ignore[arg-type]
    minter = TokenMinter(SECRET, revocations, clock=clock)
    admin = Actor("acme", "root", frozenset({"admin"}))
    judge = verifier(clock, revocations=revocations)
    made = minter.mint(admin, subject="alice", roles=["agent"], tenant="acme")
    other = minter.mint(admin, subject="alice", roles=["agent"], tenant="acme")
    assert await judge.verify(made.token)
    assert await judge.verify(other.token)
    await minter.revoke(admin, jti=made.jti)
    assert judge.recall(made.token) is None
    with pytest.raises(Refused) as caught:
        await judge.verify(made.token)
    assert caught.value.reason == "revoked"
    assert judge.recall(other.token)
    await minter.revoke(admin, subject="alice")
    assert judge.recall(other.token) is None
    clock.now += 0.01
    assert await judge.verify(minter.mint(admin, subject="alice", roles=["agent"], tenant="acme").token)


# -- the header


def test_the_token_is_read_from_the_one_authorization_header() -> None:
    headers = [(b"host", b"a"), (b"authorization", b"Bearer abc.def-_.ghi"), (b"accept", b"*/*")]
    assert bearer(headers) == "abc.def-_.ghi"
    assert bearer([(b"authorization", b"bEARER abc")]) == "abc"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer a b"],
        [b"Bearer a,b"],
        [b"Bearera"],
        [b"Basic YTpi"],
        [b"Token abc"],
        [b"abc"],
        [b"Bearer \xff"],
        [b"Bearer a\x00"],
        [b"Bearer a", b"Bearer a"],
        [b"Bearer a", b"Basic YTpi"],
        [b'Bearer "a"'],
        [b"Bearer token=a b"],
    ],
    ids=str,
)
def test_any_other_header_is_refused(values: list[bytes]) -> None:
    with pytest.raises(Refused) as caught:
        bearer([(b"authorization", value) for value in values])
    assert caught.value.reason == "header"
