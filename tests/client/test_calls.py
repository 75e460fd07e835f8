"""Calls through the clients, on the real service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessionmanager.client import AsyncClient, Client
from sessionmanager.errors import Full, IllegalTransition, NotFound
from tests.support.live import live

pytestmark = pytest.mark.contract

ANNA = "+12025550123"


@pytest.fixture
async def service() -> Any:
    async with live() as running:
        yield running


async def test_a_gateway_follows_a_leg_from_its_first_sign_to_its_end(service: Any) -> None:
    async with AsyncClient(service.address, service.token("bridge")) as client:
        opened = await client.open_call("twilio", gateway_call_id="CA1", caller=ANNA, session={"labels": ["vip"]})
        assert opened.session_made
        again = await client.open_call("twilio", gateway_call_id="CA1")
        assert (again.call.id, again.session_made) == (opened.call.id, False)
        cid, session = opened.call.id, client.session(opened.session_id)
        assert (await client.report_call(cid, state="ringing")).state == "ringing"
        assert (await session.change_call(cid, state="active", metadata={"codec": "opus"})).answered_at is not None
        second = await session.add_call("sip", gateway_call_id="b@2", direction="outbound")
        assert [call.id for call in await session.calls()] == [cid, second.call.id]
        with pytest.raises(IllegalTransition):
            await client.report_call(cid, state="ringing")
        done = await session.end_call(cid, reason="transferred", ended_by="system")
        assert (done.state, done.end_reason, done.metadata) == ("ended", "transferred", {"codec": "opus"})
        assert (await client.get_call(cid)) == done
        assert (await client.lookup(caller=f"tel:{ANNA}")).id == session.id
        assert [call.id async for call in client.all_calls(session=session.id, limit=1)] == [second.call.id, cid]
        assert [call.id for call in (await client.list_calls(state="ended")).items] == [cid]
        with pytest.raises(NotFound):
            await client.get_call("call_none")
        events = [entry.data["event"] for entry in (await client.entries(session.id, type="call")).items]
        assert events == ["opened", "ringing", "answered", "opened", "ended"]


async def test_what_a_call_made_is_read_through_the_same_client(service: Any) -> None:
    async with AsyncClient(service.address, service.token("bridge")) as client:
        opened = await client.open_call("audiocodes", gateway_call_id="v1", session_id="conv-1")
        found = await client.get("conv-1")
        assert found.version >= opened.version
        assert [call.id for call in found.calls] == [opened.call.id]
        for number in range(15):
            await client.add_call("conv-1", "sip", gateway_call_id=str(number))
        with pytest.raises(Full):
            await client.add_call("conv-1", "sip", gateway_call_id="too many")


async def test_records_go_on_from_their_cursor(service: Any) -> None:
    async with AsyncClient(service.address, service.token("bridge")) as client:
        for number in range(3):
            opened = await client.open_call("sip", gateway_call_id=str(number))
            await client.end_call(opened.session_id, opened.call.id)
        async with asyncio.timeout(30):
            while True:
                if (await client.export_calls("ndjson")).data.count(b"\n") == 3:
                    break
                await asyncio.sleep(0.05)
        page = await client.export_calls("csv", limit=2)
        assert page.more
        rest = await client.export_calls("csv", limit=2, cursor=page.cursor)
        assert (rest.more, (page.data + rest.data).count(b"\r\n")) == (False, 4)
        later = await client.export_calls("csv", cursor=rest.cursor)
        assert (later.data, later.cursor, later.more) == (b"", rest.cursor, False)
        assert later.complete_until >= page.complete_until


async def test_the_blocking_client_has_calls_too(service: Any) -> None:
    def follow() -> str:
        with Client(service.address, service.token("bridge")) as client:
            opened = client.open_call("webrtc", caller=ANNA, key="peer-1")
            client.session(opened.session_id).end_call(opened.call.id)
            return next(iter(client.all_calls())).state

    assert await asyncio.to_thread(follow) == "ended"
