"""The call leg in the session: opened when a bridge takes a call, on hold and back, ended when the carrier says so. A
socket that is lost ends no leg: the telephone call goes on, and whichever bridge takes it next finds the leg there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from sessionmanager.bridges.carrier import Arrival
from sessionmanager.client.aio import AsyncClient
from sessionmanager.client.retry import AGAIN
from sessionmanager.errors import SessionManagerError
from sessionmanager.words import CallState

NEWS_SECONDS: Final = 60.0
"""How often the service hears that the call lives: one without news for long is taken for over."""
AGAIN_SECONDS: Final = 1.0
WISHES_MAX: Final = 100
REASON_CHARS_MAX: Final = 64
UNANSWERED: Final = frozenset(("initializing", "ringing"))
_no_word = re.compile(r"[^a-z0-9]+")
_log: Final = logging.getLogger("sessionmanager.bridges")


class _End(NamedTuple):
    reason: str
    by_bot: bool


class Leg:
    """Reports what becomes of one call, in order, as long as `keep` runs."""

    def __init__(self, client: AsyncClient, session_id: str, arrival: Arrival) -> None:
        self._client = client
        self._session_id = session_id
        self._arrival = arrival
        self._id: str | None = None
        self._state: CallState = "active"
        self._wishes: deque[CallState | _End] = deque(maxlen=WISHES_MAX)
        self._wish = asyncio.Event()

    def report(self, state: CallState) -> None:
        """It is on hold, or active again."""
        self._state = state
        self._wishes.append(state)
        self._wish.set()

    def end(self, reason: str, *, by_bot: bool) -> None:
        """It is over; `keep` returns once that is told."""
        self._wishes.append(_End(reason_word(reason), by_bot))
        self._wish.set()

    async def keep(self) -> None:
        """Tell all that is to be told, and from time to time that the call lives. A service that is away is asked
        again; what it refuses is logged and left."""
        if not await self._patiently(self._open):
            return
        while True:
            if not self._wishes:
                self._wish.clear()
                try:
                    async with asyncio.timeout(NEWS_SECONDS):
                        await self._wish.wait()
                except TimeoutError:
                    self._wishes.append(self._state)
            wish = self._wishes[0]
            await self._patiently(lambda wish=wish: self._tell(wish))
            self._wishes.popleft()
            if isinstance(wish, _End):
                return

    async def _open(self) -> None:
        arrival = self._arrival
        known: dict[str, Any] = {"caller": arrival.caller, "callee": arrival.callee}
        opened = await self._client.add_call(
            self._session_id,
            arrival.gateway,
            gateway_call_id=arrival.gateway_call_id,
            direction=arrival.direction,
            state="active",
            **{name: value for name, value in known.items() if value is not None},
        )
        self._id = opened.call.id
        if opened.call.state in UNANSWERED:
            # A carrier that asks by HTTP before its socket opens has reported the call; who speaks here has answered.
            await self._client.change_call(self._session_id, self._id, state="active")

    async def _tell(self, wish: CallState | _End) -> None:
        assert self._id is not None, "a leg is opened before it is told of"
        if isinstance(wish, _End):
            by: Any = {"ended_by": "system"} if wish.by_bot else {}
            await self._client.end_call(self._session_id, self._id, reason=wish.reason, **by)
        else:
            await self._client.change_call(self._session_id, self._id, state=wish)

    async def _patiently(self, ask: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was done; asked until it is or is refused."""
        while True:
            try:
                await ask()
            except SessionManagerError as error:
                if error.remedy not in AGAIN:
                    _log.warning("leg: a report is refused: %s", error.type)
                    return False
            else:
                return True
            await asyncio.sleep(AGAIN_SECONDS)


def reason_word(reason: str) -> str:
    """A carrier's reason in the form of an end reason: `Client Side` is `client_side`."""
    word = _no_word.sub("_", reason.lower()).strip("_")[:REASON_CHARS_MAX].strip("_")
    return word if word and word[0].isalpha() else f"reason_{word}".strip("_")[:REASON_CHARS_MAX]
