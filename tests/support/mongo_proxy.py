"""A man in the middle who reads the MongoDB wire protocol: counts, cuts, holds and forges, command by command.

As `replica_set` it plays the primary of a set in front of a server that has no sessions: it answers for `hello`, takes
sessions and transaction numbers off what it passes on, and, as MongoDB does, answers a write that is sent again with
its first answer. With `forgets` it does not: a server whose retry path is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import bson

Document = dict[str, Any]
Act = Callable[["Call"], Awaitable[Document | None]]

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_SESSION_FIELDS = ("lsid", "txnNumber", "$clusterTime")


class Call:
    """One command on its way. `forward` passes it on and gives the answer; `cut` ends the client's connection."""

    def __init__(self, name: str, command: Document, forward: Callable[[], Awaitable[Document]]) -> None:
        self.name = name
        self.command = command
        self.forward = forward

    @staticmethod
    def cut() -> None:
        raise ConnectionResetError


class Rule:
    """What happens to the next `times` commands called `name` that `where` says yes to."""

    def __init__(self, name: str, act: Act, times: int, where: Callable[[Document], bool]) -> None:
        self.name, self.act, self.left, self.where = name, act, times, where
        self.reached = asyncio.Event()
        self.released = asyncio.Event()


class MongoProxy:
    """See the module. `sent`: bytes of each command that came, by name, in order; `answered`: of its answers."""

    def __init__(self, upstream: tuple[str, int], *, replica_set: bool, forgets: bool) -> None:
        self._upstream = upstream
        self._replica_set = replica_set
        self._forgets = forgets
        self._answers: dict[tuple[bytes, int], asyncio.Future[Document]] = {}
        self._rules: list[Rule] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.down = False
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.answered: dict[str, list[int]] = defaultdict(list)
        self.commands: list[tuple[str, Document]] = []
        self.hello: Document = {}

    # -- what a test asks for

    def lose_answer(self, name: str, times: int = 1, where: Callable[[Document], bool] = lambda _: True) -> Rule:
        """It is applied; then the connection breaks."""

        async def act(call: Call) -> Document | None:
            await call.forward()
            return call.cut()

        return self._add(name, act, times, where)

    def cut_before(self, name: str, times: int = 1, where: Callable[[Document], bool] = lambda _: True) -> Rule:
        """The server never hears of it; the connection breaks."""

        async def act(call: Call) -> Document | None:
            return call.cut()

        return self._add(name, act, times, where)

    def hold(self, name: str, where: Callable[[Document], bool] = lambda _: True) -> Rule:
        """It is passed on once the rule's `released` is set."""

        async def act(call: Call) -> Document | None:
            rule.reached.set()
            await rule.released.wait()
            return await call.forward()

        rule = self._add(name, act, 1, where)
        return rule

    def answer(self, name: str, document: Document, *, applied: bool = False, times: int = 1) -> Rule:
        """The client gets this; `applied`: after the server did it."""

        async def act(call: Call) -> Document | None:
            if applied:
                await call.forward()
            return document

        return self._add(name, act, times, lambda _: True)

    def mend(self) -> None:
        """No rule holds any more."""
        self._rules.clear()

    def cut_all(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def _add(self, name: str, act: Act, times: int, where: Callable[[Document], bool]) -> Rule:
        rule = Rule(name, act, times, where)
        self._rules.append(rule)
        return rule

    # -- the wire

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection: a question, its answer, and again."""
        if self.down:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:  # the server is down: so is whoever stands before it
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            while True:
                size, request_id, _, op = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                body = await reader.readexactly(size - _HEADER.size)
                command, rest = _question(op, body)
                name = next(iter(command))
                self.sent[name].append(size)
                self.commands.append((name, command))

                async def forward(
                    op: int = op, command: Document = command, rest: bytes = rest, request_id: int = request_id
                ) -> Document:
                    asked = {k: v for k, v in command.items() if not self._replica_set or k not in _SESSION_FIELDS}
                    up_writer.write(_asked(op, request_id, asked, rest))
                    _, document, length = await _read_answer(up_reader)
                    self.answered[next(iter(command))].append(length)
                    return document

                document = await self._act(Call(name, command, forward))
                writer.write(_answer(op, request_id, document))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            up_writer.transport.abort()

    async def _act(self, call: Call) -> Document:
        call.forward = self._once(call)
        for rule in self._rules:
            if rule.name == call.name and rule.left and rule.where(call.command):
                rule.left -= 1
                document = await rule.act(call)
                assert document is not None
                return document
        document = await call.forward()
        if self._replica_set and call.name.lower() in ("hello", "ismaster"):
            document |= {
                "setName": "rs0",
                "setVersion": 1,
                "hosts": [self.address],
                "primary": self.address,
                "me": self.address,
                "ismaster": True,
                "isWritablePrimary": True,
                "logicalSessionTimeoutMinutes": 30,
            }
        if call.name.lower() in ("hello", "ismaster"):
            document |= self.hello
        return document

    def _once(self, call: Call) -> Callable[[], Awaitable[Document]]:
        """A write with a transaction number is done once, and answered as often as it is asked."""
        forward = call.forward
        if not self._replica_set or self._forgets or "txnNumber" not in call.command:
            return forward
        name = (bytes(call.command["lsid"]["id"]), int(call.command["txnNumber"]))

        async def once() -> Document:
            known = self._answers.get(name)
            if known is None:
                known = self._answers[name] = asyncio.get_running_loop().create_future()
                known.set_result(await forward())
            return await known

        return once


def _question(op: int, body: bytes) -> tuple[Document, bytes]:
    """The command, and what follows its first section (documents of an insert or update)."""
    if op == _OP_QUERY:
        start = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[start:]), b""
    assert op == _OP_MSG, f"an operation {op} is not of this protocol"
    (length,) = struct.unpack_from("<i", body, 5)
    command = bson.decode(body[5 : 5 + length])
    return command, body[5 + length :]


def _asked(op: int, request_id: int, command: Document, rest: bytes) -> bytes:
    document = bson.encode(command)
    if op == _OP_QUERY:
        payload = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + document
    else:
        payload = struct.pack("<I", 0) + b"\0" + document + rest
    return _HEADER.pack(_HEADER.size + len(payload), request_id, 0, op) + payload


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, Document, int]:
    size, _, _, op = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    body = await reader.readexactly(size - _HEADER.size)
    return op, bson.decode(body[20:] if op == _OP_REPLY else body[5:]), size


def _answer(op: int, request_id: int, document: Document) -> bytes:
    encoded = bson.encode(document)
    if op == _OP_QUERY:
        payload, answer_op = struct.pack("<iqii", 8, 0, 0, 1) + encoded, _OP_REPLY
    else:
        payload, answer_op = struct.pack("<I", 0) + b"\0" + encoded, _OP_MSG
    return _HEADER.pack(_HEADER.size + len(payload), 1, request_id, answer_op) + payload


@asynccontextmanager
async def a_proxy(
    upstream: tuple[str, int], *, replica_set: bool = False, forgets: bool = False
) -> AsyncGenerator[MongoProxy]:
    """A proxy that listens on a free port of this machine; its `address` is host and port."""
    proxy = MongoProxy(upstream, replica_set=replica_set, forgets=forgets)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await proxy.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
