"""A base that notes what a carrier's half tells it, and does what a test says: by `carrier.py`, word for word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sessionmanager.bridges.carrier import AgreesLater, Arrival, Line, Over
from sessionmanager.errors import NotFound


class ShamCall:
    """What was told of a call, in order: `told`. heard: its sound."""

    def __init__(self, arrival: Arrival, line: Line, *, resumed: bool, media_format: str | None) -> None:
        self.arrival = arrival
        self.line = line
        self.resumed = resumed
        self.session_id = arrival.conversation or "made-here"
        self.media_format = media_format
        self.heard = bytearray()
        self.told: list[tuple[Any, ...]] = []
        self.left = False
        self._over: asyncio.Future[Over] = asyncio.get_running_loop().create_future()

    async def hear(self, audio: bytes) -> None:
        self.heard += audio

    async def say(self, text: str, *, id: str | None = None, last: bool = True) -> None:
        self.told.append(("say", text, id, last))

    async def press(self, digits: str, *, id: str | None = None) -> None:
        self.told.append(("press", digits, id))

    async def interrupted(self, heard: str | None = None) -> None:
        self.told.append(("interrupted", heard))

    def played(self, mark: str) -> None:
        self.told.append(("played", mark))

    async def hold(self) -> None:
        self.told.append(("hold",))

    async def unhold(self) -> None:
        self.told.append(("unhold",))

    async def happened(self, name: str, data: Mapping[str, Any], *, id: str | None = None) -> None:
        self.told.append(("happened", name, data, id))

    async def hang_up(self, reason: str) -> None:
        self.told.append(("hang_up", reason))

    async def over(self) -> Over:
        return await asyncio.shield(self._over)

    def finish(self, reason: Any, detail: str = "") -> None:
        if not self._over.done():
            self._over.set_result(Over(reason, detail))


class ShamBridge:
    """calls: all that were taken. errors: what the next takes raise, first come first served. sessions: conversation →
    its media format; `gate` is waited for before a call is taken."""

    def __init__(self) -> None:
        self.calls: list[ShamCall] = []
        self.errors: list[Exception] = []
        self.tries = 0
        self.sessions: dict[str, str | None] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def call(self) -> ShamCall:
        return self.calls[-1]

    @asynccontextmanager
    async def take(self, arrival: Arrival, line: Line) -> AsyncIterator[ShamCall]:
        self.tries += 1
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        session = arrival.conversation or "made-here"
        known = session in self.sessions
        if arrival.opening == "resume" and not known:
            raise NotFound
        media_format = arrival.media_format or self.sessions.get(session)
        if known:
            media_format = self.sessions[session]
        self.sessions[session] = media_format
        if isinstance(line, AgreesLater):
            line.agreed(media_format)
        for other in self.calls:
            if other.session_id == session and not other.left:
                other.finish("superseded")
        call = ShamCall(arrival, line, resumed=known, media_format=media_format)
        self.calls.append(call)
        try:
            yield call
        finally:
            call.left = True
