"""What a socket of either protocol does around its messages: taking the call, its end, and the time after its end.

A socket that ends is not the end of a call: Twilio then asks the `action` address, and the call may be back in a
moment, here or on another replica. So after a `stop`, or a close that says nothing was wrong, the place in the session
is kept for `action_seconds`; only if nobody has taken the call up by then it is over. A socket that breaks is left at
once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeVar

from sessionmanager.bridges.carrier import Arrival, Call, Line, LineGone, Over
from sessionmanager.bridges.doors.socket import FAULT, GOING_AWAY, NORMAL, POLICY, TRY_AGAIN, CarrierSocket, Frame
from sessionmanager.bridges.doors.taking import NotNow, Refused, Taker, taken
from sessionmanager.bridges.twilio.desk import Desk, Next, softly
from sessionmanager.bridges.twilio.frames import Unreadable
from sessionmanager.bridges.twilio.live import Holding, LiveCalls
from sessionmanager.bridges.twilio.options import TwilioOptions
from sessionmanager.wire.common import ID_CHARS

M = TypeVar("M")
_is_session_id: Final = re.compile(ID_CHARS).fullmatch
log: Final = logging.getLogger("sessionmanager.bridges.twilio")


def session_id_of(parameters: dict[str, str], call_sid: str) -> str:
    """The session that our own TwiML named, else one by the name of the call."""
    wanted = parameters.get("session_id") or call_sid
    if _is_session_id(wanted):
        return wanted
    return "twilio-" + hashlib.sha256(wanted.encode()).hexdigest()[:32]


class Talk(ABC):
    """One socket. A subclass reads its protocol's messages. Use once: `await Talk(…).run()`.

    leaving: set by a line whose socket is to be closed, though the call is not over.
    """

    def __init__(
        self, bridge: Taker, desk: Desk, live: LiveCalls, options: TwilioOptions, socket: CarrierSocket
    ) -> None:
        self._bridge = bridge
        self._desk = desk
        self._live = live
        self._options = options
        self._socket = socket
        self._unreadable = 0
        self.leaving = asyncio.Event()

    async def run(self) -> None:
        """Until the socket is closed, and the call is taken up elsewhere or over."""
        try:
            async with asyncio.timeout(self._options.first_message_seconds):
                arrival = await self.first()
        except TimeoutError:
            log.info("a socket of Twilio said nothing that begins a call")
            await self._socket.close(POLICY)
            return
        if arrival is None:
            return
        line = self.line()
        try:
            async with taken(self._bridge, arrival, line, self._socket, self._options.patience_seconds) as call:
                await self._hold(arrival, call)
        except Refused as refusal:
            log.warning("a Twilio call is refused: %s", refusal.reason)
            # Or Twilio would be told to come again, to be refused again.
            await self.planned(Next(do="hang_up"), arrival.gateway_call_id)
            await self._socket.close(NORMAL)
        except NotNow:
            log.warning("a Twilio call is sent away: an outage outlasts %g s", self._options.patience_seconds)
            await self._socket.close(TRY_AGAIN)

    async def _hold(self, arrival: Arrival, call: Call) -> None:
        holding = Holding(arrival.gateway_call_id, call)
        self._live.hold(holding)
        over = asyncio.ensure_future(call.over())
        watching = asyncio.create_task(self._watch(over, holding), name="the end of a call")
        try:
            stopped = await self.talk(call)
            told = holding.ended.done() or stopped
            if told or (self._socket.lost and self._socket.code == NORMAL):
                await self._socket.close(NORMAL)
                await self._after(call, holding, over)
        finally:
            self._live.release(holding)
            for task in (watching, over):
                task.cancel()
            await asyncio.wait([watching, over])

    async def _after(self, call: Call, holding: Holding, over: asyncio.Future[Over]) -> None:
        """The time after the end of a stream: is the call over, or taken up elsewhere?"""
        done, _ = await asyncio.wait(
            {over, holding.ended}, timeout=self._options.action_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if over in done:
            return
        await call.hang_up(holding.ended.result() if holding.ended in done else "stopped")

    async def _watch(self, over: asyncio.Future[Over], holding: Holding) -> None:
        """Close the socket once the call is over, for the base or for Twilio."""
        leaving = asyncio.ensure_future(self.leaving.wait())
        try:
            await asyncio.wait({over, holding.ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if holding.ended.done():
                # A webhook was told; Twilio closes its side as well, and this is the sooner.
                await self._socket.close(NORMAL)
            elif over.done():
                await self._close(over.result())
            else:
                await self.hung_up("transfer")
                await self._socket.close(NORMAL)
        except LineGone:
            return
        except Exception:
            log.exception("the end of a call failed")
            await self._socket.close(FAULT)
        finally:
            leaving.cancel()

    async def _close(self, over: Over) -> None:
        match over.reason:
            case "hung-up":
                # By our own word: whoever said it closes the socket.
                return
            case "superseded" | "line-lost":
                await self._socket.close(GOING_AWAY)
            case "model-lost":
                # Twilio asks `action` then and comes back, perhaps to a replica that has a model.
                await self._socket.close(TRY_AGAIN)
            case "session-ended" | "erased" | "taken-out" | "ended-by-bot":
                await self.hung_up(over.reason)
                await self._socket.close(NORMAL)

    async def next_frame(self, read: Callable[[Frame], M]) -> M | None:
        """The next message that can be read, None at the end; what cannot be read is counted and told once."""
        while (frame := await self._socket.next()) is not None:
            try:
                return read(frame)
            except Unreadable as error:
                self._unreadable += 1
                if self._unreadable == 1:
                    log.warning("a frame of Twilio cannot be read: %s", error)
        return None

    async def planned(self, next: Next, call_sid: str) -> None:
        """Note what comes after the socket."""
        await softly("a plan", self._desk.plan(call_sid, next), self._options.desk_seconds)

    async def gone_within(self, seconds: float) -> None:
        """Wait for Twilio to close the socket, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._socket.gone.wait()
        except TimeoutError:
            return

    # -- what a protocol adds

    @abstractmethod
    async def first(self) -> Arrival | None:
        """Read until it is known who calls; None = the socket was closed before."""

    @abstractmethod
    def line(self) -> Line:
        """The line, once it is known who calls."""

    @abstractmethod
    async def talk(self, call: Call) -> bool:
        """Read until the end. Answers whether Twilio has said that the stream is over."""

    @abstractmethod
    async def hung_up(self, reason: str) -> None:
        """Let what was said last be heard, and have the call ended once the socket is closed."""
