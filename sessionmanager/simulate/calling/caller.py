"""Plays a caller's script on a simulated telephone, and tells what was said on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol

from sessionmanager.simulate.calling.ear import Ear
from sessionmanager.simulate.calling.script import Drop, HangUp, Hold, Listen, Press, Say, Step

PATIENCE_SECONDS: Final = 60.0
"""How long a caller waits for the bot before they give up."""
QUIET_SECONDS: Final = 0.8
CUT_IN_SECONDS: Final = 0.8
"""So long the bot has been heard before a caller cuts in."""


class Refused(Exception):
    """The bridge did what the real carrier refuses."""


class GaveUp(Exception):
    """The caller, or the carrier, has waited long enough."""


class Told(NamedTuple):
    """Something that happened. who: `caller`, `bot`, or `line`."""

    who: str
    text: str


Tell = Callable[[Told], None]


class Telephone(Protocol):
    """A call at a simulated carrier. over: set once it has ended; ending: how. resumes: how often a lost socket was
    followed by another; resume_seconds: how long each took."""

    over: asyncio.Event
    ending: str
    resumes: int
    resume_seconds: list[float]

    @property
    def ear(self) -> Ear:
        """What the caller hears."""
        ...

    async def say(self, text: str) -> None:
        """Speak; returns when it was said."""
        ...

    async def press(self, digits: str) -> None: ...

    async def hold(self, seconds: float) -> None: ...

    async def drop(self) -> None:
        """Break the socket, and wait until the carrier has another."""
        ...

    async def hang_up(self) -> None: ...


class Caller:
    """tell: what was said on both sides, as it is. quiet_seconds: how long the bot must be silent to have ended."""

    def __init__(
        self,
        phone: Telephone,
        tell: Tell,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._phone = phone
        self._tell = tell
        self._quiet = quiet_seconds
        self._patience = patience_seconds

    async def play(self, steps: Sequence[Step]) -> None:
        """Do the steps in order, until the call is over. Raises GaveUp: the bot does not speak."""
        for step in steps:
            if self._phone.over.is_set():
                break
            try:
                async with asyncio.timeout(self._patience):
                    await self._while_on(self._take(step))
            except TimeoutError:
                again = f", the line came back {self._phone.resumes} times" if self._phone.resumes else ""
                raise GaveUp(f"{type(step).__name__}: nothing came within {self._patience:g} s{again}") from None
        self._heard()

    async def _while_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, unless the call is over before."""
        doing = asyncio.ensure_future(work)
        over = asyncio.ensure_future(self._phone.over.wait())
        try:
            await asyncio.wait({doing, over}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
        finally:
            doing.cancel()
            over.cancel()
            await asyncio.wait([doing, over])

    async def _take(self, step: Step) -> None:
        match step:
            case Say(text, over):
                if over:
                    await self._phone.ear.until_words()
                    await asyncio.sleep(CUT_IN_SECONDS)
                await self._say(text)
            case Listen():
                await self._phone.ear.until_quiet(self._quiet)
                self._heard()
            case Press(digits):
                self._tell(Told("caller", f"[{digits}]"))
                await self._phone.press(digits)
            case Hold(seconds):
                self._tell(Told("line", f"on hold for {seconds:g} s"))
                await self._phone.hold(seconds)
            case Drop(text):
                await (self._drop() if text is None else self._drop_while_saying(text))
            case HangUp():
                self._heard()
                await self._phone.hang_up()

    async def _say(self, text: str) -> None:
        self._tell(Told("caller", text))
        await self._phone.say(text)
        # What was heard of the bot until then belongs to the turn before.
        self._heard()

    async def _drop(self) -> None:
        self._tell(Told("line", "the socket breaks"))
        await self._phone.drop()

    async def _drop_while_saying(self, text: str) -> None:
        saying = asyncio.create_task(self._say(text))
        try:
            await asyncio.sleep(self._quiet / 2)
            await self._drop()
            await saying
        finally:
            saying.cancel()

    def _heard(self) -> None:
        for words in self._phone.ear.take_lines():
            self._tell(Told("bot", words))
