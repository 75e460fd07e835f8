"""A bounded queue of one producer and one consumer that can be closed without waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """At most `size` items; whoever puts more waits, so that what feeds it is slowed down."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._closed = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> bool:
        """False: it is closed, and the item is dropped."""
        while len(self._items) >= self._size and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            return False
        self._items.append(item)
        self._filled.set()
        return True

    async def get(self) -> T | None:
        """The next one; None once it is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._room.set()
        return item

    def close(self, *, drop: bool) -> None:
        """Take nothing more. drop: what waits is not given any more either."""
        self._closed = True
        if drop:
            self._items.clear()
        self._filled.set()
        self._room.set()
