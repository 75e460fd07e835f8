"""A function of a bot that a test holds inside."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionmanager.bridges.functions import Function, Invocation

FOUND = {"found": True}


class LookUp:
    """A function that is inside for as long as a test wants."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, invocation: Invocation) -> Any:
        self.attempts.append(invocation.attempt)
        self.inside.set()
        await self.go_on.wait()
        return FOUND

    def function(self, **more: Any) -> Function:
        return Function(name="look_up", run=self, **more)
