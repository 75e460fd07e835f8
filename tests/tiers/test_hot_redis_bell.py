"""A line of the doorbell that has fallen silent: how soon it is given up, and that whoever listens is told to look."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sessionmanager.tiers.hot.protocol import Ring
from sessionmanager.tiers.hot.redis_bell import BEAT_SECONDS, LIFE_SECONDS, Bell
from sessionmanager.words import Key
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

KEY = Key("acme", "call-1")
NAME = b"channel"
SILENT_SECONDS_MAX = 4.0


class SilentConnection:
    """Answers the subscription and, if it is told to, signs of life; nothing else ever."""

    def __init__(self, *, alive: bool) -> None:
        self._alive = alive
        self._answers: asyncio.Queue[list[object]] = asyncio.Queue()
        self.pings = 0

    async def send_packed_command(self, command: bytes, check_health: bool = True) -> None:
        if b"SUBSCRIBE" in command:
            self._answers.put_nowait([b"subscribe", NAME, 1])
        else:
            self.pings += 1
            if self._alive:
                self._answers.put_nowait([b"pong", b""])

    async def read_response(self, **options: Any) -> object:
        try:
            async with asyncio.timeout(options["timeout"]):
                return await self._answers.get()
        except TimeoutError:
            return None

    async def disconnect(self, *_: Any, **__: Any) -> None:
        pass


class Dialled:
    """A network of one server that connects once, and never again; it is its own route."""

    sharded = False

    def __init__(self, connection: SilentConnection) -> None:
        self._connections = [connection]
        self.known_route = self

    async def route(self) -> Dialled:
        return self

    def spot(self, name: bytes) -> tuple[str, int]:
        return "localhost", 1

    def doubt(self) -> None:
        pass

    async def dial(self, spot: object) -> SilentConnection:
        if not self._connections:
            raise ConnectionRefusedError
        return self._connections.pop()


def a_bell(connection: SilentConnection) -> Bell:
    return Bell(cast("Any", Dialled(connection)), listeners_max=1, confirm_seconds=1.0)


@on_virtual_time
async def test_a_line_without_a_sign_of_life_is_given_up_within_seconds_and_its_listeners_look() -> None:
    connection = SilentConnection(alive=False)
    bell, loop = a_bell(connection), asyncio.get_running_loop()
    async with bell.listen(KEY, NAME, cast("Any", None)) as rings:
        assert await anext(rings) == Ring(KEY, 0)
        assert BEAT_SECONDS + LIFE_SECONDS <= loop.time() <= SILENT_SECONDS_MAX
        assert connection.pings == 1
    await bell.aclose()


@on_virtual_time
async def test_a_line_on_which_nobody_says_anything_lives_on_by_its_signs_of_life() -> None:
    connection = SilentConnection(alive=True)
    bell = a_bell(connection)
    async with bell.listen(KEY, NAME, cast("Any", None)) as rings:
        rung = asyncio.ensure_future(anext(rings))
        await asyncio.sleep(60)
        assert not rung.done()
        assert connection.pings == pytest.approx(60 / BEAT_SECONDS, abs=2)
        rung.cancel()
    await bell.aclose()
