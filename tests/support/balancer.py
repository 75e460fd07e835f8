"""A balancer of connections, as an ingress is one: each goes to a replica that takes it, else to the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import httpx2

from tests.support.server import NO_TLS

CONNECT_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.2
PIECE_BYTES: Final = 65_536


class Balancer:
    """backends: addresses such as `http://127.0.0.1:8001`, all of which may be away for a while. probes: those are
    asked whether they are ready, and connections go to them in turn; else to the first that takes one. accepted:
    connections so far."""

    def __init__(self, backends: Sequence[str], *, probes: bool = True) -> None:
        self._backends = list(backends)
        self._probes = probes
        self.accepted = 0
        self._ready = dict.fromkeys(backends, True)
        self._probed = asyncio.Condition()
        self._turn = count()
        self.address = ""

    @asynccontextmanager
    async def balancing(self) -> AsyncGenerator[Balancer]:
        """It listens, and looks after its replicas, until the end of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        probe = asyncio.create_task(self._probe() if self._probes else asyncio.sleep(0))
        try:
            yield self
        finally:
            probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probe
            server.close()

    async def until_ready(self, backend: str) -> None:
        async with self._probed:
            await self._probed.wait_for(lambda: self._ready[backend])

    async def until_away(self, backend: str) -> None:
        async with self._probed:
            await self._probed.wait_for(lambda: not self._ready[backend])

    async def _probe(self) -> None:
        async with httpx2.AsyncClient(timeout=CONNECT_SECONDS, verify=NO_TLS) as client:
            while True:
                for backend in self._backends:
                    try:
                        self._ready[backend] = (await client.get(f"{backend}/readyz")).status_code == 200
                    except httpx2.HTTPError:
                        self._ready[backend] = False
                async with self._probed:
                    self._probed.notify_all()
                await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            ready = [backend for backend in self._backends if self._ready[backend]] or self._backends
            turn = next(self._turn) if self._probes else 0
            for n in range(len(ready)):
                host, _, port = ready[(turn + n) % len(ready)].removeprefix("http://").partition(":")
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        there, back = await asyncio.open_connection(host, int(port))
                except OSError:
                    continue
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
                return
        finally:
            writer.close()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            target.write(piece)
            await target.drain()
    target.close()
