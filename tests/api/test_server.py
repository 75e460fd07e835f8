"""The server over raw sockets: half-sent, endless, oversized and two-faced requests are cut, and nothing else is."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from sessionmanager.api.dispatch import Dispatch, application
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Answer, Reply, json_reply
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.api.serving.protocol import PIPELINED_MAX, ServerBounds
from sessionmanager.api.serving.server import Server, make_server
from sessionmanager.wire.requests import AppendBody

pytestmark = pytest.mark.contract

HANG_SECONDS = 5.0
"""A test that waits so long has failed; it is no time that anything is expected to take."""
QUICK = ServerBounds(
    headers_seconds=0.2, body_idle_seconds=0.2, write_stall_seconds=0.2, keep_alive_seconds=1, shutdown_seconds=1
)
GET = b"GET /sessions/a HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"
POST = b"POST /sessions/a/entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"entries":[{"type":"error","content":1}]}'
BIG = b"x" * 8_000_000


class Seen:
    """What the handlers saw."""

    def __init__(self) -> None:
        self.begun = 0
        self.gone = asyncio.Event()
        self.blocked = asyncio.Event()
        self.release = asyncio.Event()


def an_application(seen: Seen) -> Starlette:
    async def get(exchange: Exchange) -> Answer:
        seen.begun += 1
        return json_reply(200, b'{"id":"a"}')

    async def append(exchange: Exchange) -> Answer:
        try:
            body = await exchange.read(AppendBody)
        except Exception as error:
            if type(error).__name__ == "ClientGone":
                seen.gone.set()
            raise
        return json_reply(201, b'{"n":%d}' % len(body.entries))

    async def big(exchange: Exchange) -> Answer:
        return Reply(200, BIG)

    async def block(exchange: Exchange) -> Answer:
        seen.blocked.set()
        await seen.release.wait()
        return Reply(204)

    async def anybody(exchange: Exchange) -> None:
        return None

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield

    def a_route(method: str, template: str, handler: Any, **more: Any) -> Route:
        shown = (Shown(200, "d"),)
        return Route(
            method=method, template=template, action="a", handler=handler, summary="s", answers=shown, open=True, **more
        )

    table = RouteTable(
        [
            a_route("GET", "/sessions/{id}", get),
            a_route("POST", "/sessions/{id}/entries", append, request=AppendBody),
            a_route("GET", "/big", big),
            a_route("GET", "/block", block),
        ]
    )
    return application(Dispatch(table, authorize=anybody), lifespan=lifespan)


@asynccontextmanager
async def serving(bounds: ServerBounds = QUICK) -> AsyncIterator[tuple[int, Seen, Server]]:
    """A server on a free port of the loopback, stopped at the end."""
    seen = Seen()
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = make_server(
        an_application(seen), port=0, bounds=bounds, on_listening=lambda host, port: listening.set_result(port)
    )
    task = asyncio.create_task(server._serve())  # without the signal handlers of `serve`
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield await listening, seen, server
    finally:
        seen.release.set()
        server.should_exit = True
        await asyncio.wait_for(task, HANG_SECONDS)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as (port, _seen, _server):
        yield port


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send all pieces, then read until the server closes; what it said. A reset after its answer counts as a close."""
    reader, writer = await connect(port)
    said = b""
    try:
        async with asyncio.timeout(HANG_SECONDS):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while piece := await reader.read(65536):
                said += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


async def until(holds: Callable[[], object]) -> None:
    """Let the server run until something holds that it has no event for; `serving` bounds the wait."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_request_is_answered_and_the_server_does_not_name_itself(port: int) -> None:
    said = await talk(port, LAST)
    assert statuses(said) == [200]
    assert b"server:" not in said.lower()
    assert said.endswith(b'{"id":"a"}')


async def test_a_connection_is_kept_for_the_next_request_in_pieces_or_at_once(port: int) -> None:
    assert statuses(await talk(port, GET + b"\r\n", GET[:20], GET[20:] + b"\r\n", LAST)) == [200] * 3
    assert statuses(await talk(port, (GET + b"\r\n") * 20 + LAST)) == [200] * 21
    appended = POST + b"Content-Length: %d\r\n\r\n" % len(BODY)
    assert statuses(await talk(port, appended + BODY[:9], BODY[9:] + appended, BODY, LAST)) == [201, 201, 200]


async def test_headers_that_stop_are_cut(port: int) -> None:
    stops = ((GET,), (b"G",), (b"\r\n",), (b"PRI * HTTP/2.0\r\n\r\n",), (GET + b"\r\n", GET))
    for said in await asyncio.gather(*(talk(port, *pieces) for pieces in stops)):
        assert statuses(said)[-1] == 408


async def test_a_connection_that_says_nothing_is_closed_without_a_word(port: int) -> None:
    assert await talk(port) == b""


async def test_headers_that_trickle_are_cut_though_they_never_stop(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(GET)
    loop = asyncio.get_running_loop()

    def trickle() -> None:
        if not writer.is_closing():
            writer.write(b"A: b\r\n")
            loop.call_later(0.02, trickle)

    trickle()
    assert statuses(await reader.read(65536)) == [408]
    writer.close()


@pytest.mark.parametrize(
    "head",
    [POST + b"Content-Length: 42\r\n\r\n" + BODY[:10], POST + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"ent'],
    ids=["by length", "by chunks"],
)
async def test_a_body_that_stops_is_cut_and_its_handler_is_told(head: bytes) -> None:
    async with serving() as (port, seen, _server):
        assert statuses(await talk(port, head)) == [408]
        await seen.gone.wait()


async def test_a_body_that_trickles_is_cut_though_it_never_stops(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(POST + b"Content-Length: 100000\r\n\r\n")
    loop = asyncio.get_running_loop()

    def trickle() -> None:
        if not writer.is_closing():
            writer.write(b" ")
            loop.call_later(0.02, trickle)

    trickle()
    assert statuses(await reader.read(65536)) == [408]
    writer.close()


async def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(port: int) -> None:
    by_length = POST + b"Content-Length: 2000000\r\n\r\n"
    assert statuses(await talk(port, by_length, BIG[:2_000_000], LAST)) == [413, 200]
    chunks = b"".join([b"40000\r\n" + BIG[:0x40000] + b"\r\n"] * 6) + b"0\r\n\r\n"
    assert statuses(await talk(port, POST + b"Transfer-Encoding: chunked\r\n\r\n", chunks, LAST)) == [413, 200]


async def test_a_connection_with_an_early_answer_is_kept_no_longer_than_others(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(POST + b"Content-Length: 2000000\r\n\r\n")
    assert statuses(await reader.read(65536)) == [413]
    writer.write(BIG[:2_000_000])
    assert await reader.read() == b""
    writer.close()


async def test_of_a_refused_body_only_so_much_is_read_away() -> None:
    async with serving(ServerBounds(discard_bytes_max=100_000, body_idle_seconds=60.0)) as (port, _seen, _server):
        reader, writer = await connect(port)
        writer.write(POST + b"Content-Length: 1000000000\r\n\r\n")
        assert statuses(await reader.read(65536)) == [413]
        with pytest.raises(ConnectionError):
            for _ in range(500):
                writer.write(BIG[:100_000])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


TWO_FACED = (
    POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    POST + b"Content-Length: 3, 3\r\n\r\nabc",
    POST + b"Content-Length: +3\r\n\r\nabc",
    POST + b"Content-Length: -3\r\n\r\nabc",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    GET + b"A: b\r\n folded\r\n\r\n",
    GET + b"A: b\x00c\r\n\r\n",
    GET + b"A: b\rB: c\r\n\r\n",
    GET + b": x\r\n\r\n",
    b"GET /sessions/a HTTP/1.1\nHost: x\n\n",
    b"GET /sessions/a HTTP/9.1\r\n\r\n",
    b"GET /sessions/\xff HTTP/1.1\r\n\r\n",
    b"GET /a b HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
OVERSIZED = (
    GET + b"A: " + b"b" * 20_000 + b"\r\n\r\n",
    GET + b"A: b\r\n" * 150 + b"\r\n",
    GET + (b"A: " + b"b" * 9_000 + b"\r\n") * 8 + b"\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
)


async def test_a_request_that_two_servers_could_read_differently_gets_400_and_a_close() -> None:
    async with serving() as (port, seen, _server):
        for request in TWO_FACED:
            said = await talk(port, request + LAST)
            assert statuses(said) == [400], request
            assert b"application/problem+json" in said
        assert seen.begun == 0


async def test_headers_over_a_bound_get_431_and_a_close(port: int) -> None:
    for request in OVERSIZED:
        assert statuses(await talk(port, request)) == [431], request[:80]
    # One that came before is answered first, and then the connection ends.
    assert statuses(await talk(port, GET + b"\r\n" + OVERSIZED[0])) == [200]


async def test_a_long_line_is_found_though_it_began_beside_another_request(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(GET + b"\r\n" + OVERSIZED[0][:12_000])
    assert statuses(await reader.read(65536)) == [200]
    writer.write(OVERSIZED[0][12_000:])
    assert statuses(await reader.read()) == [431]
    writer.close()


async def test_headers_that_never_end_are_not_collected_beyond_their_bound() -> None:
    async with serving(ServerBounds(headers_seconds=60.0, shutdown_seconds=1)) as (port, _seen, _server):
        _reader, writer = await connect(port)
        writer.write(GET + b"A: ")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                writer.write(BIG[:60_000])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


async def test_a_pipeline_is_bounded_and_what_was_taken_is_answered_in_order(port: int) -> None:
    answered = statuses(await talk(port, (GET + b"\r\n") * 1000))
    assert set(answered) == {200}
    assert PIPELINED_MAX <= len(answered) <= PIPELINED_MAX + 2


async def test_a_wrong_later_request_does_not_take_the_place_of_the_earlier_answer(port: int) -> None:
    assert statuses(await talk(port, GET + b"\r\nGARBAGE\r\n\r\n")) == [200]


async def test_another_protocol_is_not_spoken(port: int) -> None:
    for protocol in (b"websocket", b"h2c"):
        upgrade = GET + b"Connection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\nmore"
        assert statuses(await talk(port, upgrade)) == [200]


async def test_a_reader_that_takes_nothing_is_cut() -> None:
    async with serving() as (port, _seen, server):
        reader, writer = await connect(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await until(lambda: server.server_state.total_requests)
        await until(lambda: not server.server_state.connections)
        writer.close()
        del reader


async def test_a_slow_reader_that_goes_on_gets_everything() -> None:
    async with serving(ServerBounds(write_stall_seconds=0.3, headers_seconds=5.0)) as (port, _seen, _server):
        reader, writer = await connect(port)
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = 0
        while piece := await reader.read(400_000):
            got += len(piece)
            await asyncio.sleep(0.02)
        assert got > len(BIG)
        writer.close()


async def test_a_caller_who_resets_leaves_nothing_behind() -> None:
    async with serving() as (port, seen, server):
        _reader, writer = await connect(port)
        writer.write(POST + b"Content-Length: 42\r\n\r\n{")
        await writer.drain()
        await until(lambda: server.server_state.tasks)
        writer.transport.abort()
        await seen.gone.wait()
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)


async def test_too_many_requests_are_told_to_wait() -> None:
    async with serving(ServerBounds(connections_max=1)) as (port, seen, _server):
        _reader, writer = await connect(port)
        writer.write(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        await seen.blocked.wait()
        said = await talk(port, LAST)
        assert statuses(said) == [429]
        assert b"retry-after: 1" in said
        seen.release.set()
        writer.close()


async def test_a_stop_lets_requests_end_and_takes_no_new_ones() -> None:
    async with serving(ServerBounds(shutdown_seconds=5)) as (port, seen, server):
        reader, writer = await connect(port)
        writer.write(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        await seen.blocked.wait()
        server.should_exit = True
        await until(lambda: not server.servers[0].is_serving())
        with pytest.raises(ConnectionError):
            await connect(port)
        seen.release.set()
        assert statuses(await reader.read()) == [204]
        writer.close()


async def test_a_stop_is_told_once() -> None:
    told: list[str] = []
    server = make_server(an_application(Seen()), on_stopping=lambda: told.append("stop"))
    server.handle_exit(15, None)
    server.handle_exit(15, None)
    assert told == ["stop"]
    assert server.should_exit


async def test_bad_requests_write_no_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await talk(port, b"GARBAGE\r\n\r\n")
        await talk(port, GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert caplog.records == []
