"""An API key in the place of a token: in its own header, on every way to the service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessionmanager import errors
from sessionmanager.client import AsyncClient, Client, Entry, message
from sessionmanager.words import API_KEY_PREFIX
from tests.client.scripted import Script, answer
from tests.support.live import live

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 60.0
HEALTH: dict[str, Any] = {"status": "ok", "version": "1", "uptime_seconds": 1.0, "tiers": {}}


async def test_a_key_goes_in_its_own_header_and_a_token_as_bearer() -> None:
    script = Script(answer(HEALTH))
    async with AsyncClient("http://service", api_key="the-key", transport=script) as client:
        await client.call("GET", "/health")
        await client.with_token("a-token").call("GET", "/health")
    sent = [(seen.headers.get("x-api-key"), seen.headers.get("authorization")) for seen in script.seen]
    assert sent == [("the-key", None), (None, "Bearer a-token")]


async def test_a_key_is_known_where_a_token_stands_as_in_the_environment_of_a_bridge() -> None:
    script = Script(answer(HEALTH))
    async with AsyncClient("http://service", f"{API_KEY_PREFIX}0123", transport=script) as client:
        await client.call("GET", "/health")
    assert script.seen[0].headers["x-api-key"] == f"{API_KEY_PREFIX}0123"
    assert "authorization" not in script.seen[0].headers


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("given", [{}, {"token": "t", "api_key": "k"}])
def test_exactly_one_credential_says_who_calls(kind: Any, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of token and api_key"):
        kind("http://service", **given)


async def test_one_key_calls_follows_and_talks_over_a_socket_until_it_is_revoked() -> None:
    async with live() as service, AsyncClient(service.address, service.token()) as admin:
        made = await admin.make_api_key("bridge", ["agent"])
        async with AsyncClient(service.address, api_key=made.key) as client, asyncio.timeout(PATIENCE_SECONDS):
            session = client.session((await client.create(entries=[message("user", "one")])).id)
            async with session.events(after=0) as feed:
                first = await anext(feed)
                assert isinstance(first, Entry)
                assert first.seq == 1
            async with client.socket(session.id) as line:
                receipt = await line.append([message("user", "two")])
            assert (await session.get()).version == receipt.version
            await admin.revoke_api_key(made.id)
            with pytest.raises(errors.Unauthenticated):
                await session.get()


async def test_a_token_for_all_tenants_works_in_the_tenant_that_the_client_names_on_every_way() -> None:
    async with live() as service, asyncio.timeout(PATIENCE_SECONDS):
        everywhere = service.token("admin", tenant="*")
        async with AsyncClient(service.address, everywhere, tenant="acme") as client:
            session = client.session((await client.create(entries=[message("user", "one")])).id)
            async with session.events(after=0) as feed:
                assert isinstance(await anext(feed), Entry)
            async with client.socket(session.id) as line:
                await line.append([message("user", "two")])
            async with session.join(kind="agent", identity="bot") as me:
                await me.session.append([message("assistant", "three")])
        async with AsyncClient(service.address, service.token(tenant="acme")) as theirs:
            said = [entry.content async for entry in theirs.history(session.id, type="message")]
            assert said == ["one", "two", "three"]
        async with AsyncClient(service.address, everywhere) as nobodys:
            with pytest.raises(errors.Malformed, match="X-Tenant"):
                await nobodys.get(session.id)


def test_the_blocking_twin_takes_a_key_too() -> None:
    script = Script(answer({"items": [], "next_cursor": None}))
    with Client("http://service", api_key="the-key", transport=script) as client:
        assert client.api_keys() == ()
    assert script.seen[0].headers["x-api-key"] == "the-key"
