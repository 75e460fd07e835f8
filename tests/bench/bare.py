"""The plainest endpoints that a service could be compared with: Starlette under uvicorn, the same token check, the same
bytes out, and for writes one durable SQLite insert by a group commit of the same kind.

Run as a process: reads one `Bare` as JSON on stdin, prints its port, serves until it is ended.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import deque
from typing import Final

import msgspec
import uvicorn
import uvloop
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessionmanager.api.identity.verifier import Verifier
from sessionmanager.errors import Unauthenticated
from sessionmanager.tiers.warm.sqlite_schema import connect

GROUP_MAX: Final = 256


class Bare(Struct, frozen=True, kw_only=True):
    """secret: what tokens are signed with. read, resume, receipt: the bodies to answer with. database: its file."""

    secret: str
    read: str
    resume: str
    receipt: str
    database: str
    cpu: int | None = None


class GroupCommit:
    """Inserts of everybody who waits, in one transaction a turn of the event loop."""

    def __init__(self, path: str) -> None:
        self._connection = connect(path, sqlite3.Connection, writer=True)
        self._connection.execute("CREATE TABLE IF NOT EXISTS entries (no INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._loop = asyncio.get_running_loop()

    def insert(self, data: bytes) -> asyncio.Future[None]:
        """A future that is done when the row is durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._commit)
        self._waiting.append((data, future))
        return future

    def _commit(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_MAX))]
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for data, _ in group:
            execute("INSERT INTO entries (data) VALUES (?)", (data,))
        execute("COMMIT")
        for _, future in group:
            future.set_result(None)
        if self._waiting:
            self._loop.call_soon(self._commit)


def application(bare: Bare, writes: GroupCommit) -> Starlette:
    """The three endpoints."""
    verifier = Verifier(secrets=[bare.secret.encode()], algorithms=["HS256"])
    read, resumed, receipt = bare.read.encode(), bare.resume.encode(), bare.receipt.encode()

    async def check(request: Request) -> bool:
        token = request.headers.get("authorization", "")[len("Bearer ") :]
        try:
            return bool(verifier.recall(token) or await verifier.verify(token))
        except Unauthenticated:
            return False

    async def get(request: Request) -> Response:
        if not await check(request):
            return Response(status_code=401)
        return Response(read, media_type="application/json")

    async def resume(request: Request) -> Response:
        if not await check(request):
            return Response(status_code=401)
        await writes.insert(await request.body())
        return Response(resumed, media_type="application/json")

    async def append(request: Request) -> Response:
        if not await check(request):
            return Response(status_code=401)
        await writes.insert(await request.body())
        return Response(receipt, status_code=201, media_type="application/json")

    return Starlette(
        routes=[
            Route("/sessions/{id}", get),
            Route("/sessions/{id}/resume", resume, methods=["POST"]),
            Route("/sessions/{id}/entries", append, methods=["POST"]),
        ]
    )


async def serve(bare: Bare) -> None:
    """Serve on a free port of the loopback."""
    config = uvicorn.Config(
        application(bare, GroupCommit(bare.database)),
        host="127.0.0.1",
        port=0,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(config)
    await server.serve()


class _Server(uvicorn.Server):
    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        sys.stdout.write(f"{self.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Bare)
    if given.cpu is not None:
        os.sched_setaffinity(0, {given.cpu})
    uvloop.run(serve(given))
