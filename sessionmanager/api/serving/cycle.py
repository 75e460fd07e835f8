"""uvicorn's half of one request, with a way out for answers that are there as a whole: one message, one write.

As ASGI has it ("HTTP Connection Scope"), an answer takes two messages, each a coroutine; uvicorn writes each by itself
and looks at every header with two regular expressions. That stays the way of streams.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from sessionmanager.api.reply import WHOLE

_STATUS_LINE: Final = b"HTTP/1.1 "
_CLOSE: Final = (b"connection", b"close")


class Joining:
    """A transport for answers in pieces: the head waits for the first piece of the body, so that both leave in one
    write. A head that nothing follows within a turn of the loop goes alone.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        head = self._head
        if head is not None:
            self._head = None
            self._transport.writelines((head, data))
        elif data.startswith(_STATUS_LINE):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self._transport.writelines(pieces)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)


class AnswerCycle(RequestResponseCycle):
    """A cycle that knows `WHOLE`. Headers are written as they are given: names in lower case.

    Raises RuntimeError for a header that would begin a line of its own, before anything is written.
    """

    async def send(self, message: Any) -> None:
        body: bytes | None = message.get(WHOLE)
        if body is None:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("a whole answer after one that has begun")
        headers: list[tuple[bytes, bytes]] = message["headers"]
        if _CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(_CLOSE)
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *headers)]
        head = b"".join((STATUS_LINE[message["status"]], *lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
            raise RuntimeError("a header with the end of a line in it")
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.writelines((head, body) if body else (head,))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
