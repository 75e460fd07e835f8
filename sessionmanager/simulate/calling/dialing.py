"""A call of a simulated carrier from its dialling to its end, whichever carrier it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from sessionmanager.simulate.calling.caller import GaveUp, Refused


class Dialled(Protocol):
    """over: set once it has ended; ending: how. refused: what the bridge did wrong, None = nothing so far."""

    over: asyncio.Event
    ending: str
    refused: Refused | None

    async def run(self) -> None:
        """Until the call is over. Raises Refused, GaveUp."""
        ...

    async def answered(self) -> None:
        """Until it is answered, or over."""
        ...


C = TypeVar("C", bound=Dialled)


@asynccontextmanager
async def dialled(call: C, carrier: str) -> AsyncGenerator[C]:
    """The call once it is answered. Raises Refused, GaveUp, also at the end: what the bridge did wrong meanwhile.

    carrier: its name, for those who look at what runs.
    """
    running = asyncio.create_task(call.run(), name=f"a call at {carrier}")
    answered = asyncio.create_task(call.answered(), name="the answer")
    try:
        await asyncio.wait({running, answered}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() or call.over.is_set():
            await running
            raise GaveUp(call.ending)
        yield call
        if call.over.is_set():
            await running
    finally:
        for task in (answered, running):
            task.cancel()
        await asyncio.wait([answered, running])
    if call.refused is not None:
        raise call.refused
