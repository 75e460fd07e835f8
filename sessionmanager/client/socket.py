"""A session's feed and requests beside it on one connection, opened anew whenever it ends.

What is not answered when it ends is sent again with the same key; each stored entry is given once and in order.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from sessionmanager import __version__
from sessionmanager.client.bodies import Entry as EntryDict
from sessionmanager.client.bodies import with_ids
from sessionmanager.client.caller import Caller, decode, given, session_path
from sessionmanager.client.client import credential_header, trace_headers
from sessionmanager.client.problems import NotOurs, TimedOut, Unreachable, error_of, unreached
from sessionmanager.client.retry import AGAIN
from sessionmanager.client.stream import EVENT_BYTES_MAX, SILENCE_SECONDS, Resync, Signal
from sessionmanager.errors import Erased, OutcomeUnknown, SessionManagerError, Unauthenticated
from sessionmanager.wire.answers import Entry, Participant, Receipt

EVENTS_MAX: Final = 1000
"""Events that wait for whoever iterates; beyond, the connection is opened anew from there once they are taken."""
PROBLEM: Final = "application/problem+json"
FIRST_REFUSED: Final = 400


class Frame(Struct, frozen=True):
    """What the service sends."""

    type: str
    seq: int = 0
    entry: Raw = Raw(b"null")
    signal: Raw = Raw(b"null")
    id: str | None = None
    status: int = 0
    body: Raw = Raw(b"null")
    retry_after: int | None = None
    after: int | None = None
    reason: str = ""
    location: str = ""
    retry_ms: int = 0
    heartbeat_seconds: float | None = None


class AsyncSocket:
    """Made by `AsyncClient.socket`. Iterate over it for events; requests go beside, one answered after the other.

    cursor: after which entry the next connection goes on.
    """

    def __init__(self, caller: Caller, id: str, url: str, after: int | None) -> None:
        self.cursor = after
        self._caller = caller
        self._id = id
        self._url = url
        self._events: asyncio.Queue[Entry | Signal | Resync | SessionManagerError] = asyncio.Queue()
        self._behind = False
        self._connection: ClientConnection | None = None
        self._is_open = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self._silence = SILENCE_SECONDS
        self._ended: SessionManagerError | None = None
        self._tries = 0
        self._renewed = False
        self._refused: str | None = None

    # -- events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry | Signal | Resync:
        """The next event. Raises what ends the feed for good: Erased, Unauthenticated, a refusal."""
        if self._behind and self._events.empty() and self._connection is not None:
            await self._connection.close()  # what was left out since comes over the next one
        event = await self._events.get()
        if isinstance(event, SessionManagerError):
            self._events.put_nowait(event)
            raise event
        return event

    # -- requests

    async def append(self, entries: Sequence[EntryDict | Mapping[str, Any]], *, key: str | None = None) -> Receipt:
        """As `AsyncClient.append`."""
        frame = await self._ask("append", key or uuid.uuid4().hex, body={"entries": with_ids(entries)})
        receipt = decode(bytes(frame.body), Receipt)
        self._caller.versions.wrote(self._id, receipt.version)
        return receipt

    async def signal(self, type: str, data: Any = UNSET) -> None:
        """Tell whoever listens now; nothing is stored."""
        await self._ask("signal", body=given(type=type, data=data))

    async def heartbeat(self, pid: str | UnsetType = UNSET) -> Participant:
        """News of a participant. pid: of which, where the token does not say it."""
        frame = await self._ask("heartbeat", participant=pid)
        return decode(bytes(frame.body), Participant)

    async def ping(self) -> None:
        """A request and its answer; nothing is done."""
        await self._ask("ping")

    async def _ask(self, op: str, key: str | UnsetType = UNSET, **members: Any) -> Frame:
        request = given(op=op, key=key, **members)

        async def attempt(seconds: float) -> Frame:
            return await self._once(request, seconds)

        return await self._caller.retrier.run(attempt)

    async def _once(self, request: Mapping[str, Any], seconds: float) -> Frame:
        id = uuid.uuid4().hex
        text = msgspec.json.encode({**request, "id": id}).decode()
        is_sent = False
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        try:
            async with asyncio.timeout(seconds):
                while self._connection is None:
                    if self._ended is not None:
                        raise self._ended
                    self._is_open.clear()
                    await self._is_open.wait()
                is_sent = True
                await self._connection.send(text)
                frame = await answer
        except (TimeoutError, ConnectionClosed):
            if not is_sent:
                raise Unreachable(f"no connection to {self._caller.plain.where}") from None
            raise (OutcomeUnknown() if "key" in request else TimedOut()) from None
        finally:
            del self._answers[id]
        if frame.status < FIRST_REFUSED:
            return frame
        headers = {"content-type": PROBLEM, "retry-after": str(frame.retry_after or "")}
        raise error_of(frame.status, headers, bytes(frame.body))

    # -- connections

    async def run(self) -> None:
        """Connect, and again whenever the connection ends, until the service says that it is for good."""
        token = ""
        while self._ended is None:
            try:
                token = await self._caller.bearer(self._refused)
                self._refused = None
                retry_ms = await self._connected(token)
                pause = retry_ms / 1000
            except Unauthenticated as error:
                if isinstance(self._caller.token, str) or self._renewed:
                    self._end(error)
                    return
                self._renewed, self._refused, pause = True, token, 0.0
            except SessionManagerError as error:
                if error.remedy not in AGAIN:
                    self._end(error)
                    return
                self._tries += 1
                pause = self._caller.retrier.pause(error, self._tries)
            except Exception as error:
                # Whoever gives tokens may raise what it likes; whoever waits here must hear of it.
                self._end(SessionManagerError(f"{type(error).__name__} while it was connected"))
                raise
            await asyncio.sleep(pause)

    async def _connected(self, token: str) -> int:
        """One connection to its end. Answers when to come back; raises what ends the feed, or Unreachable."""
        headers = trace_headers() | self._caller.plain.always | credential_header(token)
        if self.cursor is not None:
            headers["Last-Event-ID"] = str(self.cursor)
        try:
            async with _Connect(
                self._url,
                additional_headers=headers,
                user_agent_header=f"sessionmanager/{__version__}",
                compression=None,
                max_size=EVENT_BYTES_MAX,
                open_timeout=self._caller.retrier.policy.try_seconds,
                close_timeout=1.0,
                ping_interval=None,
                logger=_silent,
                proxy=True if self._caller.plain.trusts_environment else None,
            ) as connection:
                try:
                    self._connection, self._tries, self._renewed = connection, 0, False
                    self._behind = False  # not before: what the last one still had to say comes again over this one
                    self._is_open.set()
                    return await self._read(connection)
                finally:
                    self._connection = None
                    self._fail_answers()
        except InvalidStatus as error:
            response = error.response
            found = {name.lower(): value for name, value in response.headers.raw_items()}
            raise error_of(response.status_code, found, bytes(response.body or b"")) from None
        except (OSError, TimeoutError) as error:
            raise Unreachable(unreached(error, self._caller.plain.where)) from None
        except WebSocketException:
            raise Unreachable(f"the connection to {self._caller.plain.where} ended") from None

    async def _read(self, connection: ClientConnection) -> int:
        while True:
            async with asyncio.timeout(self._silence):
                text = await connection.recv(decode=False)
            try:
                frame = _frames.decode(text)
            except msgspec.MsgspecError:
                raise NotOurs("a frame that is none of this service's") from None
            if frame.type == "goaway":
                return frame.retry_ms
            if frame.type == "expired":
                raise Unauthenticated("the token of the connection is over")
            if frame.type == "erased":
                raise Erased("the session is erased for ever")
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.type == "answer":
            waiting = self._answers.get(frame.id or "")
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)
        elif frame.type == "hello":
            if self.cursor is None:
                self.cursor = frame.after
            if frame.heartbeat_seconds:
                self._silence = 3 * frame.heartbeat_seconds
        elif frame.type == "resync":
            self.cursor = frame.after
            self._events.put_nowait(Resync(reason=frame.reason, location=frame.location, after=frame.after or 0))
        elif frame.type in ("entry", "signal"):
            self._give(frame)

    def _give(self, frame: Frame) -> None:
        if self._behind or self._events.qsize() >= EVENTS_MAX:
            self._behind = True
        elif frame.type == "signal":
            self._events.put_nowait(decode(bytes(frame.signal), Signal))
        elif self.cursor is None or frame.seq > self.cursor:
            self.cursor = frame.seq
            self._events.put_nowait(decode(bytes(frame.entry), Entry))

    def _fail_answers(self) -> None:
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ConnectionClosed(None, None))

    def _end(self, error: SessionManagerError) -> None:
        self._ended = error
        self._is_open.set()
        self._events.put_nowait(error)


class _Connect(connect):
    """Goes where it is told and nowhere else: a redirect would take the token with it."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


_silent: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001  # one that nobody can turn on
"""The library writes headers and frames into its log, and in them tokens and what is said."""
_frames: Final = msgspec.json.Decoder(Frame)


@asynccontextmanager
async def open_socket(caller: Caller, id: str, after: int | None) -> AsyncGenerator[AsyncSocket]:
    """A socket that connects at once and stays connected until the end."""
    url = caller.plain.url_of(f"{session_path(id)}/ws").replace("http", "ws", 1)
    socket = AsyncSocket(caller, id, url, after)
    running = asyncio.create_task(socket.run(), name=f"socket of {id}")
    try:
        yield socket
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
