"""What is large is read in ranges: several at once, each in a request of its own that is soon over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

RANGE_BYTES: Final = 8 * 1024 * 1024
RANGES_AT_ONCE: Final = 4

ReadRange = Callable[[int, int], Awaitable[bytes]]
"""The bytes from the first place to the last, both included: all of them, or an error."""


async def read_in_ranges(read: ReadRange, length: int) -> bytes:
    """So many bytes of an object. Raises what `read` raises; then no other range is waited for."""
    gate = asyncio.Semaphore(RANGES_AT_ONCE)

    async def one(first: int) -> bytes:
        async with gate:
            return await read(first, min(first + RANGE_BYTES, length) - 1)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(first)) for first in range(0, length, RANGE_BYTES)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return b"".join([task.result() for task in tasks])
