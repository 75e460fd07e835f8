"""A handler that writes down what it was called with, and does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sessionmanager.services import Entry, Handler, LeaveReason, ServiceSession

Act = Callable[[ServiceSession, Any], Awaitable[None]]


class Recorder(Handler):
    """calls: `(method, session, what)` in order. joining, message, leaving: what to do then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.joining: Act | None = None
        self.message: Act | None = None
        self.leaving: Act | None = None
        self.now_in: dict[str, int] = {}
        self.most_at_once = 0
        self._moved = asyncio.Condition()

    def of(self, session_id: str) -> list[tuple[str, Any]]:
        return [(name, what) for name, session, what in self.calls if session == session_id]

    async def until(self, *wanted: tuple[str, str, Any]) -> None:
        """Until each of these calls has come."""
        async with self._moved, asyncio.timeout(20):
            await self._moved.wait_for(lambda: all(one in self.calls for one in wanted))

    async def _note(self, name: str, session: ServiceSession, what: Any, act: Act | None) -> None:
        self.now_in[session.id] = self.now_in.get(session.id, 0) + 1
        self.most_at_once = max(self.most_at_once, self.now_in[session.id])
        try:
            self.calls.append((name, session.id, what))
            async with self._moved:
                self._moved.notify_all()
            if act is not None:
                await act(session, what)
        finally:
            self.now_in[session.id] -= 1

    async def on_join(self, session: ServiceSession) -> None:
        await self._note("join", session, None, self.joining)

    async def on_message(self, session: ServiceSession, entry: Entry) -> None:
        await self._note("message", session, entry.content, self.message)

    async def on_end(self, session: ServiceSession, reason: LeaveReason) -> None:
        await self._note("end", session, reason, None)

    async def on_leave(self, session: ServiceSession, reason: LeaveReason) -> None:
        await self._note("leave", session, reason, self.leaving)
