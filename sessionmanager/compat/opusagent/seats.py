"""What is known of the conversations that were used last, one at a time for each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Seat(Generic[T]):
    """life: what was last known; None = nothing. waiting: how many are at it or wait for it."""

    def __init__(self) -> None:
        self.life: T | None = None
        self.lock = asyncio.Lock()
        self.waiting = 0


class Seats(Generic[T]):
    """The `most` used last, and those in use."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seats: OrderedDict[str, Seat[T]] = OrderedDict()

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncGenerator[Seat[T]]:
        """The seat of a name, for one at a time."""
        seat = self._seats.get(name)
        if seat is None:
            seat = self._seats[name] = Seat()
        self._seats.move_to_end(name)
        seat.waiting += 1
        try:
            async with seat.lock:
                yield seat
        finally:
            seat.waiting -= 1
            self._forget()

    def items(self) -> list[tuple[str, Seat[T]]]:
        return list(self._seats.items())

    def _forget(self) -> None:
        # One more than the bound, so that whoever bounds the live ones still sees the one that is to go.
        if len(self._seats) > self._most + 1:
            idle = next((name for name, seat in self._seats.items() if not seat.waiting), None)
            if idle is not None:
                del self._seats[idle]
