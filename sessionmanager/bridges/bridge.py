"""The base of every bridge: takes calls from a carrier's half, joins them to a model, and keeps them in the session.

async with open_bridge(client, model, options=BridgeOptions(greeting="Greet the caller.")) as bridge:
    async with bridge.take(arrival, line) as call:      # carrier.py says what these are
        …
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from sessionmanager.bridges.base.attaching import attach
from sessionmanager.bridges.base.calling import Desk
from sessionmanager.bridges.base.conversation import Conversation, setup_of
from sessionmanager.bridges.base.parts import Parts
from sessionmanager.bridges.base.refusals import Refusals
from sessionmanager.bridges.base.tasks import Tasks
from sessionmanager.bridges.caller.halves import Halves
from sessionmanager.bridges.carrier import AgreesLater, Arrival, Call, Line, Over
from sessionmanager.bridges.functions import Functions
from sessionmanager.bridges.metrics import BridgeMetrics
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.upstream import Model
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.outbox import DeadLetter, OutboxNotEmpty, OutboxOptions
from sessionmanager.errors import SessionManagerError

OLDER_SECONDS: Final = 1.0
"""How long the older holder of a conversation in this process is waited for, so that what it knows is written down."""
STOP_SECONDS: Final = 2.0
"""How long a bridge that stops waits for its carriers' halves to leave their calls."""
_log: Final = logging.getLogger("sessionmanager.bridges")


class TooManyCalls(SessionManagerError):
    """This process has as many calls as it may; another replica may take it."""

    type = "too-many-calls"
    title = "The bridge has as many calls as it takes"
    remedy = "wait"
    retry_after_seconds = 1.0


class Bridge:
    """Calls of one process. Made by `open_bridge`."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._calls: dict[str, Conversation] = {}
        self._count = 0

    @property
    def calls(self) -> int:
        """How many are held now."""
        return self._count

    @property
    def metrics(self) -> BridgeMetrics:
        """What it counts, and the page that shows it."""
        return self.parts.counts

    @property
    def pending(self) -> int:
        """Appends that the service does not have yet."""
        return self.parts.outbox.pending

    def take(self, arrival: Arrival, line: Line) -> AbstractAsyncContextManager[Call]:
        """Hold a call for as long as the context lasts. Entered once the session has us, at most `accept_seconds`
        later.

        Whoever held the same conversation before, here or elsewhere, is told that it is superseded. Raises NotFound,
        Erased, NotResumable, AlreadyExists, and others of the service's refusals: there is no such call to be had.
        TooManyCalls, and whatever else has the remedy `wait` or `repeat`: not now.
        """
        return self._take(arrival, line)

    @asynccontextmanager
    async def _take(self, arrival: Arrival, line: Line) -> AsyncGenerator[Call]:
        parts = self.parts
        if self._count >= parts.options.calls_max:
            raise TooManyCalls(f"{self._count} calls")
        self._count += 1
        try:
            if arrival.conversation is not None:
                await self._supersede(arrival.conversation)
            with parts.counts.attaching(arrival.gateway) as attaching:
                seat = await attach(parts.client, arrival, parts.options, parts.instance)
                attaching.resumed = seat.resumed
            await self._supersede(seat.session_id)
            if isinstance(line, AgreesLater):
                line.agreed(seat.media_format)
            setup = setup_of(parts.options.setup, line, parts.model, parts.desk.functions.tools)
            call = Conversation(parts, arrival, seat, line, setup)
            self._calls[seat.session_id] = call
            try:
                with parts.counts.holding(arrival.gateway):
                    async with call.running():
                        yield call
            finally:
                if self._calls.get(seat.session_id) is call:
                    del self._calls[seat.session_id]
        finally:
            self._count -= 1

    async def stop(self) -> None:
        """Let go of every call, so that it is resumed elsewhere; what was said is written down."""
        self.parts.halves.stop()
        calls = tuple(self._calls.values())
        for call in calls:
            call.finish(Over("line-lost", "the bridge stops"))
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for call in calls:
                    await call.closed()

    async def _supersede(self, session_id: str) -> None:
        older = self._calls.get(session_id)
        if older is not None:
            older.finish(Over("superseded"))
            await older.settled(OLDER_SECONDS)


def _on_dead(letter: DeadLetter) -> None:
    _log.error("an append to a session is refused for good: %s", letter.type)


@asynccontextmanager
async def open_bridge(
    client: AsyncClient,
    model: Model,
    *,
    functions: Functions | None = None,
    options: BridgeOptions | None = None,
    metrics: BridgeMetrics | None = None,
) -> AsyncGenerator[Bridge]:
    """A bridge that takes calls until it is left; calls that it still has then are let go of, and may be resumed
    elsewhere.

    client: with a token of the role `bridge`. metrics: where it counts; None = in one of its own. Raises OutboxInUse:
    another process has the outbox's file.
    """
    options = options or BridgeOptions()
    async with AsyncExitStack() as stack:
        outbox = await stack.enter_async_context(_outbox(client, options))
        counts = metrics or BridgeMetrics()
        counts.watch_outbox(lambda: outbox.pending)
        halves = Halves(options.half_seconds, options.return_seconds, lambda: counts.half("forgotten"))
        stack.callback(halves.close)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        desk = Desk(functions or Functions(), outbox, tasks)
        parts = Parts(client, outbox, model, options, desk, tasks, halves, counts, Refusals(), uuid.uuid4().hex)
        bridge = Bridge(parts)
        try:
            yield bridge
        finally:
            await bridge.stop()


@asynccontextmanager
async def _outbox(client: AsyncClient, options: BridgeOptions):
    try:
        async with client.outbox(options.outbox, options=OutboxOptions(on_dead=_on_dead)) as outbox:
            yield outbox
    except OutboxNotEmpty as error:
        _log.error("what was said is lost with this process: %s", error)
