"""The servers that tests stand on do what tests rely on: in the shared ones, and when one's own are broken."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aioboto3
import pymongo
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pymongo.errors import PyMongoError
from redis import asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from tests.services.own import OwnServer
from tests.services.recipes import MASTER
from tests.support.services import S3Address, owned, parse_s3, s3_address, service_url
from tests.support.toxiproxy import Proxy, proxied

pytestmark = pytest.mark.server

RIVALS: Final = 20
WRITES: Final = 200
ANSWER_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.02
LATE_MILLISECONDS: Final = 200


def a_redis(url: str) -> Any:
    """A client that asks once, waits ANSWER_SECONDS, and keeps no other connection."""
    none = Retry(NoBackoff(), 0)
    return cast("Any", redis.Redis).from_url(url, socket_timeout=ANSWER_SECONDS, retry=none, max_connections=1)


def a_mongo(url: str) -> Any:
    return cast("Any", pymongo.AsyncMongoClient)(url, retryWrites=False)


def places(url: str) -> list[tuple[str, int]]:
    """The hosts and ports of a URL that names several."""
    pairs = (place.rpartition(":") for place in urlsplit(url).netloc.split(","))
    return [(host, int(port)) for host, _, port in pairs]


def a_bucket_client(address: S3Address) -> Any:
    return cast("Any", aioboto3.Session()).client(
        "s3",
        endpoint_url=address.endpoint_url,
        aws_access_key_id=address.key_id,
        aws_secret_access_key=address.secret,
        region_name=address.region,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask `holds` until it answers yes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(LOOK_SECONDS)


# -- redis


async def test_a_cluster_has_three_primaries_that_share_all_slots() -> None:
    host, port = places(service_url("redis-cluster"))[0]
    async with RedisCluster(host=host, port=port) as cluster:
        for number in range(10):
            key = f"services-{secrets.token_hex(8)}"
            assert await cluster.set(key, number, px=60_000)
        assert len(cluster.get_primaries()) == 3
        assert len(cluster.get_replicas()) == 3


async def test_the_sentinels_agree_on_a_primary_with_two_replicas() -> None:
    sentinel: Any = cast("Any", Sentinel)(places(service_url("redis-sentinel")), socket_timeout=ANSWER_SECONDS)
    try:
        primary = await sentinel.discover_master(MASTER)
        replicas = await sentinel.discover_slaves(MASTER)
        assert len(replicas) == 2
        assert primary not in replicas
    finally:
        for one in sentinel.sentinels:
            await one.aclose()


async def test_a_killed_redis_comes_back_on_its_port_with_what_it_had_answered(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server, a_redis(server.url) as client:
        before = server.pid()
        await client.set("kept", "1")
        await server.kill()
        with pytest.raises(RedisError):
            await client.get("kept")
        await server.restart()
        assert await client.get("kept") == b"1"
        assert server.pid() != before


async def test_a_redis_that_lost_its_disk_comes_back_empty(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server, a_redis(server.url) as client:
        await client.set("lost", "1")
        await server.restart(keep_data=False)
        with pytest.raises(RedisError):
            await client.get("lost")
        assert await client.get("lost") is None


async def test_a_frozen_redis_answers_once_it_is_thawed(tmp_path: Path) -> None:
    async with owned("redis", tmp_path) as server, a_redis(server.url) as client:
        await client.ping()
        server.freeze()
        with pytest.raises(RedisTimeout):
            await client.ping()
        server.thaw()
        assert await client.ping()


async def test_a_replica_takes_over_from_a_killed_node_of_a_cluster(tmp_path: Path) -> None:
    async with owned("redis-cluster", tmp_path) as server:
        urls = {part: f"redis://127.0.0.1:{port}" for part, port in server.ports.items()}
        await server.kill("node-0")

        async def taken_over() -> bool:
            async with a_redis(urls["node-3"]) as client:
                return (await client.execute_command("ROLE"))[0] == b"master"

        await until(taken_over, "a replica becomes a primary")
        await server.restart("node-0")
        await server.ready()
        async with a_redis(urls["node-0"]) as client:
            assert (await client.execute_command("ROLE"))[0] == b"slave"


async def test_a_replica_takes_over_from_a_killed_primary_under_sentinel(tmp_path: Path) -> None:
    async with owned("redis-sentinel", tmp_path) as server:
        sentinel = cast("Any", Sentinel)(places(server.url), socket_timeout=ANSWER_SECONDS)
        try:
            before = await sentinel.discover_master(MASTER)
            assert before[1] == server.ports["primary"]
            await server.kill("primary")

            async def moved() -> bool:
                try:
                    return await sentinel.discover_master(MASTER) != before
                except MasterNotFoundError:
                    return False  # the old one is known to be gone, the new one is not chosen yet

            await until(moved, "a replica becomes the primary")
        finally:
            for one in sentinel.sentinels:
                await one.aclose()


# -- mongo


@pytest.mark.parametrize("name", ["mongo", "mongo-memory"])
async def test_of_rivals_for_one_document_of_the_stand_in_one_wins(name: str) -> None:
    async with a_mongo(service_url(name)) as client:
        database = client[f"services-{secrets.token_hex(8)}"]
        hello: dict[str, Any] = await client.admin.command("isMaster")
        assert hello["maxWireVersion"] >= 9
        for _ in range(5):
            await database.heads.replace_one({"_id": "s"}, {"_id": "s", "rev": 0, "log": []}, upsert=True)
            claims = [
                database.heads.update_one({"_id": "s", "rev": 0}, {"$set": {"rev": 1}, "$push": {"log": rival}})
                for rival in range(RIVALS)
            ]
            assert sum(done.modified_count for done in await asyncio.gather(*claims)) == 1
            found = await database.heads.find_one({"_id": "s"})
            assert found is not None
            assert len(found["log"]) == 1
        await client.drop_database(database.name)


async def test_a_killed_stand_in_has_everything_that_it_acknowledged(tmp_path: Path) -> None:
    async with owned("mongo", tmp_path) as server:
        acknowledged = await _writes_until_killed(server)
        await server.restart()
        async with a_mongo(server.url) as client:
            found = {one["_id"] async for one in client.test.rows.find()}
        assert set(range(acknowledged)) <= found
        assert acknowledged >= WRITES


async def _writes_until_killed(server: OwnServer) -> int:
    """Answers how many rows, from 0 on, were acknowledged."""
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        async with a_mongo(server.url) as client:
            while True:
                await client.test.rows.insert_one({"_id": acknowledged})
                acknowledged += 1

    async def enough() -> bool:
        return acknowledged >= WRITES

    writing = asyncio.create_task(write())
    await until(enough, "so many writes are acknowledged")
    await server.kill()
    with pytest.raises(PyMongoError):
        await writing
    return acknowledged


async def test_the_memory_stand_in_comes_back_empty(tmp_path: Path) -> None:
    async with owned("mongo-memory", tmp_path) as server:
        async with a_mongo(server.url) as client:
            await client.test.rows.insert_one({"_id": 1})
        await server.restart()
        async with a_mongo(server.url) as client:
            assert await client.test.rows.count_documents({}) == 0


# -- s3


async def test_an_object_is_put_once_however_many_try() -> None:
    bucket = f"services-{secrets.token_hex(8)}"
    async with a_bucket_client(s3_address()) as client:
        await client.create_bucket(Bucket=bucket)
        puts = [client.put_object(Bucket=bucket, Key="a/b", Body=b"%d" % n, IfNoneMatch="*") for n in range(RIVALS)]
        done = await asyncio.gather(*puts, return_exceptions=True)
        codes = {cast("Any", one).response["Error"]["Code"] for one in done if isinstance(one, ClientError)}
        assert codes <= {"PreconditionFailed", "ConditionalRequestConflict"}
        won = [number for number, one in enumerate(done) if not isinstance(one, BaseException)]
        assert len(won) == 1
        got = await client.get_object(Bucket=bucket, Key="a/b")
        assert await got["Body"].read() == b"%d" % won[0]
        await client.delete_object(Bucket=bucket, Key="a/b")
        await client.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("name", ["s3", "moto"])
async def test_a_versioned_bucket_keeps_what_was_replaced_and_removed(name: str) -> None:
    bucket = f"services-{secrets.token_hex(8)}"
    async with a_bucket_client(s3_address(name)) as client:
        await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for body in (b"first", b"second"):
            await client.put_object(Bucket=bucket, Key="a/b", Body=body)
        await client.delete_object(Bucket=bucket, Key="a/b")
        listed = await client.list_object_versions(Bucket=bucket)
        assert len(listed["Versions"]) == 2
        assert len(listed["DeleteMarkers"]) == 1
        for one in (*listed["Versions"], *listed["DeleteMarkers"]):
            await client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
        assert "Versions" not in await client.list_object_versions(Bucket=bucket)
        await client.delete_bucket(Bucket=bucket)


async def test_a_killed_s3_server_has_its_objects_when_it_comes_back(tmp_path: Path) -> None:
    async with owned("s3", tmp_path) as server, a_bucket_client(parse_s3(server.url)) as client:
        await client.create_bucket(Bucket="bucket")
        await client.put_object(Bucket="bucket", Key="a/b", Body=b"kept", IfNoneMatch="*")
        await server.kill()
        await server.restart()
        got = await client.get_object(Bucket="bucket", Key="a/b")
        assert await got["Body"].read() == b"kept"


# -- toxiproxy


@pytest.fixture
async def proxy() -> AsyncGenerator[Proxy]:
    async with proxied(service_url("toxiproxy"), service_url("redis")) as made:
        yield made


@pytest.fixture
async def through(proxy: Proxy) -> AsyncGenerator[Any]:
    async with a_redis(proxy.url(service_url("redis"))) as client:
        yield client


async def test_latency_delays_each_answer_until_it_is_taken_away(proxy: Proxy, through: Any) -> None:
    toxic = await proxy.latency(LATE_MILLISECONDS)
    began = time.monotonic()
    assert await through.ping()
    assert time.monotonic() - began >= LATE_MILLISECONDS / 1_000
    await proxy.remove(toxic)
    began = time.monotonic()
    assert await through.ping()
    assert time.monotonic() - began < LATE_MILLISECONDS / 1_000


async def test_a_timeout_swallows_the_answers_of_open_connections(proxy: Proxy, through: Any) -> None:
    await through.ping()
    await proxy.timeout()
    with pytest.raises(RedisTimeout):
        await through.ping()


@pytest.mark.parametrize("toxic", ["reset_peer", "limit_data"])
async def test_an_answer_can_be_cut_off_after_the_write_was_applied(proxy: Proxy, through: Any, toxic: str) -> None:
    key = f"services-{secrets.token_hex(8)}"
    await through.ping()
    await (proxy.reset_peer() if toxic == "reset_peer" else proxy.limit_data(1))
    with pytest.raises(RedisConnectionError):
        await through.set(key, "written", px=60_000)
    async with a_redis(service_url("redis")) as direct:

        async def applied() -> bool:
            return await direct.get(key) == b"written"

        await until(applied, "the write that was not answered is there")


async def test_a_proxy_that_was_down_listens_again_at_its_address(proxy: Proxy, through: Any) -> None:
    await through.ping()
    await proxy.down()
    with pytest.raises(RedisError):
        await through.ping()
    await proxy.heal()
    assert await through.ping()


async def test_an_s3_address_through_a_proxy_keeps_its_credentials(tmp_path: Path) -> None:
    url = service_url("s3")
    async with proxied(service_url("toxiproxy"), url) as made, a_bucket_client(parse_s3(made.url(url))) as client:
        assert "Buckets" in await client.list_buckets()
