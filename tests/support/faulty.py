"""A tier that fails as it is told, and otherwise is the tier it wraps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any

Call = Callable[[], Awaitable[Any]]
Fault = Callable[[Call], Awaitable[Any]]


class Held:
    """A call that was stopped: `reached` is set when it is there, `release` lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def stop(self) -> None:
        self.reached.set()
        await self._released.wait()


class Faulty:
    """Wraps a hot, warm or cold tier. Each fault is for the next call of that operation; several wait their turn.

    Which calls began is in `begun`, which were applied to the tier within in `applied`, both in order, by name.
    """

    def __init__(self, tier: Any) -> None:
        self._tier = tier
        self._script: dict[str, deque[Fault]] = {}
        self.begun: list[str] = []
        self.applied: list[str] = []

    def fail_before(self, operation: str, error: BaseException, times: int = 1) -> None:
        """Nothing happens but the error."""

        async def fault(call: Call) -> Any:
            raise error

        self._add(operation, fault, times)

    def fail_after(self, operation: str, error: BaseException, times: int = 1) -> None:
        """It happens, and yet the caller gets the error."""

        async def fault(call: Call) -> Any:
            await call()
            raise error

        self._add(operation, fault, times)

    def hold_before(self, operation: str) -> Held:
        """It hangs before anything happened, until it is released or cancelled."""
        held = Held()

        async def fault(call: Call) -> Any:
            await held.stop()
            return await call()

        self._add(operation, fault)
        return held

    def hold_after(self, operation: str) -> Held:
        """It happens, and the answer hangs until it is released or the call is cancelled."""
        held = Held()

        async def fault(call: Call) -> Any:
            answer = await call()
            await held.stop()
            return answer

        self._add(operation, fault)
        return held

    def delay(self, operation: str, seconds: float, times: int = 1) -> None:
        """It takes longer; for a loop on virtual time."""

        async def fault(call: Call) -> Any:
            await asyncio.sleep(seconds)
            return await call()

        self._add(operation, fault, times)

    @property
    def spent(self) -> bool:
        """Every fault has happened."""
        return not any(self._script.values())

    def _add(self, operation: str, fault: Fault, times: int = 1) -> None:
        assert hasattr(self._tier, operation), f"the tier has no {operation}"
        self._script.setdefault(operation, deque()).extend([fault] * times)

    def _next(self, operation: str) -> Fault:
        self.begun.append(operation)
        waiting = self._script.get(operation)
        return waiting.popleft() if waiting else _none

    def __getattr__(self, operation: str) -> Any:
        inner = getattr(self._tier, operation)
        if operation == "listen":
            return self._listen
        if not iscoroutinefunction(inner):
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            async def apply() -> Any:
                answer = await inner(*args, **kwargs)
                self.applied.append(operation)
                return answer

            return await self._next(operation)(apply)

        return call

    @asynccontextmanager
    async def _listen(self, key: Any) -> AsyncIterator[Any]:
        listening: AbstractAsyncContextManager[Any] = self._tier.listen(key)
        rings = await self._next("listen")(listening.__aenter__)
        try:
            yield rings
        finally:
            await listening.__aexit__(None, None, None)


async def _none(call: Call) -> Any:
    return await call()
