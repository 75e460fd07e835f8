"""A small TCP proxy with one address for services that come and go, and a hand that drops answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

PIECE_BYTES: Final = 65_536


class Proxy:
    """upstream: where requests go, None = nobody is there. drops: the share of answers that are cut, half of them
    before their first byte, half within. dropped: how many so far."""

    def __init__(self, rng: random.Random, drops: float) -> None:
        self.address = ""
        self.upstream: str | None = None
        self.drops = drops
        self.dropped = 0
        self._rng = rng
        self._open: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if self.upstream is not None:
                url = urlsplit(self.upstream)
                there, to_there = await asyncio.open_connection(url.hostname, url.port)
                try:
                    await self._both(reader, to_there, there, writer)
                finally:
                    to_there.transport.abort()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # by `close`, too: a handler that ends as cancelled is an error in asyncio's log
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        to_there: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        ways = {asyncio.create_task(_pass(reader, to_there)), asyncio.create_task(self._answers(there, writer))}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await there.read(PIECE_BYTES):
            if self._rng.random() < self.drops:
                self.dropped += 1
                if self._rng.random() < 0.5:
                    writer.write(piece[: len(piece) // 2])
                    with suppress(ConnectionError):
                        await writer.drain()
                return
            writer.write(piece)
            await writer.drain()

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()


@asynccontextmanager
async def proxy(rng: random.Random, *, drops: float = 0.0) -> AsyncGenerator[Proxy]:
    """A proxy on a free port of loopback."""
    one = Proxy(rng, drops)
    server = await asyncio.start_server(one.handle, "127.0.0.1", 0)
    one.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()
        await one.close()
