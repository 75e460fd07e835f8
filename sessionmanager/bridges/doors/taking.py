"""A conversation taken with patience: an outage that may pass is waited for, a refusal is said at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

from sessionmanager.bridges.carrier import Arrival, Call, Line, LineGone
from sessionmanager.bridges.doors.socket import CarrierSocket
from sessionmanager.errors import (
    AlreadyExists,
    Erased,
    Forbidden,
    Full,
    IllegalTransition,
    Invalid,
    Malformed,
    NotFound,
    NotResumable,
    SessionManagerError,
    TooLarge,
    Unauthenticated,
)

REFUSALS: Final = (
    AlreadyExists,
    Erased,
    Full,
    IllegalTransition,
    Invalid,
    Malformed,
    NotFound,
    NotResumable,
    TooLarge,
)
"""Answers that waiting does not change. All else may pass: a tier or a model that is away, a deployment, a token that
is being replaced."""
_HINTS: Final = {
    Unauthenticated.type: "; this is about the bridge's own token",
    Forbidden.type: "; this is about the bridge's own token: it needs the role `bridge`",
}
PATIENCE_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0
_log: Final = logging.getLogger("sessionmanager.bridges.taking")


class Taker(Protocol):
    """What takes calls: the base bridge."""

    def take(self, arrival: Arrival, line: Line) -> AbstractAsyncContextManager[Call]:
        """Hold a call for as long as the context lasts."""
        ...


class Refused(Exception):
    """The conversation cannot be taken, and waiting would not help. reason: for the carrier, a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotNow(Exception):
    """An outage outlasted our patience; the carrier may find another replica."""


@asynccontextmanager
async def taken(
    bridge: Taker, arrival: Arrival, line: Line, socket: CarrierSocket, patience_seconds: float
) -> AsyncGenerator[Call]:
    """`bridge.take`, tried again while it may help, for as long as the socket is open.

    Raises Refused. NotNow. LineGone: the carrier went away meanwhile.
    """
    async with AsyncExitStack() as stack:
        yield await _enter(stack, bridge, arrival, line, socket, patience_seconds)


async def _enter(
    stack: AsyncExitStack,
    bridge: Taker,
    arrival: Arrival,
    line: Line,
    socket: CarrierSocket,
    patience_seconds: float,
) -> Call:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience_seconds) as limit:
            forget = socket.when_gone(lambda: limit.reschedule(loop.time()))
            try:
                return await _try_again(stack, bridge, arrival, line)
            finally:
                forget()
    except TimeoutError:
        if socket.gone.is_set():
            raise LineGone from None
        raise NotNow from None


async def _try_again(stack: AsyncExitStack, bridge: Taker, arrival: Arrival, line: Line) -> Call:
    pause, told = PAUSE_SECONDS, ""
    while True:
        try:
            return await stack.enter_async_context(bridge.take(arrival, line))
        except REFUSALS as error:
            raise Refused(_said(error)) from None
        except SessionManagerError as error:
            if error.type != told:
                hint = _HINTS.get(error.type, "")
                _log.warning("a call of %s waits: %s: %s%s", arrival.gateway, error.type, error.detail, hint)
                told = error.type
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, PAUSE_SECONDS_MAX)


def _said(error: SessionManagerError) -> str:
    """A refusal in the carrier's words; what lies behind it is for our own logs."""
    if isinstance(error, NotResumable):
        return f"conversation {error.reason}"
    if isinstance(error, NotFound | Erased):
        return "conversation not found"
    if isinstance(error, IllegalTransition | AlreadyExists):
        return "conversation ended"
    return f"conversation refused: {error.type}"
