"""Databases of their own on a shared MongoDB-wire server, and an address that counts, cuts and holds what passes."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import pytest
from pymongo import AsyncMongoClient

from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.tiers.warm.protocol import Warm
from tests.support.mongo_proxy import MongoProxy, a_proxy
from tests.support.services import service_url

LEAKS: Final = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""For every file that opens a client: the driver leaves a socket to the garbage collector where it is closed while it
connects (`_async_create_connection` of PyMongo 4.20 lets go of it on cancellation)."""
EMBRACING: Final = {"standalone": "allowed", "counts_age_seconds": 0}
"""Options under which a stand-in will do, and every answer is as the contract asks for it at once."""


@asynccontextmanager
async def a_database(server: str = "mongo-memory") -> AsyncGenerator[str]:
    """The URL of an empty database, dropped at the end."""
    parts = urlsplit(service_url(server))
    name = f"sm_test_{os.urandom(6).hex()}"
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        async with AsyncMongoClient(urlunsplit(parts)) as client:
            await client.drop_database(name)


@asynccontextmanager
async def a_warm(server: str = "mongo-memory", **options: Any) -> AsyncGenerator[Warm]:
    """A warm tier that is empty, with counts that are never old."""
    async with a_database(server) as url, open_mongo(url, **(EMBRACING | options)) as warm:
        yield warm


class Proxied(NamedTuple):
    """url: an empty database behind the proxy; its driver looks often for a server that went away. direct: the same
    database, not through the proxy."""

    url: str
    direct: str
    proxy: MongoProxy


@asynccontextmanager
async def a_proxied(
    server: str = "mongo-memory", *, replica_set: bool = False, forgets: bool = False
) -> AsyncGenerator[Proxied]:
    """An empty database behind a proxy."""
    async with a_database(server) as direct:
        parts = urlsplit(direct)
        upstream = (parts.hostname or "", parts.port or 27017)
        async with a_proxy(upstream, replica_set=replica_set, forgets=forgets) as proxy:
            url = urlunsplit(parts._replace(netloc=proxy.address, query="heartbeatFrequencyMS=500"))
            yield Proxied(url, direct, proxy)
    gc.collect()  # what the driver left behind belongs to this test, and to none that comes after
