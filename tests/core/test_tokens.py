"""Making tokens: what they say, and that none is above its maker."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.core.tokens.rules import check_secret
from sessionmanager.errors import Forbidden, Invalid, NotFound
from sessionmanager.model.roles import Actor
from tests.support.forge import NOW, SECRET
from tests.support.identity import ADMIN, House, actor

pytestmark = pytest.mark.unit

DAY = 86_400


@pytest.fixture
def house() -> House:
    return House()


def claims_of(text: str) -> dict[str, Any]:
    return jwt.decode(text, options={"verify_signature": False})


def test_a_token_says_what_was_asked_for_and_no_more(house: House) -> None:
    made = house.minter.mint(ADMIN, subject="alice", roles=["viewer", "agent"], tenant="acme", ttl_seconds=60)
    assert claims_of(made.token) == {
        "sub": "alice",
        "tenant": "acme",
        "roles": ["agent", "viewer"],
        "iat": NOW,
        "exp": NOW + 60,
        "jti": made.jti,
    }
    assert (made.expires_at, jwt.get_unverified_header(made.token)) == (NOW + 60, {"alg": "HS256", "typ": "JWT"})


def test_a_bound_token_names_its_session_participant_issuer_and_audience(house: House) -> None:
    minter = TokenMinter(SECRET, house.revocations, issuer="us", audience="here", clock=house.clock)
    made = minter.mint(ADMIN, subject="a", roles=["participant"], tenant="acme", sid="call-1", pid="p1")
    found = claims_of(made.token)
    assert {name: found[name] for name in ("sid", "pid", "iss", "aud")} == {
        "sid": "call-1",
        "pid": "p1",
        "iss": "us",
        "aud": "here",
    }
    assert found["exp"] - found["iat"] == 3600


def test_no_two_tokens_share_an_id_and_none_shows_in_a_repr(house: House) -> None:
    made = [house.minter.mint(ADMIN, subject="a", roles=["agent"], tenant="acme") for _ in range(100)]
    assert len({each.jti for each in made}) == 100
    assert made[0].token not in repr(made[0])
    assert made[0].token.split(".")[2] not in f"{made[0]}"


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"subject": ""}, ["/subject"]),
        ({"subject": "a" * 256}, ["/subject"]),
        ({"subject": "a\nb"}, ["/subject"]),
        ({"subject": "\ud800"}, ["/subject"]),
        ({"roles": []}, ["/roles"]),
        ({"roles": ["root"]}, ["/roles"]),
        ({"roles": "admin"}, ["/roles"]),
        ({"sid": ""}, ["/sid"]),
        ({"pid": "\x00"}, ["/pid"]),
        ({"ttl_seconds": 0.9}, ["/ttl_seconds"]),
        ({"ttl_seconds": 30 * DAY + 1}, ["/ttl_seconds"]),
        ({"ttl_seconds": float("nan")}, ["/ttl_seconds"]),
        ({"ttl_seconds": float("inf")}, ["/ttl_seconds"]),
        ({"ttl_seconds": -5, "subject": "", "roles": ["x"]}, ["/roles", "/subject", "/ttl_seconds"]),
        ({"roles": ["participant"]}, ["/sid"]),
    ],
    ids=str,
)
def test_a_request_with_wrong_fields_names_each_of_them(
    house: House, changes: dict[str, Any], pointers: list[str]
) -> None:
    asked: dict[str, Any] = {"subject": "a", "roles": ["agent"], "tenant": "acme"}
    with pytest.raises(Invalid) as caught:
        house.minter.mint(ADMIN, **(asked | changes))
    assert sorted(error.pointer for error in caught.value.errors) == pointers


@pytest.mark.parametrize("ttl_seconds", [1, 30 * DAY])
def test_a_life_may_be_as_short_and_as_long_as_the_bounds(house: House, ttl_seconds: int) -> None:
    made = house.minter.mint(ADMIN, subject="a", roles=["agent"], tenant="acme", ttl_seconds=ttl_seconds)
    assert made.expires_at == NOW + ttl_seconds


@pytest.mark.parametrize(
    ("maker", "asked", "error"),
    [
        (actor("operator"), {"roles": ["admin"]}, Forbidden),
        (actor("operator"), {"roles": ["agent"]}, Forbidden),
        (actor("agent"), {"roles": ["agent"]}, Forbidden),
        (actor("viewer"), {"roles": ["viewer"]}, Forbidden),
        (ADMIN, {"tenant": "other"}, NotFound),
        (ADMIN, {"tenant": "*", "roles": ["admin"]}, NotFound),
        (actor("admin", sid="call-1"), {}, Forbidden),
        (actor("admin", sid="call-1"), {"sid": "call-2"}, NotFound),
        (actor("admin", tenant="*"), {"tenant": "*", "roles": ["viewer"]}, Forbidden),
        (actor("admin", tenant="*"), {"tenant": "*", "roles": ["admin"], "sid": "call-1"}, Invalid),
        (actor("admin", tenant="*"), {"tenant": "../x"}, Invalid),
    ],
    ids=str,
)
def test_nobody_mints_above_or_beside_what_they_are(
    house: House, maker: Actor, asked: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        house.minter.mint(maker, **({"subject": "a", "roles": ["agent"], "tenant": "acme"} | asked))


def test_an_admin_of_all_tenants_mints_for_any_and_a_bound_admin_for_its_session(house: House) -> None:
    assert house.minter.mint(actor("admin", tenant="*"), subject="a", roles=["agent"], tenant="other").token
    assert house.minter.mint(
        actor("admin", sid="call-1"), subject="a", roles=["agent"], tenant="acme", sid="call-1"
    ).token


async def test_without_a_signing_key_minting_says_so_and_revoking_goes_on(house: House) -> None:
    minter = TokenMinter(None, house.revocations)
    with pytest.raises(Forbidden, match="no key to sign"):
        minter.mint(ADMIN, subject="a", roles=["agent"], tenant="acme")
    await minter.revoke(ADMIN, jti="j1")
    assert len(house.revocations) == 1


def test_a_minter_does_not_take_an_unsafe_secret(house: House) -> None:
    with pytest.raises(ValueError, match="too short"):
        TokenMinter(b"short", house.revocations)
    with pytest.raises(ValueError, match="placeholder"):
        check_secret(b"change-me-" * 4)
