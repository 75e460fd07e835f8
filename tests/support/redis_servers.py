"""Looking into a real Redis from outside: its keys, its connections, the passing of time for what expires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel

from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.hot.redis import open_redis
from sessionmanager.tiers.hot.redis_address import read_address

MAC_KEY = bytes(range(32))
PREFIX = "sm:"


def opened(url: str, **options: Any) -> AbstractAsyncContextManager[Hot]:
    """With keys that begin with `PREFIX` and more patience than a service has, unless the options say otherwise."""
    return open_redis(url, **{"mac_key": MAC_KEY, "prefix": PREFIX, "timeout_seconds": 2.0, **options})


@asynccontextmanager
async def emptied(url: str) -> AsyncIterator[Redis[Any]]:
    """The driver's own client of a server that is empty now, and configured as before when the block ends."""
    [client] = await masters(url)
    async with client:
        await client.flushall()
        await client.script_flush()
        yield client
        await client.config_set("maxmemory", 0)
        await client.config_set("requirepass", "")


class RedisKeys:
    """The keys of one prefix, on all servers of a Redis of any shape."""

    def __init__(self, servers: list[Redis[Any]], prefix: str) -> None:
        self.servers = servers
        self._prefix = prefix

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, prefix: str = "") -> AsyncIterator[RedisKeys]:
        async with AsyncExitStack() as stack:
            yield cls([await stack.enter_async_context(server) for server in await masters(url)], prefix)

    async def names(self) -> list[tuple[Redis[Any], bytes]]:
        return [(server, name) for server in self.servers async for name in server.scan_iter(f"{self._prefix}*")]

    async def age(self, seconds: float) -> None:
        """As if so much time had gone by: what would have expired is gone, the rest has so much less to live."""
        for server, name in await self.names():
            left = await server.pttl(name) - round(seconds * 1000)
            assert await server.pttl(name) != -1, f"{name!r} would live for ever"
            if left > 0:
                await server.pexpire(name, left)
            else:
                await server.delete(name)

    async def remove(self) -> None:
        for server, name in await self.names():
            await server.delete(name)


async def masters(url: str) -> list[Redis[Any]]:
    """A client of the driver's own for each server that takes writes."""
    address = read_address(url)
    if address.kind == "sentinel":
        sentinel = Sentinel([tuple(place) for place in address.places])
        host, port = await sentinel.discover_master(address.service)
        await sentinel.aclose()
        return [Redis(host=host, port=port, db=address.db)]
    place = address.places[0]
    first = Redis(host=place.host, port=place.port, db=address.db, password=address.login.password)
    if (await first.info("cluster"))["cluster_enabled"] != 1:
        return [first]
    await first.aclose()
    async with RedisCluster(host=place.host, port=place.port) as cluster:
        return [Redis(host=node.host, port=node.port) for node in cluster.get_primaries()]


async def move_slot(slot: int, url: str, *, pause: float) -> None:
    """To the next node that takes writes, as `redis-cli --cluster reshard` does it, with time in each state."""
    async with under_way(slot, url) as (source, target, *others):
        owner = await target.execute_command("CLUSTER", "MYID")
        where = target.connection_pool.connection_kwargs
        await asyncio.sleep(pause)
        while names := await source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            await source.execute_command(
                "MIGRATE", where["host"], where["port"], "", 0, 2000, "REPLACE", "KEYS", *names
            )
            await asyncio.sleep(pause / 4)
        await asyncio.sleep(pause)
        for node in (target, source, *others):
            await node.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
        await asyncio.sleep(pause)


@asynccontextmanager
async def under_way(slot: int, url: str) -> AsyncIterator[list[Redis[Any]]]:
    """While a slot is on its way to the next node that takes writes: who had it, who gets it, and the others."""
    nodes = await masters(url)
    try:
        owners = [node for node in nodes if await _owns(node, slot)]
        source = owners[0]
        target = nodes[(nodes.index(source) + 1) % len(nodes)]
        ids = [await node.execute_command("CLUSTER", "MYID") for node in (source, target)]
        await target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        await source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        yield [source, target, *(one for one in nodes if one not in (source, target))]
        for node in (source, target):
            await node.execute_command("CLUSTER SETSLOT", slot, "STABLE")
    finally:
        for node in nodes:
            await node.aclose()


async def _owns(node: Redis[Any], slot: int) -> bool:
    me = await node.execute_command("CLUSTER", "MYID")
    ranges = await node.execute_command("CLUSTER", "SLOTS")
    return any(first <= slot <= last and owner[2] == me for first, last, owner, *_ in ranges)


class Wire:
    """A proxy before a server, whose answers can be held back. up, down: bytes to and from the server; trips: how often
    it was sent something after it had answered."""

    def __init__(self) -> None:
        self.up = self.down = self.trips = 0
        self.port = 0
        self._answered = True
        self._sent = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Wire]:
        """For clients that come to `wire.port` on the loopback."""
        parts, wire = urlsplit(url), cls()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert parts.port is not None
            far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
            for pumping in (wire._up(reader, far_writer), wire._down(far_reader, writer)):
                task = asyncio.create_task(pumping)
                wire._pumps.add(task)
                task.add_done_callback(wire._pumps.discard)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        wire.port = server.sockets[0].getsockname()[1]
        try:
            yield wire
        finally:
            server.close()
            for task in tuple(wire._pumps):
                task.cancel()
            await asyncio.gather(*wire._pumps, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Let no answer through from now on. `sent` waits for the next question."""
        self._open.clear()
        self._sent.clear()

    async def sent(self) -> None:
        await self._sent.wait()

    def release(self) -> None:
        self._open.set()

    def taken(self) -> tuple[int, int, int]:
        """`up`, `down` and `trips` since the last time."""
        counts = self.up, self.down, self.trips
        self.up = self.down = self.trips = 0
        self._answered = True
        return counts

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while data := await reader.read(65536):
                self.up += len(data)
                self.trips += self._answered
                self._answered = False
                writer.write(data)
                self._sent.set()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._open.wait()
                self.down += len(data)
                self._answered = True
                writer.write(data)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Ask again and again, a little apart, until it holds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # it is another process's doing
            await asyncio.sleep(0.02)
