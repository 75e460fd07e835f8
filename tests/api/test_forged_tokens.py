"""No forged token passes: each kind by its name, beside controls that must. See reliability.md part 6, P14."""

from __future__ import annotations

import builtins
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessionmanager.api.identity.claims import Refused
from sessionmanager.api.identity.verifier import Verifier
from tests.support.forge import AUDIENCE, ISSUER, NOW, SECRET, claims, head, token
from tests.support.forgeries import FORGED, GENERATORS, REASONS

pytestmark = pytest.mark.unit

CONTROLS = {
    "plain": token(),
    "without-typ": token(header=head(typ=...)),
    "typ-in-small-letters": token(header=head(typ="jwt")),
    "an-access-token": token(header=head(typ="at+JWT")),
    "with-a-key-id": token(header=head(kid="2026-11")),
    "with-a-thumbprint": token(header=head(x5t="abc")),
    "with-nbf": token(claims(nbf=NOW - 1)),
    "nbf-within-the-leeway": token(claims(nbf=NOW + 4)),
    "iat-within-the-leeway": token(claims(iat=NOW + 4)),
    "exp-within-the-leeway": token(claims(exp=NOW - 4)),
    "exp-as-a-whole-number": token(claims(exp=int(NOW) + 5)),
    "for-several-audiences": token(claims(aud=["other", AUDIENCE])),
    "of-several-roles": token(claims(roles=["agent", "viewer"])),
    "bound": token(claims(roles=["participant"], sid="call-1", pid="p1", jti="j1")),
    "of-all-tenants": token(claims(tenant="*", roles=["admin"])),
    "with-claims-of-others": token(claims(scope="a b", email="a@example.com", nested={"a": [1, None]})),
    "subject-beyond-ascii": token(claims(sub="ålice ünïcode")),
    "longest-names": token(claims(sub="a" * 255, tenant="a" * 64)),
    "white-space-in-json": token(json.dumps(claims(), indent=2).encode()),
}


def verifier(**changes: Any) -> Verifier:
    settings: dict[str, Any] = {
        "secrets": [SECRET],
        "algorithms": ["HS256"],
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "clock": lambda: NOW,
    }
    return Verifier(**(settings | changes))


async def refuse(judge: Verifier, text: str) -> str:
    """Nobody takes it, twice, and the answer says nothing."""
    for _ in range(2):
        assert judge.recall(text) is None
        with pytest.raises(Refused) as caught:
            await judge.verify(text)
        assert (str(caught.value), caught.value.members()) == (Refused.advice, {})
    return caught.value.reason


def test_there_are_as_many_kinds_of_forgery_as_promised() -> None:
    assert len(FORGED) >= 234


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_token_is_refused(name: str) -> None:
    await refuse(verifier(), FORGED[name])


@pytest.mark.parametrize("generator", GENERATORS, ids=[each.__name__ for each in GENERATORS])
async def test_each_forgery_is_refused_for_what_is_wrong_with_it(
    generator: Callable[[], Iterator[tuple[str, str]]],
) -> None:
    assert {await refuse(verifier(), text) for _, text in generator()} == REASONS[generator]


@pytest.mark.parametrize("name", CONTROLS)
async def test_a_good_token_passes(name: str) -> None:
    judge = verifier()
    actor = await judge.verify(CONTROLS[name])
    assert judge.recall(CONTROLS[name]) == actor


async def test_no_token_makes_the_service_read_a_file_or_open_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"a token made the service reach out: {args}")

    judge = verifier()
    monkeypatch.setattr(builtins, "open", forbid)
    monkeypatch.setattr(socket.socket, "connect", forbid)
    monkeypatch.setattr(socket, "getaddrinfo", forbid)
    reasons = [
        await refuse(judge, text) for name, text in FORGED.items() if name.startswith(("kid", "jku", "x5u", "jwk"))
    ]
    assert len(reasons) > 30
