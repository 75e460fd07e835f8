"""Readers of feeds: over ASGI in this process, and over sockets of a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE_SECONDS: Final = 20.0
STREAM: Final = b"text/event-stream"


class ServerEvent(NamedTuple):
    """One event of a stream, as the client's parser has it (WHATWG HTML, section 9.2.6)."""

    id: str | None
    name: str
    data: str
    retry: int | None = None

    def json(self) -> Any:
        return json.loads(self.data)


class Parser:
    """Bytes → events and comments."""

    def __init__(self) -> None:
        self._rest = b""
        self.comments: list[str] = []

    def feed(self, data: bytes) -> list[ServerEvent]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        return [event for block in blocks if (event := self._event(block)) is not None]

    def _event(self, block: bytes) -> ServerEvent | None:
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
                continue
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name not in fields, "one line a field"
            assert name in ("id", "event", "data", "retry"), line
            fields[name] = value
        if "data" not in fields:
            assert fields == {}, block
            return None
        retry = fields.get("retry")
        return ServerEvent(fields.get("id"), fields["event"], fields["data"], None if retry is None else int(retry))


def leaving_streams(app: ASGIApp) -> ASGIApp:
    """The application for a client that reads answers whole: it leaves a stream after the first piece."""

    async def leaving(scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.Event()
        streams = ended = False

        async def watch(message: Message) -> None:
            nonlocal streams, ended
            if message["type"] == "http.response.start":
                streams = (b"content-type", STREAM) in message["headers"]
            elif streams:
                left.set()
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def until_left() -> Message:
            leave, message = asyncio.create_task(left.wait()), asyncio.ensure_future(receive())
            try:
                await asyncio.wait((leave, message), return_when=asyncio.FIRST_COMPLETED)
                return {"type": "http.disconnect"} if leave.done() else message.result()
            finally:
                leave.cancel()
                message.cancel()

        await app(scope, until_left if scope["type"] == "http" else receive, watch)
        if streams and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return leaving


class Stream:
    """An open stream. status, headers: of its answer. events: what has come; `leave` hangs up."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.events: list[ServerEvent] = []
        self.ended = False
        self.parser = Parser()
        self._came = asyncio.Event()

    @property
    def comments(self) -> list[str]:
        return self.parser.comments

    def take(self, data: bytes) -> None:
        self.body += data
        if self.headers.get("content-type") == STREAM.decode():
            self.events += self.parser.feed(data)
        self._came.set()

    def end(self) -> None:
        self.ended = True
        self._came.set()

    async def until(self, count: int = 0, name: str | None = None) -> list[ServerEvent]:
        """The events so far, once there are so many, or one of this name; or once it has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.ended and not (
                (count and len(self.events) >= count) or (name and any(event.name == name for event in self.events))
            ):
                self._came.clear()
                await self._came.wait()
        return self.events

    async def over(self) -> list[ServerEvent]:
        """All events, once the service has ended the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.ended:
                self._came.clear()
                await self._came.wait()
        return self.events

    def stored(self) -> list[int]:
        """The seqs of the stored entries that came."""
        for event in self.events:
            assert event.id is None or event.json()["seq"] == int(event.id)
        return [int(event.id) for event in self.events if event.id is not None]


@asynccontextmanager
async def asgi_stream(
    app: ASGIApp, path: str, token: str | None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncGenerator[Stream]:
    """A stream of an application in this process; leaving hangs up."""
    url = urlsplit(path)
    given = list(headers)
    if token is not None:
        given.append((b"authorization", f"Bearer {token}".encode()))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "headers": given,
        "scheme": "http",
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "server": ("service.test", 80),
        "client": ("127.0.0.1", 50_000),
        "root_path": "",
    }
    stream, leave = Stream(), asyncio.Event()

    async def receive() -> Message:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            stream.status = message["status"]
            stream.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            stream.take(message.get("body", b""))
            if not message.get("more_body"):
                stream.end()

    async def run() -> None:
        try:
            await app(scope, receive, send)
        finally:
            stream.end()

    task = asyncio.create_task(run())
    try:
        await stream.until(count=1)
        yield stream
    finally:
        leave.set()
        await task


@asynccontextmanager
async def socket_stream(
    address: str, path: str, token: str, headers: Sequence[tuple[str, str]] = ()
) -> AsyncGenerator[Stream]:
    """A stream of a real server over a connection of its own; leaving cuts it without a word."""
    url = urlsplit(address)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    lines = [f"GET {path} HTTP/1.1", f"Host: {url.netloc}", f"Authorization: Bearer {token}"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join((*lines, "", "")).encode())
    stream = Stream()

    async def read() -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            status, *fields = head.decode().split("\r\n")[:-2]
            stream.status = int(status.split()[1])
            stream.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            if "content-length" in stream.headers:
                stream.take(await reader.readexactly(int(stream.headers["content-length"])))
                return
            while size := int(await reader.readuntil(b"\r\n"), 16):
                stream.take(await reader.readexactly(size))
                await reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            stream.end()

    task = asyncio.create_task(read())
    try:
        yield stream
    finally:
        writer.transport.abort()
        task.cancel()
        await asyncio.wait([task])
