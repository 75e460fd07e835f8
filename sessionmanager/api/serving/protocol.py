"""uvicorn's HTTP protocol with the deadlines and bounds for receiving a request that it does not have.

Each connection is bounded by itself, whatever the application does: how long headers and bodies may take, how big a
header may be, how much of a refused body is read away, how long a reader may stall. The common request, which comes in
one piece, sets no timer at all.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import httptools
import msgspec
from msgspec import Struct
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sessionmanager.api.live.sse import ABORT
from sessionmanager.api.problems import render
from sessionmanager.api.reply import PROBLEM, WHOLE
from sessionmanager.api.serving.cycle import AnswerCycle, Joining
from sessionmanager.errors import RateLimited

HEADERS_MAX: Final = 100
PIPELINED_MAX: Final = 64
CONNECTIONS_SPARE: Final = 256
"""Connections over the bound that still get an answer; beyond them they are cut when they open."""


class ServerBounds(Struct, frozen=True, kw_only=True):
    """What one connection may take, and how many there may be.

    headers_seconds: from the first byte of a request (or the opening of the connection) to the end of its headers.
    body_idle_seconds: between two pieces of a body. body_bytes_per_second: the least average after that time.
    write_stall_seconds: how long a reader may leave an answer unread. discard_bytes_max: of a body after its answer.
    """

    headers_seconds: float = 10.0
    body_idle_seconds: float = 15.0
    body_bytes_per_second: float = 16 * 1024.0
    write_stall_seconds: float = 30.0
    keep_alive_seconds: int = 30
    shutdown_seconds: int = 20
    connections_max: int = 10_000
    header_line_bytes_max: int = 16 * 1024
    header_bytes_max: int = 64 * 1024
    discard_bytes_max: int = 8 * 1024 * 1024
    backlog: int = 2048


class _TooLargeHeaders(Exception):
    """The header section is over its bounds."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol under `ServerBounds`.

    llhttp, strict as httptools builds it, refuses Content-Length beside Transfer-Encoding, either of them twice, folded
    and bare-LF lines and NULs; each gets a 400 and the connection is closed.
    """

    bounds: ServerBounds = ServerBounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit_concurrency = None  # ours answers with a problem document
        self._ended = False
        self._in_headers = True
        self._in_body = False
        self._completed = 0
        self._fed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._body_began = self._heard = 0.0
        self._body_bytes = self._discarded = 0
        self._extensions: dict[str, Any] = {}

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._joining = Joining(transport, self.loop)
        self._extensions = {ABORT: {"abort": transport.abort}, WHOLE: {}}
        if len(self.connections) > self.bounds.connections_max + CONNECTIONS_SPARE:
            self._ended = True
            transport.abort()
            return
        self._arm(self.bounds.headers_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._unset_keepalive_if_required()
        completed = self._completed
        self._fed += len(data)
        assert self.parser is not None, "data on a connection that is lost"
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _TooLargeHeaders):
                self._refuse(431, "the header section is too large")
            else:
                self._refuse(400, "not HTTP/1.1 as RFC 9112 has it")
        if self._ended:
            return
        if self._completed != completed:
            self._disarm()
            # Of a request that began in the same piece it is not known how much came: look at its headers exactly.
            self._fed = min(len(data), self.bounds.header_line_bytes_max + 1) if self._under_way else 0
            self._wait_for_next()
        elif self._in_headers and self._fed > self.bounds.header_bytes_max:
            self._refuse(431, "the header section is too large")
        if self._under_way and self._timer is None and not self._ended:
            self._arm(self.bounds.headers_seconds if self._in_headers else self.bounds.body_idle_seconds)

    @property
    def _under_way(self) -> bool:
        """Whether part of a request has come. Also for bytes that begin none, such as empty lines: they keep nothing
        open for longer than headers may take."""
        return self._in_headers or self._in_body

    def _wait_for_next(self) -> None:
        """Set the keep-alive timer again where the answer went out before the end of the body, which took it down."""
        if not self._under_way and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _should_upgrade_to_ws(self) -> bool:
        # Whoever asks without a key does not mean it, and is answered as plain HTTP.
        return super()._should_upgrade_to_ws() and any(name == b"sec-websocket-key" for name, _ in self.headers)

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self._disarm()
            self._ended = True
            self.handle_websocket_upgrade()
            return
        # Answered as plain HTTP; what follows may be another protocol, so nothing of it is read.
        self._ended = True
        self._disarm()
        self.cycle.keep_alive = False

    # -- the request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        # Nothing can be over a bound in a request that came in one small piece.
        if self._fed > self.bounds.header_line_bytes_max or len(self.headers) > HEADERS_MAX:
            self._check_header_sizes()
        if len(self.pipeline) >= PIPELINED_MAX:
            raise _TooLargeHeaders
        self._body_bytes = self._discarded = 0
        self._body_began = self._heard = self.loop.time()
        busy = len(self.connections) > self.bounds.connections_max or len(self.tasks) >= self.bounds.connections_max
        self.app = overloaded if busy else self.config.loaded_app  # type: ignore[assignment]
        super().on_headers_complete()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None:  # as it is where the connection is upgraded
            cycle.__class__ = AnswerCycle  # uvicorn names its own; it has not sent anything yet
            cycle.transport = cast("asyncio.Transport", self._joining)
        self._in_headers, self._in_body = False, True

    def _check_header_sizes(self) -> None:
        bounds = self.bounds
        sizes = [len(name) + len(value) for name, value in self.headers]
        longest, total = max([len(self.url), *sizes]), len(self.url) + sum(sizes)
        if longest > bounds.header_line_bytes_max or total > bounds.header_bytes_max or len(sizes) > HEADERS_MAX:
            raise _TooLargeHeaders

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._heard = self.loop.time()
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > self.bounds.discard_bytes_max:
                self._close()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_headers = self._in_body = False
        self._completed += 1
        super().on_message_complete()

    # -- deadlines

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._ended:
            return
        wait = self._body_wait() if self._in_body else 0.0
        if wait > 0:
            self._arm(wait)
        elif self._in_body or self._fed:
            self._refuse(408, "the request came too slowly")
        else:
            self._close()

    def _body_wait(self) -> float:
        """Seconds until the body must have gone on; 0 = it is too slow. While we do not read, nobody is late."""
        bounds, now = self.bounds, self.loop.time()
        if self.flow.read_paused:
            self._body_began += bounds.body_idle_seconds
            return bounds.body_idle_seconds
        idle = self._heard + bounds.body_idle_seconds - now
        rate = self._body_began + bounds.body_idle_seconds + self._body_bytes / bounds.body_bytes_per_second - now
        return max(0.0, min(idle, rate))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _watch_reader(self, unread: int | None = None) -> None:
        """Cut a reader that took nothing of what is written for it during the whole stall time."""
        now_unread = self.transport.get_write_buffer_size()
        if unread is not None and now_unread >= unread:
            self.transport.abort()
            return
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = self.loop.call_later(self.bounds.write_stall_seconds, self._watch_reader, now_unread)

    # -- the end

    def _refuse(self, status: int, detail: str) -> None:
        """Answer once where nothing was answered yet, and close; an application that waits for the body is told."""
        self._ended = True
        cycle = self._unanswered()
        if cycle is not None and not self._in_body:
            # It is a later request that is wrong: the earlier one gets its answer first, and then the end.
            self._disarm()
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if cycle is None or not cycle.response_started:
            self.transport.write(_refusal(status, detail))
        self._close()

    def _close(self) -> None:
        """Close when what was written is out; a reader that takes nothing is cut after the stall time."""
        self._ended = True
        self._disarm()
        cycle = self._unanswered()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._watch_reader()

    def _unanswered(self) -> RequestResponseCycle | None:
        """The newest request, while its answer is not out."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle


_PHRASES: Final = {
    400: ("malformed", "Bad Request"),
    408: ("malformed", "Request Timeout"),
    431: ("malformed", "Request Header Fields Too Large"),
}


def _refusal(status: int, detail: str) -> bytes:
    """The whole answer to what never became a request."""
    name, phrase = _PHRASES[status]
    document = {"type": name, "title": phrase, "status": status, "detail": detail, "remedy": "fix"}
    body = msgspec.json.encode(document)
    lines = (f"HTTP/1.1 {status} {phrase}", f"content-type: {PROBLEM[1].decode()}", f"content-length: {len(body)}")
    return "\r\n".join((*lines, "connection: close", "", "")).encode() + body


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer while there are too many connections or requests: nothing is read, nothing is queued."""
    answer = render(RateLimited("too many connections"), path=scope["path"], request_id="")
    answer.raw_headers.append((b"connection", b"close"))
    await answer(scope, receive, send)
