"""One listener's side of the doorbell, whatever rings it."""

from __future__ import annotations

from asyncio import Event
from collections import deque
from collections.abc import AsyncIterator

from sessionmanager.tiers.hot.protocol import SIGNALS_WAITING_MAX, Ring, Signal
from sessionmanager.words import Key


class Listener:
    """What one listener has not heard yet: one ring, at the highest version rung, and the newest signals."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._version = 0
        self._trace: str | None = None
        self._rung = False
        self._signals: deque[bytes] = deque(maxlen=SIGNALS_WAITING_MAX)
        self._closed = False
        self._changed = Event()

    def ring(self, version: int, trace: str | None = None) -> None:
        if not self._rung or version > self._version:
            self._version, self._trace = version, trace
        self._rung = True
        self._changed.set()

    def signal(self, data: bytes) -> None:
        self._signals.append(data)
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Ring | Signal]:
        return self

    async def __anext__(self) -> Ring | Signal:
        await self._changed.wait()
        if self._closed:
            raise StopAsyncIteration
        heard: Ring | Signal
        if self._rung:
            self._rung = False
            heard = Ring(self._key, self._version, self._trace)
        else:
            heard = Signal(self._key, self._signals.popleft())
        if not self._signals:
            self._changed.clear()
        return heard
