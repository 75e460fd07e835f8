"""What a replica does when more is asked of it than it can do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from sessionmanager.api.dispatch import Dispatch
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.api.shedding import CROWD, LATE_FOR_SECONDS, LATE_SECONDS, QUIET_SECONDS, TICK_SECONDS, Shedding
from sessionmanager.errors import Overloaded
from tests.support.virtual_loop import VirtualLoop, on_virtual_time

pytestmark = pytest.mark.unit

REQUESTS_MAX = 100


class Door:
    """Shedding beside a loop on virtual time, which is late when it is told to be."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.shedding = Shedding(REQUESTS_MAX, self.refusals.append)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.shedding.run(self.stop))

    def enters(self, answering: int) -> bool:
        try:
            self.shedding.check(answering)
        except Overloaded:
            return False
        return True

    async def late(self, seconds: float) -> None:
        """For so long each turn of the loop takes twice what is late."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ends_at = loop.time() + seconds
        while loop.time() < ends_at:
            loop.jump(2 * LATE_SECONDS)
            await asyncio.sleep(TICK_SECONDS / 2)


@on_virtual_time
async def test_more_at_once_than_the_bound_are_refused_whatever_the_loop_does() -> None:
    door = Door()
    assert door.enters(REQUESTS_MAX - 1)
    assert not door.enters(REQUESTS_MAX)
    assert door.refusals == ["depth"]
    door.stop.set()
    await door.task


@on_virtual_time
async def test_while_the_loop_is_late_for_long_no_more_than_a_crowd_is_let_in() -> None:
    door = Door()
    await asyncio.sleep(1)
    assert door.enters(CROWD)
    await door.late(2 * LATE_FOR_SECONDS)
    assert not door.enters(CROWD)
    assert door.enters(CROWD - 1), "as many as a crowd are answered always"
    await asyncio.sleep(3 * TICK_SECONDS)
    assert door.enters(CROWD), "it is over as soon as the loop is in time again"
    assert door.refusals == ["late"]
    door.stop.set()
    await door.task


@on_virtual_time
async def test_one_long_pause_is_no_overload() -> None:
    door = Door()
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.jump(10 * LATE_FOR_SECONDS)
    for _ in range(3):
        await asyncio.sleep(TICK_SECONDS / 2)
        assert door.enters(CROWD)
    door.stop.set()
    await door.task


@on_virtual_time
async def test_the_log_has_one_line_when_it_begins_and_one_when_it_is_over() -> None:
    door = Door()
    await asyncio.sleep(1)
    with capture_logs() as lines:
        for _ in range(5):
            assert not door.enters(REQUESTS_MAX)
            await asyncio.sleep(QUIET_SECONDS / 2)
        await asyncio.sleep(2 * QUIET_SECONDS)
    assert [(line["event"], line["state"]) for line in lines] == [
        ("edge.shedding", "begun"),
        ("edge.shedding", "ended"),
    ]
    door.stop.set()
    await door.task


# -- at the door itself


def a_dispatch(handler: Any, shedding: Shedding, *, open_route: bool = False) -> tuple[Dispatch, list[str]]:
    authorized: list[str] = []

    async def authorize(exchange: Exchange) -> None:
        authorized.append(exchange.path)

    route = Route(
        method="POST", template="/it", action="session.create", handler=handler, summary="It", open=open_route,
        answers=(Shown(200, "It", bytes, "text/plain"),),
    )  # fmt: skip
    dispatch = Dispatch(RouteTable((route,)), authorize=authorize, may_enter=shedding.check)
    return dispatch, authorized


async def ask(dispatch: Dispatch, *, body: asyncio.Future[bytes] | None = None) -> tuple[int, dict[str, str]]:
    sent: list[Message] = []
    length = b"0" if body is None else b"1"
    headers = [(b"content-length", length), (b"content-type", b"application/json")]
    scope: Scope = {
        "type": "http", "method": "POST", "path": "/it", "raw_path": b"/it", "query_string": b"", "headers": headers,
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b"" if body is None else await body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await dispatch(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told


async def test_a_refused_request_is_told_when_to_come_back_before_anything_was_looked_at() -> None:
    go_on = asyncio.Event()

    async def handler(exchange: Exchange) -> Reply:
        await go_on.wait()
        return Reply(200, b"", [])

    dispatch, authorized = a_dispatch(handler, Shedding(3))
    running = [asyncio.create_task(ask(dispatch)) for _ in range(3)]
    await asyncio.sleep(0)
    status, headers = await ask(dispatch)
    assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/problem+json")
    assert len(authorized) == 3, "not even who asks"
    go_on.set()
    assert [status for status, _ in await asyncio.gather(*running)] == [200] * 3
    assert (await ask(dispatch))[0] == 200
    assert dispatch.crowd.size == 0


async def test_who_has_yet_to_send_the_body_keeps_nobody_out() -> None:
    async def handler(exchange: Exchange) -> Reply:
        await exchange.body()
        return Reply(200, b"", [])

    dispatch, _ = a_dispatch(handler, Shedding(3))
    slow: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    waiting = [asyncio.create_task(ask(dispatch, body=slow)) for _ in range(8)]
    await asyncio.sleep(0)
    assert (await ask(dispatch))[0] == 200
    slow.set_result(b"1")
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200] * 8
    assert dispatch.crowd.size == 0


async def test_health_and_probes_are_answered_whatever_there_is_to_do() -> None:
    async def handler(exchange: Exchange) -> Reply:
        return Reply(200, b"", [])

    dispatch, _ = a_dispatch(handler, Shedding(0), open_route=True)
    assert (await ask(dispatch))[0] == 200
