"""What can be wrong with hot on Redis, as it looks from here, and how to empty it: for commands that work from outside.
Keys that are put to find out are removed."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from sessionmanager.errors import TierUnavailable
from sessionmanager.model.finding import ROUND_TRIPS, Finding, bad, clock, note, ok, round_trip
from sessionmanager.tiers.hot.redis_address import Address, Files, read_address
from sessionmanager.tiers.hot.redis_server import Facts, read_facts, weaknesses

CALL_SECONDS: Final = 3.0
SLOW_MS: Final = 5.0
CLOCK_SECONDS_MAX: Final = 60.0
PROBE_MS: Final = 10_000
KEYS_AT_ONCE: Final = 500
_ERRORS: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
"""A cluster of which no node answers is no `RedisError` to the driver."""


async def diagnose(
    url: str,
    *,
    password: str | None = None,
    db: int | None = None,
    files: Files | None = None,
    prefix: str = "sessionmanager:",
    **_: Any,
) -> AsyncIterator[Finding]:
    """Look at the Redis of `url`; options as for `open_redis`."""
    try:
        address = read_address(url, password=password, db=db, files=files)
    except ValueError as error:
        yield bad("settings", str(error), "correct HOT_URL or REDIS_URL")
        return
    key = f"{prefix}doctor:{secrets.token_hex(8)}"
    try:
        used = await _as_used(address)
        if used is not address:
            yield note(
                "shape", "the server is one of a cluster, and used as one", "nothing to do; redis+cluster:// says it"
            )
        async with _client(used) as client:
            async for finding in _look(client, read_facts(await _info(client, used)), used, key):
                yield finding
    except _ERRORS as error:
        yield bad(
            "reach", _told(error), "look at the address, the user and the network between; sessions go on without"
        )


async def forget(
    url: str,
    *,
    password: str | None = None,
    db: int | None = None,
    files: Files | None = None,
    prefix: str = "sessionmanager:",
    **_: Any,
) -> int:
    """Remove every key of this prefix; answers how many there were. Options as for `open_redis`.

    Raises ValueError: the address; TierUnavailable. Cost: a walk through all keys of the server, which goes on serving.
    """
    address = read_address(url, password=password, db=db, files=files)
    count = 0
    try:
        async with _client(await _as_used(address)) as client:
            batch: list[bytes] = []
            async for key in client.scan_iter(match=re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*", count=KEYS_AT_ONCE):
                batch.append(key)
                if len(batch) == KEYS_AT_ONCE:
                    count += await _unlink(client, batch)
                    batch.clear()
            return count + await _unlink(client, batch)
    except _ERRORS as error:
        raise TierUnavailable("hot", _told(error)) from error


async def _unlink(client: Any, keys: Sequence[bytes]) -> int:
    """One command a key, since those of a cluster lie in many slots."""
    if not keys:
        return 0
    pipeline = client.pipeline()
    for key in keys:
        pipeline.execute_command("UNLINK", key)
    return sum(await pipeline.execute())


async def _as_used(address: Address) -> Address:
    """The address as the tier uses it: a plain one whose server turns out to be one of a cluster is the cluster's."""
    if address.kind != "plain":
        return address
    async with _client(address) as client:
        facts = read_facts(await _info(client, address))
    return address._replace(kind="cluster") if facts.cluster else address


@asynccontextmanager
async def _client(address: Address) -> AsyncGenerator[Any]:
    """A client of the driver's own."""
    sentinels: Sequence[Any] = ()
    files = address.files
    common: dict[str, Any] = {
        "socket_timeout": CALL_SECONDS,
        "socket_connect_timeout": CALL_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "username": address.login.username,
        "password": address.login.password,
    }
    if address.tls:
        named = {"ssl_ca_certs": files.ca, "ssl_certfile": files.certificate, "ssl_keyfile": files.key}
        common |= {"ssl": True, **{name: str(path) for name, path in named.items() if path is not None}}
    if address.kind == "cluster":
        nodes = [ClusterNode(place.host, place.port) for place in address.places]
        client: Any = RedisCluster(startup_nodes=nodes, **common)
    elif address.kind == "sentinel":
        login = address.sentinel_login
        asked = {
            "socket_timeout": CALL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "username": login.username,
            "password": login.password,
        }
        sentinel: Any = Sentinel([tuple(place) for place in address.places], sentinel_kwargs=asked, **common)
        client, sentinels = sentinel.master_for(address.service, db=address.db), sentinel.sentinels
    else:
        [place] = address.places
        client = Redis(host=place.host, port=place.port, db=address.db, **common)
    try:
        if address.kind == "cluster":
            await client.initialize()
        yield client
    finally:
        for each in (client, *sentinels):
            with suppress(*_ERRORS):
                await each.aclose()


async def _look(client: Any, facts: Facts, address: Address, key: str) -> AsyncIterator[Finding]:
    seconds: list[float] = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await client.get(key)
        seconds.append(time.perf_counter() - began)
    cluster = address.kind == "cluster"
    shape = {"cluster": "cluster", "sentinel": "behind Sentinel", "plain": "single"}[address.kind]
    yield ok("reach", f"Redis {facts.version_text}, {shape}")
    for weakness in weaknesses(facts, cluster=cluster, db=address.db):
        yield bad("server", weakness, "see the message") if facts.replica and not cluster else note("server", weakness)
    if facts.known and not facts.memory_max:
        yield note(
            "memory", "no maxmemory is set: it grows while its machine has any",
            "set maxmemory, and maxmemory-policy to volatile-lru",
        )  # fmt: skip
    yield round_trip(seconds, slow_ms=SLOW_MS, mend="a call to hot has some 50 ms in all: use a Redis nearer by")
    if not cluster:
        told, micros = await client.time()
        yield clock(
            told + micros / 1e6 - time.time(), most=CLOCK_SECONDS_MAX, mend="nothing is judged by it; set it right"
        )
    async for finding in _rights(client, key):
        yield finding


async def _info(client: Any, address: Address) -> bytes:
    """INFO of a server as it comes; of the first node of a cluster."""
    try:
        if address.kind == "cluster":
            answer: Any = await client.execute_command("INFO", target_nodes=client.get_random_node())
        else:
            answer = await client.execute_command("INFO")
    except ResponseError:  # the user may not ask
        return b""
    if isinstance(answer, dict):  # the driver reads it itself
        return "\n".join(f"{name}:{value}" for name, value in cast("dict[str, Any]", answer).items()).encode()
    return answer if isinstance(answer, bytes) else b""


async def _rights(client: Any, key: str) -> AsyncIterator[Finding]:
    """What commits, reads and bells do: a key with a life of its own, a script, a message."""
    calls = (
        ("write", "SET", lambda: client.set(key, b"doctor", px=PROBE_MS)),
        ("read", "GET", lambda: client.get(key)),
        ("scripts", "EVAL", lambda: client.eval("return redis.call('GET', KEYS[1])", 1, key)),
        ("bell", "PUBLISH", lambda: client.execute_command("PUBLISH", key, b"doctor")),
        ("remove", "DEL", lambda: client.delete(key)),
    )
    for check, command, call in calls:
        try:
            await call()
        except _ERRORS as error:
            yield bad(check, f"{command}: {_told(error)}", f"let the user run {command} on keys that begin like ours")
        else:
            yield ok(check, command)


def _told(error: Exception) -> str:
    """An error without the address in it, which may carry a password."""
    return type(error).__name__ if isinstance(error, OSError | TimeoutError) else f"{type(error).__name__}: {error}"
