"""The line to an S3 server, in our hands: every request and every answer may be changed, kept back or cut.

One request a connection, whole in memory. Signatures hold as long as the signed headers stay as they were.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 * 1024


class Message(NamedTuple):
    """A request or an answer: its first line, its headers as they came, its body."""

    first: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known.lower() == name), None)

    def without(self, *names: str) -> Message:
        return self._replace(headers=tuple(each for each in self.headers if each[0].lower() not in names))

    def raw(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Cut(Exception):
    """Close the connection without another byte."""


Pass = Callable[[Message], Awaitable[Message]]
Rule = Callable[[Message, Pass], Awaitable[Message | bytes]]
"""Gets a request and a way to the server; answers what the client is to get (bytes: just these, then the end)."""


def answer(status: int, code: str, *headers: tuple[str, str]) -> Message:
    """What S3 says with an error."""
    body = f"<Error><Code>{code}</Code><Message>-</Message></Error>".encode()
    told = (("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Connection", "close"))
    return Message(f"HTTP/1.1 {status} -", (*told, *headers), body)


class Line:
    """A proxy before one server. `rule` may be set any time; None passes everything on. seen: every request."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname, parts.port
        self.rule: Rule | None = None
        self.seen: list[Message] = []
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def count(self, method: str, part: str = "") -> int:
        return sum(1 for each in self.seen if each.method == method and part in each.target)

    def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader)
            self.seen.append(request)
            try:
                out = await (self.rule(request, self._pass) if self.rule else self._pass(request))
            except Cut:
                writer.transport.abort()
                return
            if isinstance(out, Message):
                out = (out._replace(body=b"") if request.method == "HEAD" else out).raw()
            writer.write(out)
            await writer.drain()

    async def _pass(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request.raw())
            await writer.drain()
            got = await _read(reader, headless=request.method == "HEAD")
            kept = got.without("connection", "transfer-encoding", "content-length").headers
            length = got.header("content-length") or str(len(got.body))
            return got._replace(headers=(*kept, ("Content-Length", length), ("Connection", "close")))
        finally:
            writer.close()


@asynccontextmanager
async def a_line(upstream: str) -> AsyncGenerator[Line]:
    """A line to a server, on a free port of loopback."""
    line = Line(upstream)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield line
        for task in line.tasks:
            task.cancel()
        await asyncio.gather(*line.tasks, return_exceptions=True)


async def _read(reader: StreamReader, *, headless: bool = False) -> Message:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    message = Message(first, headers, b"")
    length = message.header("content-length")
    if headless or re.search(r" (204|304) ", f"{first} "):
        return message
    if "chunked" in (message.header("transfer-encoding") or ""):
        return message._replace(body=await _chunks(reader))
    if length is not None:
        return message._replace(body=await reader.readexactly(int(length)))
    return message._replace(body=await reader.read() if first.startswith("HTTP/") else b"")


async def _chunks(reader: StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


def on(method: str, part: str, then: Rule, *, times: int = 1) -> Rule:
    """A rule for the first requests with this method and this in their target; others pass."""
    left = times

    async def rule(request: Message, pass_on: Pass) -> Message | bytes:
        nonlocal left
        if left and request.method == method and part in request.target:
            left -= 1
            return await then(request, pass_on)
        return await pass_on(request)

    return rule


async def lost_after(request: Message, pass_on: Pass) -> Message:
    await pass_on(request)
    raise Cut


async def lost_before(request: Message, pass_on: Pass) -> Message:
    raise Cut


def says(status: int, code: str, *headers: tuple[str, str]) -> Rule:
    async def rule(request: Message, pass_on: Pass) -> Message:
        return answer(status, code, *headers)

    return rule
