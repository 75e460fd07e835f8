"""Keeps a call connected to a model: connects, seeds, listens, and does it all again when the connection ends.

A connection that is old is replaced by one that knows the same, in a moment when nobody speaks; one that dies, at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, Protocol

from sessionmanager.bridges.metrics import BridgeMetrics, Connected
from sessionmanager.bridges.upstream import (
    Connection,
    Model,
    ModelEvent,
    ModelLost,
    ResponseEnded,
    Setup,
    Skipped,
    Sound,
)

AGAIN_SECONDS: Final = 0.05
AGAIN_SECONDS_MAX: Final = 2.0
LOOK_SECONDS: Final = 0.25
"""Between two looks whether a connection that is old may be replaced now."""
BEFORE_END_SECONDS: Final = 120.0
"""So long before its end a connection is replaced at the latest, in the first quiet moment; if there is none, it
ends."""
REPLACE_AGAIN_SECONDS: Final = 5.0
"""Before another try to replace a connection that is kept."""
_log: Final = logging.getLogger("sessionmanager.bridges")


class Seeding(NamedTuple):
    """What a connection is to be told. number: which preparation it came of."""

    items: tuple[Mapping[str, Any], ...]
    number: int


class Host(Protocol):
    """Whose model it is."""

    async def prepare(self) -> Seeding:
        """The conversation so far."""
        ...

    async def adopt(self, connection: Connection, seeding: Seeding, skipped: list[Skipped]) -> bool:
        """Speak to this connection from now on. False: the bot has spoken since the preparation; prepare again."""
        ...

    async def on_event(self, connection: Connection, event: ModelEvent) -> None:
        """The model tells something. One of a connection that was replaced is nothing."""
        ...

    async def on_lost(self, connection: Connection) -> None:
        """The connection is gone."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the call has ended: no other connection is wanted."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether nobody speaks and nothing is owed."""
        ...


class _Live(NamedTuple):
    """A connection that is spoken to, and who listens to it. old_at: from when on it is to be replaced."""

    connection: Connection
    stack: AsyncExitStack
    listening: asyncio.Task[None]
    old_at: float


class Link:
    """The line to the model, for as long as `run` runs. counts: connections, and how long sound takes to the line.
    seconds: how long it may be without one. recycle_seconds: how old a connection may grow."""

    def __init__(
        self,
        model: Model,
        setup: Setup,
        host: Host,
        counts: BridgeMetrics,
        *,
        seconds: float,
        recycle_seconds: float,
    ) -> None:
        self._model = model
        self._setup = setup
        self._host = host
        self._counts = counts
        self._seconds = seconds
        self._recycle_seconds = recycle_seconds

    async def run(self) -> ModelLost | None:
        """Until it is cancelled, or no model can be had any more: then why. None = the call is over."""
        live: _Live | None = None
        kind: Connected = "first"
        try:
            while True:
                if live is None:
                    found = await self._connected()
                    if isinstance(found, ModelLost):
                        return found
                    live = found
                    self._counts.connected(kind)
                    kind = "again"
                if await self._lost(live):
                    ended, live = live, None
                    await self._close(ended)
                    await self._host.on_lost(ended.connection)
                    if self._host.is_over:
                        return None
                else:
                    live = await self._replaced(live)
        finally:
            if live is not None:
                await self._close(live)

    async def _connected(self) -> _Live | ModelLost:
        """A connection, tried for as long as patience goes; else why there is none. An outage is told when it begins,
        and when it was too long."""
        loop = asyncio.get_running_loop()
        give_up_at, pause, tries = loop.time() + self._seconds, AGAIN_SECONDS, 0
        while True:
            try:
                return await self._begin()
            except ModelLost as error:
                self._counts.connected("failed")
                tries += 1
                if not error.may_pass or loop.time() + pause >= give_up_at:
                    _log.error("model: given up (tries: %d): %s", tries, error)
                    return error
                _log.log(
                    logging.WARNING if tries == 1 else logging.DEBUG,
                    "model: not connected, and tried for %g s: %s", self._seconds, error,
                )  # fmt: skip
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, AGAIN_SECONDS_MAX)

    async def _begin(self, old: _Live | None = None) -> _Live:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._model.connect(self._setup))
            began_at = asyncio.get_running_loop().time()
            adopted = False
            while not adopted:
                if old is not None:
                    await self._quiet(old)
                seeding = await self._host.prepare()
                skipped = await connection.seed(seeding.items)
                adopted = await self._host.adopt(connection, seeding, skipped)
            listening = asyncio.create_task(self._listen(connection), name="listens to a model")
            lives = connection.identity.expires_in_seconds
            age = self._recycle_seconds
            if lives is not None:
                age = min(age, max(lives - BEFORE_END_SECONDS, lives / 2))
            return _Live(connection, stack.pop_all(), listening, began_at + age)

    async def _quiet(self, old: _Live) -> None:
        """Wait for a moment in which nobody speaks. Raises ModelLost: the old connection ended first."""
        while not self._host.is_quiet:
            done, _ = await asyncio.wait((old.listening,), timeout=LOOK_SECONDS)
            if done:
                raise ModelLost("the old connection has ended first")

    async def _listen(self, connection: Connection) -> None:
        try:
            async for event in connection.events():
                came_at = time.perf_counter()
                await self._host.on_event(connection, event)
                if isinstance(event, Sound):
                    self._counts.added("caller", time.perf_counter() - came_at)
                elif isinstance(event, ResponseEnded) and event.status == "failed":
                    _log.warning("model: an answer failed: %s", event.reason or "no reason given")
        except ModelLost as error:
            _log.info("model: connection lost: %s", error)

    async def _lost(self, live: _Live) -> bool:
        """Wait until the connection is gone (True), or is to be replaced (False)."""
        wait = max(live.old_at - asyncio.get_running_loop().time(), 0.0)
        done, _ = await asyncio.wait((live.listening,), timeout=wait)
        if done:
            live.listening.result()
        return bool(done)

    async def _replaced(self, live: _Live) -> _Live:
        """A new connection in place of an old one, which goes on until then; the old one where none is to be had."""
        try:
            successor = await self._begin(live)
        except ModelLost as error:
            self._counts.connected("failed")
            _log.warning("model: an old connection is kept: %s", error)
            return live._replace(old_at=asyncio.get_running_loop().time() + REPLACE_AGAIN_SECONDS)
        self._counts.connected("replaced")
        await self._close(live)
        return successor

    async def _close(self, live: _Live) -> None:
        live.listening.cancel()
        await asyncio.wait([live.listening])
        await live.stack.aclose()
