"""The pause between two turns of what goes on until it is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(until: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the event is set. Answers whether it is; the event stays as it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
    return until.is_set()
