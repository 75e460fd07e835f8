"""You read what you wrote, on any replica; answers are typed, and lists go on to their end."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from sessionmanager import errors
from sessionmanager.client import NotOurs
from sessionmanager.client.caller import Versions
from tests.client.scripted import Script, answer, client_of, refusal

pytestmark = pytest.mark.unit

AT = "2026-11-21T13:07:39.123Z"


def session(version: int) -> dict[str, Any]:
    return {"id": "a", "version": version, "status": "active", "placement": "warm", "created_at": AT,
            "updated_at": AT, "last_activity": AT}  # fmt: skip


def receipt(version: int) -> httpx2.Response:
    return answer({"id": "a", "version": version, "status": "active"}, etag=f'"v{version}"')


async def test_an_answer_older_than_the_last_write_is_asked_for_again_with_its_version() -> None:
    script = Script(receipt(7), answer(session(6), etag='"v6"'), answer(session(8), etag='"v8"'))
    async with client_of(script) as client:
        await client.suspend("a")
        assert (await client.get("a")).version == 8
    assert "min-version" not in script.seen[1].headers
    assert script.seen[2].headers["min-version"] == "7"


async def test_an_answer_that_is_new_enough_costs_no_second_request() -> None:
    script = Script(receipt(7), answer(session(7), etag='"v7"'))
    async with client_of(script) as client:
        await client.suspend("a")
        assert (await client.get("a")).version == 7
    assert len(script.seen) == 2


async def test_a_session_that_was_just_made_is_not_missing_on_another_replica() -> None:
    script = Script(answer(session(1), 201, etag='"v1"'), refusal(errors.NotFound()), answer(session(1), etag='"v1"'))
    async with client_of(script) as client:
        await client.create(id="a")
        assert (await client.get("a")).version == 1
    assert script.seen[2].headers["min-version"] == "1"


async def test_a_session_that_never_was_is_asked_for_once() -> None:
    script = Script(refusal(errors.NotFound()))
    async with client_of(script) as client:
        with pytest.raises(errors.NotFound):
            await client.get("a")
    assert len(script.seen) == 1


async def test_a_service_that_went_back_is_told_once_and_then_read_as_it_is() -> None:
    script = Script(
        receipt(7), answer(session(3), etag='"v3"'), refusal(errors.MinVersionAhead(3)), answer(session(3), etag='"v3"')
    )
    async with client_of(script) as client:
        await client.suspend("a")
        with pytest.raises(errors.MinVersionAhead):
            await client.get("a")
        assert (await client.get("a")).version == 3


async def test_a_client_for_another_token_reads_what_this_one_wrote() -> None:
    script = Script(receipt(7), answer(session(6), etag='"v6"'), answer(session(7), etag='"v7"'))
    async with client_of(script) as client:
        await client.suspend("a")
        await client.with_token("other").get("a")
    assert script.seen[1].headers["authorization"] == "Bearer other"
    assert script.seen[2].headers["min-version"] == "7"


def test_versions_only_grow_and_the_oldest_are_forgotten() -> None:
    versions = Versions(sessions_max=2)
    versions.wrote("a", 5)
    versions.wrote("a", 3)
    assert versions.get("a") == 5
    versions.wrote("b", 1)
    versions.wrote("a", 6)
    versions.wrote("c", 1)
    assert (versions.get("a"), versions.get("b"), versions.get("c")) == (6, 0, 1)


async def test_a_list_is_walked_to_its_end() -> None:
    pages = [{"items": [session(1), session(2)], "next_cursor": "c1"}, {"items": [session(3)], "next_cursor": None}]
    script = Script(*(answer(page) for page in pages))
    async with client_of(script) as client:
        versions = [one.version async for one in client.sessions(status="active", metadata={"queue": "billing"})]
    assert versions == [1, 2, 3]
    assert dict(script.seen[0].url.params) == {"status": "active", "metadata.queue": "billing", "limit": "200"}
    assert script.seen[1].url.params["cursor"] == "c1"


async def test_a_list_that_leads_in_a_circle_ends() -> None:
    script = Script(answer({"items": [], "next_cursor": "c1"}))
    async with client_of(script) as client:
        with pytest.raises(NotOurs):
            _ = [one async for one in client.history("a")]
    assert len(script.seen) == 2


async def test_free_json_that_no_float_holds_is_exact() -> None:
    body = json.dumps({**session(1), "context": "here"}).replace(
        '"here"', "[1e400, 1.5, 123456789012345678901234567890]"
    )
    script = Script(httpx2.Response(200, content=body.encode()))
    async with client_of(script) as client:
        assert (await client.get("a")).context == [Decimal("1e400"), 1.5, 123456789012345678901234567890]


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b'{"id": 1}'])
async def test_an_answer_of_another_shape_is_told_so(body: bytes) -> None:
    script = Script(httpx2.Response(200, content=body))
    async with client_of(script) as client:
        with pytest.raises(NotOurs):
            await client.get("a")


async def test_a_service_that_is_down_still_says_how_it_is() -> None:
    health = {"status": "down", "version": "1", "uptime_seconds": 2.0, "tiers": {"warm": {"status": "down"}}}
    script = Script(answer(health, 503, content_type="application/json"))
    async with client_of(script) as client:
        assert (await client.health()).tiers["warm"].status == "down"


async def test_neither_the_token_nor_what_is_said_is_in_what_a_client_shows_of_itself() -> None:
    script = Script(refusal(errors.Forbidden()))
    async with client_of(script, token="hunter2") as client:
        with pytest.raises(errors.Forbidden) as caught:
            await client.append("a", [{"type": "message", "role": "user", "content": "hunter3"}])
        assert "hunter" not in f"{client!r} {client.session('a')!r} {caught.value!r} {caught.value.__notes__}"
