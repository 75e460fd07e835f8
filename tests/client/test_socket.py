"""Feed and requests on one connection of the real service, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sessionmanager import errors
from sessionmanager.client import AsyncClient, Client, Entry, Resync, Signal, message, socket
from tests.client.proxy import proxy
from tests.support.live import Live, live

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def service() -> Any:
    async with live() as running:
        yield running


@asynccontextmanager
async def client_of(service: Live, address: str = "", token: Any = None) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(address or service.address, token or service.token()) as client:
        yield client


async def entries_of(one: socket.AsyncSocket, last: int) -> list[int]:
    seqs: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in one:
            if isinstance(event, Entry):
                seqs.append(event.seq)
                if event.seq >= last:
                    break
    return seqs


async def test_appends_signals_heartbeats_and_events_share_a_connection(service: Live) -> None:
    async with client_of(service) as client:
        made = await client.create(entries=[message("user", "hi")])
        joined = await client.attach(made.id, kind="agent", identity="bot")
        async with client.socket(made.id, after=0) as one:
            receipt = await one.append([message("user", "over the wire")])
            assert receipt.seqs == (5,)
            assert await entries_of(one, 5) == [1, 2, 3, 4, 5]
            assert (await one.heartbeat(joined.participant.id)).status == "attached"
            await one.ping()
            await one.signal("typing", {"a": 1})
            heard = await asyncio.wait_for(anext(one), PATIENCE_SECONDS)
            assert isinstance(heard, Signal)
            assert heard.data == {"a": 1}
            with pytest.raises(errors.Invalid):
                await one.append([{"type": "nonsense"}])
        assert (await client.get(made.id)).version == receipt.version


async def test_a_connection_that_is_cut_over_and_over_gives_each_entry_once_and_adds_each_once(service: Live) -> None:
    async with proxy(random.Random(3), drops=0.08) as front, client_of(service) as plain:
        front.upstream = service.address
        made = await plain.create()
        async with client_of(service, front.address) as client, client.socket(made.id, after=0) as one:
            following = asyncio.create_task(entries_of(one, 62))
            for n in range(60):
                await one.append([message("user", n)])
            assert await following == list(range(1, 63))
        said = [entry.content async for entry in plain.history(made.id, type="message")]
        assert said == list(range(60))
        assert front.dropped > 3


async def test_a_reader_that_does_not_read_is_not_waited_for_and_misses_nothing(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "EVENTS_MAX", 5)
    async with client_of(service) as client:
        made = await client.create()
        async with client.socket(made.id, after=0) as one:
            seen: list[int] = []
            for n in range(30):
                await one.append([message("user", n)])
                if n % 3 == 0:  # now and then, so that it falls behind more than once
                    seen += await entries_of(one, len(seen) + 1)
            assert seen + await entries_of(one, 32) == list(range(1, 33))


async def test_a_place_beyond_the_log_is_told(service: Live) -> None:
    async with client_of(service) as client:
        made = await client.create()
        async with client.socket(made.id, after=900) as one:
            event = await asyncio.wait_for(anext(one), PATIENCE_SECONDS)
            assert isinstance(event, Resync)
            await one.append([message("user", "x")])
            assert (await entries_of(one, 3))[-1] == 3


@pytest.mark.parametrize("token", [None, lambda: "no.such.token"], ids=["wrong session", "wrong token"])
async def test_what_is_refused_ends_it_for_events_and_requests_alike(service: Live, token: Any) -> None:
    async with client_of(service, token=token) as client, client.socket("no-such-session") as one:
        expected = errors.NotFound if token is None else errors.Unauthenticated
        for _ in range(2):
            with pytest.raises(expected):
                await asyncio.wait_for(anext(one), PATIENCE_SECONDS)
        with pytest.raises(expected):
            await one.append([message("user", "x")])


async def test_an_erased_session_ends_it(service: Live) -> None:
    async with client_of(service) as client:
        made = await client.create()
        async with client.socket(made.id) as one:
            await one.ping()
            await client.erase(made.id)
            with pytest.raises(errors.Erased):
                await asyncio.wait_for(anext(one), PATIENCE_SECONDS)


async def test_neither_tokens_nor_what_is_said_are_logged(service: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = service.token()
    async with client_of(service, token=token) as client:
        made = await client.create()
        async with client.socket(made.id) as one:
            await one.append([message("user", "hunter2")])
    mine = [record.getMessage() for record in caplog.records if record.name.split(".")[0] != "uvicorn"]
    assert not [text for text in mine if token in text or "hunter2" in text]


async def test_the_blocking_twin_has_it_too(service: Live) -> None:
    def run(address: str, token: str) -> list[int]:
        with Client(address, token) as client:
            session = client.session(client.create().id)
            with session.socket(after=0) as one:
                one.append([message("user", "hi")])
                return [event.seq for event in (next(one) for _ in range(3)) if isinstance(event, Entry)]

    assert await asyncio.to_thread(run, service.address, service.token()) == [1, 2, 3]
