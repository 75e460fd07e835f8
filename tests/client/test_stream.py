"""Feeds go on by themselves: each stored entry once and in order, whatever ends the connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from sessionmanager import errors
from sessionmanager.client import Entry, NotOurs, Resync, Signal, TenantEvent, Unreachable
from sessionmanager.client.stream import EVENT_BYTES_MAX, Parser
from tests.client.scripted import Piece, Script, Step, client_of, refusal
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

AT = "2026-11-21T13:07:39.123Z"


def frame(name: str, data: Any, id: object = None, retry: int | None = None) -> bytes:
    lines = ([] if id is None else [f"id: {id}"]) + ([] if retry is None else [f"retry: {retry}"])
    return "\n".join([*lines, f"event: {name}", f"data: {json.dumps(data)}", "", ""]).encode()


def entry(seq: int) -> bytes:
    return frame("message", {"seq": seq, "version": seq, "id": f"e{seq}", "type": "message", "at": AT,
                             "recorded_at": AT, "actor": "a", "content": f"line {seq}"}, seq)  # fmt: skip


def hello(after: object) -> bytes:
    return frame("hello", {"session": "a", "after": after, "heartbeat_seconds": 15.0}, retry=1000)


def stream(*pieces: bytes | Exception) -> Step:
    return lambda request: httpx2.Response(200, stream=Piece(*pieces))


LAST = refusal(errors.Erased())


async def all_of(script: Script, after: int | None = 0, token: Any = "t", **options: Any) -> list[Any]:
    """Everything that comes until the session is erased."""
    got: list[Any] = []
    async with client_of(script, token=token) as client:
        with pytest.raises(errors.Erased):
            async for event in client.events("a", after=after, **options):
                got.append(event)  # noqa: PERF401  # what came before the error counts
    return got


def seqs(got: list[Any]) -> list[int]:
    return [event.seq for event in got]


@pytest.mark.parametrize("cut", range(1, len(hello(0) + entry(1) + entry(2)) + 1, 3))
@on_virtual_time
async def test_a_connection_cut_at_any_byte_leaves_no_gap_and_no_repeat(cut: int) -> None:
    whole = hello(0) + entry(1) + entry(2)

    def rest(request: httpx2.Request) -> httpx2.Response:
        after = int(request.headers["last-event-id"])
        return httpx2.Response(200, stream=Piece(hello(after), *(entry(seq) for seq in range(after + 1, 5))))

    script = Script(stream(whole[:cut], httpx2.ReadError("cut")), rest, LAST)
    assert seqs(await all_of(script)) == [1, 2, 3, 4]


@on_virtual_time
async def test_what_comes_again_is_given_once() -> None:
    script = Script(stream(hello(0), entry(1), entry(2)), stream(hello(1), entry(2), entry(3)), LAST)
    assert seqs(await all_of(script)) == [1, 2, 3]


@on_virtual_time
async def test_a_feed_from_now_that_is_cut_before_the_first_entry_goes_on_from_where_now_was() -> None:
    script = Script(stream(hello(16)), stream(hello(16), entry(17)), LAST)
    assert seqs(await all_of(script, after=None)) == [17]
    assert "last-event-id" not in script.seen[0].headers
    assert [request.headers.get("last-event-id") for request in script.seen[1:]] == ["16", "17"]


@on_virtual_time
async def test_a_replica_that_stops_is_left_for_as_long_as_it_says_and_what_came_before_is_given_first() -> None:
    going = frame("goaway", {"reason": "draining", "retry_ms": 4000, "after": 1}, retry=4000)
    script = Script(stream(hello(0) + entry(1) + going), stream(hello(1), entry(2)), LAST)
    now = asyncio.get_running_loop().time
    async with client_of(script) as client:
        feed = client.events("a", after=0)
        assert (await anext(feed)).seq == 1  # type: ignore[union-attr]
        assert now() < 0.1
        assert (await anext(feed)).seq == 2  # type: ignore[union-attr]
        assert 4 <= now() < 4.1


@on_virtual_time
async def test_an_expired_token_is_followed_by_a_fresh_one_at_the_same_place() -> None:
    over = frame("expired", {"type": "unauthenticated", "detail": "d", "after": 1})
    tokens = iter(("one", "two", "three", "four"))
    script = Script(stream(hello(0) + entry(1) + over), stream(hello(1), entry(2)), LAST)
    assert seqs(await all_of(script, token=lambda: next(tokens))) == [1, 2]
    assert [request.headers["authorization"][7:] for request in script.seen] == ["one", "two", "three"]
    assert script.seen[1].headers["last-event-id"] == "1"


@on_virtual_time
async def test_an_expired_token_without_another_ends_the_feed() -> None:
    over = frame("expired", {"type": "unauthenticated", "after": 1})
    async with client_of(Script(stream(hello(0) + entry(1) + over))) as client:
        feed = client.events("a", after=0)
        await anext(feed)
        with pytest.raises(errors.Unauthenticated):
            await anext(feed)
        assert feed.cursor == 1


@on_virtual_time
async def test_a_token_that_stays_refused_ends_the_feed_after_one_more_try() -> None:
    script = Script(refusal(errors.Unauthenticated()))
    async with client_of(script, token=lambda: "old") as client:
        with pytest.raises(errors.Unauthenticated):
            await anext(client.events("a"))
    assert len(script.seen) == 2


@on_virtual_time
async def test_a_place_that_is_not_there_is_told_and_the_feed_goes_on_where_it_says() -> None:
    away = frame("resync", {"reason": "ahead", "location": "/sessions/a", "after": 3})
    script = Script(stream(hello(3), away, entry(4)), LAST)
    got = await all_of(script, after=90)
    assert isinstance(got[0], Resync)
    assert (got[0].location, got[0].after) == ("/sessions/a", 3)
    assert seqs(got[1:]) == [4]
    assert script.seen[1].headers["last-event-id"] == "4"


@on_virtual_time
async def test_signals_are_given_and_are_no_place_in_the_log() -> None:
    signal = frame("signal", {"type": "typing", "ephemeral": True, "at": AT, "actor": "bob", "data": {"a": 1}})
    script = Script(stream(hello(0), b": heartbeat\n\n", entry(1), signal), LAST)
    got = await all_of(script)
    assert isinstance(got[1], Signal)
    assert (got[1].type, got[1].data) == ("typing", {"a": 1})
    assert script.seen[1].headers["last-event-id"] == "1"


@on_virtual_time
async def test_a_service_that_is_away_is_waited_for_with_growing_pauses() -> None:
    away: list[Step] = [httpx2.ConnectError("x")] * 6
    script = Script(stream(hello(0), entry(1)), *away, stream(hello(1), entry(2)), LAST)
    assert seqs(await all_of(script)) == [1, 2]
    assert 5 < asyncio.get_running_loop().time() < 150


@on_virtual_time
async def test_patience_has_an_end_that_is_told() -> None:
    script = Script(httpx2.ConnectError("x"))
    async with client_of(script) as client:
        with pytest.raises(Unreachable):
            await anext(client.events("a", patience_seconds=60))
    assert 60 <= asyncio.get_running_loop().time() < 100
    assert len(script.seen) < 30


@on_virtual_time
async def test_a_retry_after_is_kept_to() -> None:
    script = Script(refusal(errors.TierUnavailable("warm", retry_after_seconds=20)), LAST)
    assert await all_of(script) == []
    assert asyncio.get_running_loop().time() >= 20


@on_virtual_time
async def test_a_connection_that_falls_silent_is_given_up() -> None:
    class Silent(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield hello(0)
            await asyncio.sleep(1e6)

    script = Script(lambda request: httpx2.Response(200, stream=Silent()), LAST)
    assert await all_of(script) == []
    assert 45 <= asyncio.get_running_loop().time() < 60


@pytest.mark.parametrize("error", [errors.Forbidden(), errors.NotFound(), errors.Malformed()], ids=lambda e: e.type)
async def test_what_is_refused_is_raised(error: errors.SessionManagerError) -> None:
    async with client_of(Script(refusal(error))) as client:
        with pytest.raises(type(error)):
            await anext(client.events("a"))


async def test_an_erased_session_ends_its_feed() -> None:
    script = Script(stream(hello(0) + entry(1) + frame("erased", {"type": "erased", "after": 1})))
    assert seqs(await all_of(script)) == [1]


async def test_a_feed_that_was_left_gives_nothing_more() -> None:
    async with client_of(Script(stream(hello(0), entry(1) + entry(2)))) as client:
        async with client.session("a") as session:
            feed = session.events(after=0)
            assert isinstance(await anext(feed), Entry)
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


@on_virtual_time
async def test_a_tenants_feed_gives_each_event_once_however_often_connections_overlap() -> None:
    def event(session: str, seq: int, id: str) -> bytes:
        body = {"specversion": "1.0", "id": f"{session}:{seq}", "source": "/tenants/t", "type": "session.created",
                "subject": session, "time": AT, "data": {"seq": seq},
                "datacontenttype": "application/json"}  # fmt: skip
        return frame("session.created", body, id)

    script = Script(
        stream(hello("c0"), event("a", 1, "17"), event("b", 1, "c2")),
        stream(hello("c2"), event("a", 1, "17"), event("b", 1, "c2"), event("a", 2, "c3")),
        refusal(errors.Forbidden()),
    )
    got: list[TenantEvent | Resync] = []
    async with client_of(script) as client:
        feed = client.tenant_events(types="session.*")
        with pytest.raises(errors.Forbidden):
            async for one in feed:
                got.append(one)  # noqa: PERF401  # what came before the error counts
    assert [one.id for one in got if isinstance(one, TenantEvent)] == ["a:1", "b:1", "a:2"]
    assert [request.headers.get("last-event-id") for request in script.seen] == [None, "c2", "c3"]
    assert script.seen[0].url.params["types"] == "session.*"


def test_an_event_without_end_is_not_kept() -> None:
    parser = Parser()
    with pytest.raises(NotOurs):
        for _ in range(EVENT_BYTES_MAX // 100_000 + 2):
            parser.feed(b"x" * 100_000)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    data = b": hi\r\n\r\nid: 4\r\nevent: a\r\ndata: 1\r\ndata: 2\r\n\r\n" + frame("b", {"x": "ä"}, retry=5)
    parser = Parser()
    got = [event for at in range(0, len(data), size) for event in parser.feed(data[at : at + size])]
    assert [(event.name, event.data, event.id, event.retry_ms) for event in got] == [
        ("a", b"1\n2", "4", None),
        ("b", b'{"x": "\\u00e4"}', None, 5),
    ]
