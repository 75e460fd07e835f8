"""Words while they are said: the newest is told, older ones that were not told yet are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from livekit.agents.voice.io import TextOutput

from sessionmanager.client.session import AsyncSession
from sessionmanager.errors import SessionManagerError

TEXT_CHARS_MAX: Final = 800
"""Of the end of what is said: a signal has 4 KiB, and a character up to six bytes where JSON escapes it."""
TELL_SECONDS: Final = 2.0
"""A word that could not be told by then is no news any more."""
KINDS_MAX: Final = 16
"""Signals of so many kinds wait at once; each kind waits with its newest alone."""


class Signals:
    """Tells whoever follows a session, at most once in `seconds`. It never waits, never fails, and keeps nothing."""

    def __init__(self, session: AsyncSession, seconds: float) -> None:
        self._session = session
        self._seconds = seconds
        self._newest: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._any = asyncio.Event()

    def tell(self, kind: str, type: str, data: Mapping[str, Any]) -> None:
        """kind: what it replaces where that was not told yet."""
        self._newest.pop(kind, None)
        if len(self._newest) < KINDS_MAX:
            self._newest[kind] = (type, data)
            self._any.set()

    def forget(self, kind: str) -> None:
        """It is no news any more."""
        self._newest.pop(kind, None)

    async def work(self) -> None:
        """Tell, for ever."""
        while True:
            await self._any.wait()
            self._any.clear()
            while self._newest:
                type, data = self._newest.pop(next(iter(self._newest)))
                with suppress(SessionManagerError, TimeoutError):
                    async with asyncio.timeout(TELL_SECONDS):
                        await self._session.signal(type, data)
                await asyncio.sleep(self._seconds)


class SpokenWords(TextOutput):
    """The agent's words as they are heard: a part of the chain that a room's transcription goes through."""

    def __init__(self, signals: Signals) -> None:
        super().__init__(label="sessionmanager", next_in_chain=None)
        self._signals = signals
        self._text = ""

    async def capture_text(self, text: str) -> None:
        self._text = (self._text + text)[-TEXT_CHARS_MAX:]
        self._signals.tell("assistant", "partial", {"role": "assistant", "text": self._text})

    def flush(self) -> None:
        self._text = ""
