"""One WebSocket of a carrier: frames in, texts out, each with a bound, and a clear end.

A task of its own reads the socket, so that its end is seen at once, also by whoever waits for something else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from sessionmanager.bridges.carrier import LINE_SECONDS, LineGone

FRAMES_MAX: Final = 512
"""Frames that wait to be looked at; then the carrier's are no longer read."""
CLOSE_SECONDS: Final = 5.0
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_CLOSE: Final = 1006
POLICY: Final = 1008
FAULT: Final = 1011
RESTARTING: Final = 1012
TRY_AGAIN: Final = 1013
"""RFC 6455 section 7.4.1, and the registry of close codes."""
_log: Final = logging.getLogger("sessionmanager.bridges.socket")

Frame = str | bytes


class CarrierSocket:
    """An accepted socket. gone: set once it is closed by either side. lost: it was the carrier, or the network; then
    code says how. goodbye: what is to be said before this process closes it, because it stops."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(FRAMES_MAX)
        self._sending = asyncio.Lock()
        self._on_gone: set[Callable[[], None]] = set()
        self.gone = asyncio.Event()
        self.lost = False
        self.code = NO_CLOSE
        self.goodbye: Callable[[], Awaitable[None]] | None = None

    async def next(self) -> Frame | None:
        """The next frame, None once there is no more. What came before the end is handed out first."""
        if self.gone.is_set() and self._frames.empty():
            return None
        return await self._frames.get()

    async def send(self, text: str) -> None:
        """Raises LineGone: the socket is closed, or takes nothing for `LINE_SECONDS`."""
        if self.gone.is_set():
            raise LineGone
        try:
            async with asyncio.timeout(LINE_SECONDS), self._sending:
                await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            self._end(lost=True)
            raise LineGone from None

    async def close(self, code: int = NORMAL) -> None:
        """Close it, if it is open; what has come is still handed out."""
        if self.gone.is_set():
            return
        self._end(lost=False)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(code)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            return

    def when_gone(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at the end, at once if that has come. Answers what takes it back."""
        if self.gone.is_set():
            callback()
        self._on_gone.add(callback)
        return lambda: self._on_gone.discard(callback)

    def _end(self, *, lost: bool, code: int = NO_CLOSE) -> None:
        if self.gone.is_set():
            return
        self.lost = lost
        self.code = code
        self.gone.set()
        # Whoever waits for a frame must see the end; in a full queue there is a frame to wake up for.
        if not self._frames.full():
            self._frames.put_nowait(None)
        for callback in tuple(self._on_gone):
            callback()

    async def read(self) -> None:
        """Take frames in until the socket is closed."""
        while not self.gone.is_set():
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._end(lost=True, code=message.get("code", NO_CLOSE))
                return
            text = message.get("text")
            await self._frames.put(message.get("bytes") or b"" if text is None else text)


class Sockets:
    """The sockets of one application, at most `sockets_max`."""

    def __init__(self, sockets_max: int) -> None:
        self._max = sockets_max
        self._open: set[CarrierSocket] = set()
        self._stopping = False

    @property
    def is_full(self) -> bool:
        """Whether no more are taken, because there are so many, or because the process stops."""
        return self._stopping or len(self._open) >= self._max

    def __len__(self) -> int:
        return len(self._open)

    async def attend(self, websocket: WebSocket, talk: Callable[[CarrierSocket], Awaitable[None]]) -> None:
        """Accept a socket and hold it: `talk` until it returns; then it is closed. A fault of ours closes it so that
        the carrier may come back, and is logged once."""
        socket = CarrierSocket(websocket)
        self._open.add(socket)
        try:
            await websocket.accept()
            await _hold(socket, talk)
        finally:
            self._open.discard(socket)

    async def drain(self) -> None:
        """Take no more, and send every carrier away so that it comes back, to another replica or a new process."""
        self._stopping = True
        await asyncio.gather(*(_send_away(socket) for socket in tuple(self._open)))


async def _send_away(socket: CarrierSocket) -> None:
    if socket.goodbye is not None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.goodbye()
        except (LineGone, TimeoutError):
            return
    await socket.close(RESTARTING)


async def _hold(socket: CarrierSocket, talk: Callable[[CarrierSocket], Awaitable[None]]) -> None:
    reading = asyncio.create_task(socket.read(), name="frames of a carrier")
    try:
        await talk(socket)
    except LineGone:
        pass
    except Exception:
        _log.exception("a carrier's conversation failed")
        await socket.close(FAULT)
    finally:
        await socket.close()
        reading.cancel()
        await asyncio.wait([reading])
