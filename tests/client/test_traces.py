"""A request carries the trace of whoever makes it (W3C Trace Context), and nothing where nobody traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from sessionmanager import errors
from sessionmanager.client import NEVER, AsyncClient, Client
from sessionmanager.client.client import trace_headers
from sessionmanager.tracing.spans import Attributes, Kind, Span, span, trace_by
from tests.client.scripted import Script, answer, client_of, refusal

pytestmark = pytest.mark.contract

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=1"
PATIENCE_SECONDS = 20.0
RECEIPT: dict[str, Any] = {"id": "s", "version": 2, "status": "active", "seqs": [2], "duplicates": []}


class Mine:
    """A tracer whose spans are all one."""

    trace_id = None

    def begin(self, name: str, kind: Kind, parent: Span | None, headers: Mapping[str, str] | None) -> Mine:
        return self

    def finished(self, name: str, parent: Span, seconds: float, attributes: Attributes, *, failed: bool) -> None: ...

    def headers(self) -> dict[str, str]:
        return {"traceparent": PARENT, "tracestate": STATE}

    def named(self, name: str, attributes: Attributes) -> None: ...

    def end(self, *, failed: bool) -> None: ...


@pytest.fixture
async def tracing() -> AsyncIterator[Callable[[], None]]:
    yield lambda: trace_by(Mine())
    trace_by(None)


async def test_a_call_tells_the_span_at_hand_in_each_of_its_tries(tracing: Callable[[], None]) -> None:
    tracing()
    script = Script(refusal(errors.Contended()), answer(RECEIPT))
    async with client_of(script, tries_max=3) as client:
        with span("turn"):
            await client.append("s", [{"type": "message", "role": "user", "content": "hi"}])
        await client.append("s", [{"type": "message", "role": "user", "content": "hi"}])
    told = [(one.headers.get("traceparent"), one.headers.get("tracestate")) for one in script.seen]
    assert told == [(PARENT, STATE), (PARENT, STATE), (None, None)]


async def test_where_nobody_traces_nothing_is_told() -> None:
    script = Script(answer(RECEIPT))
    async with client_of(script) as client:
        with span("turn"):
            await client.append("s", [{"type": "message", "role": "user", "content": "hi"}])
    assert "traceparent" not in script.seen[0].headers


async def test_a_trace_that_the_caller_names_itself_is_the_one_that_is_told(tracing: Callable[[], None]) -> None:
    tracing()
    script = Script(answer(RECEIPT))
    other = PARENT.replace("b7", "b8")
    async with client_of(script) as client:
        with span("turn"):
            await client.call("POST", "/sessions/s/entries", body={}, headers={"Traceparent": other})
            assert trace_headers({"x": "y"}) == {"traceparent": PARENT, "tracestate": STATE}
    assert script.seen[0].headers.get_list("traceparent") == [other]
    assert "tracestate" not in script.seen[0].headers


@pytest.mark.parametrize("way", ["feed", "socket", "no loop"])
async def test_feeds_sockets_and_the_client_without_a_loop_tell_it_too(tracing: Callable[[], None], way: str) -> None:
    """What comes in at a door that takes the head of a request and hangs up."""
    tracing()
    came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not came.done():
            came.set_result(head)
        writer.close()

    door = await asyncio.start_server(take, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{door.sockets[0].getsockname()[1]}"
    async with door, AsyncClient(address, "t0ken", retry=NEVER) as client:
        with span("turn"):
            going = asyncio.create_task(WAYS[way](client, address))
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await came
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    assert f"traceparent: {PARENT}\r\n".encode() in head.lower()


async def _feed(client: AsyncClient, address: str) -> None:
    await anext(client.events("s", after=0))


async def _socket(client: AsyncClient, address: str) -> None:
    async with client.socket("s", after=0) as one:
        await anext(one)


async def _no_loop(client: AsyncClient, address: str) -> None:
    def ask() -> None:
        with Client(address, "t0ken", retry=NEVER) as plain, suppress(errors.SessionManagerError):
            plain.get("s")

    await asyncio.to_thread(ask)


WAYS = {"feed": _feed, "socket": _socket, "no loop": _no_loop}
