"""S3 cold beside what its contract says: rivals in several processes, versions, parts, encryption, classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from sessionmanager.errors import AlreadyExists, NotFound, TierUnavailable
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.cold.s3 import open_s3
from tests.support.s3_buckets import PREFIX, Bucket, ServerName, a_bucket
from tests.support.s3_line import Line, a_line

pytestmark = pytest.mark.server

NAME = "t/1f/s/9c/5b3e"
KEY = f"{PREFIX}/{NAME}_"
PARTS_FROM = 5 << 20
RIVALS = 6


@pytest.fixture(params=["s3", "moto"])
def server(request: pytest.FixtureRequest) -> ServerName:
    return request.param


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch, server: ServerName) -> AsyncIterator[Bucket]:
    async with a_bucket(monkeypatch, server, versioned=True) as bucket:
        yield bucket


@pytest.fixture
async def cold(bucket: Bucket) -> AsyncIterator[Cold]:
    async with open_s3(bucket.url, endpoint_url=bucket.endpoint_url, multipart_bytes=PARTS_FROM) as cold:
        yield cold


@pytest.mark.parametrize("size", [1000, 6 << 20], ids=["whole", "in-parts"])
async def test_of_rivals_with_clients_of_their_own_one_wins(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Not on moto, which looks and puts in two steps."""
    async with AsyncExitStack() as stack:
        bucket = await stack.enter_async_context(a_bucket(monkeypatch, "s3"))
        opening = [
            open_s3(bucket.url, endpoint_url=bucket.endpoint_url, multipart_bytes=PARTS_FROM) for _ in range(RIVALS)
        ]
        colds = [await stack.enter_async_context(each) for each in opening]
        for turn in range(4):
            name = f"{NAME}.{turn}"
            bodies = [bytes([number]) * size for number in range(RIVALS)]
            puts = [cold.put_once(name, body) for cold, body in zip(colds, bodies, strict=True)]
            ends = await asyncio.gather(*puts, return_exceptions=True)
            assert [type(end) for end in ends if end is not None] == [AlreadyExists] * (RIVALS - 1)
            assert await colds[0].get(name) == bodies[ends.index(None)]
        assert await bucket.uploads() == []


async def test_removing_takes_every_version_and_marker(bucket: Bucket, cold: Cold) -> None:
    await cold.put_once(NAME, b"first")
    for body in (b"second", b"third"):
        await bucket.client.put_object(Bucket=bucket.name, Key=KEY, Body=body)
    await bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
    await bucket.client.put_object(Bucket=bucket.name, Key=KEY + "_neighbour", Body=b"x")
    assert len([key for key, _ in await bucket.versions() if key == KEY]) == 4
    await cold.remove(NAME)
    assert [key for key, _ in await bucket.versions()] == [KEY + "_neighbour"]


async def test_what_only_old_versions_are_left_of_is_listed_for_erasing(bucket: Bucket, cold: Cold) -> None:
    await cold.put_once(NAME, b"first")
    await bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
    with pytest.raises(NotFound):
        await cold.get(NAME)
    assert await cold.list("t/1f/") == [NAME]
    await cold.remove(NAME)
    assert await cold.list("t/1f/") == []
    assert await bucket.keys() == []


async def test_putting_and_removing_many_times_leaves_nothing(bucket: Bucket, cold: Cold) -> None:
    for data in (b"", b"small", b"x" * (PARTS_FROM + 1)):
        await cold.put_once(NAME, data)
        assert await cold.get(NAME) == data
        await cold.remove(NAME)
    assert await bucket.keys() == []


async def test_large_objects_go_in_parts_and_carry_their_checksum(bucket: Bucket) -> None:
    async with a_line(bucket.endpoint_url) as line:
        sizes = (PARTS_FROM, PARTS_FROM + 1, (8 << 20), (8 << 20) + 1)
        parts = [await _parts(bucket, line, size) for size in sizes]
    assert parts == [0, 1, 1, 2]


async def _parts(bucket: Bucket, line: Line, size: int) -> int:
    line.seen.clear()
    async with open_s3(bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM) as cold:
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        await cold.put_once(f"t/{size}", data)
        assert await cold.get(f"t/{size}") == data
    head = await bucket.client.head_object(Bucket=bucket.name, Key=f"{PREFIX}/t/{size}_")
    assert len(head["Metadata"]["sha256"]) == 64
    return line.count("PUT", "partNumber")


async def test_large_objects_are_read_in_ranges_several_at_once(bucket: Bucket) -> None:
    data = bytes(range(256)) * (17 << 12)  # 17 MiB: three ranges
    async with a_line(bucket.endpoint_url) as line:
        async with open_s3(bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM) as cold:
            await cold.put_once("t/large", data)
            line.seen.clear()
            assert await cold.get("t/large") == data
        asked = [each.header("range") for each in line.seen if each.method == "GET"]
    mib = 1 << 20
    assert asked[0] is None, "what it is, and how long"
    assert sorted(asked[1:], key=str) == [
        f"bytes=0-{8 * mib - 1}", f"bytes={16 * mib}-{17 * mib - 1}", f"bytes={8 * mib}-{16 * mib - 1}",
    ]  # fmt: skip


async def test_class_and_encryption_are_asked_for_with_every_object(bucket: Bucket) -> None:
    async with a_line(bucket.endpoint_url) as line:
        async with open_s3(
            bucket.url, endpoint_url=line.url, multipart_bytes=PARTS_FROM,
            storage_class="STANDARD", encryption="aws:kms", kms_key_id="our-key",
        ) as cold:  # fmt: skip
            for data in (b"small", b"x" * (PARTS_FROM + 1)):
                with suppress(TierUnavailable):  # a server without KMS says no; what it was asked counts
                    await cold.put_once(f"t/{len(data)}", data)
        made = [each for each in line.seen if each.method == "PUT" and "partNumber" not in each.target]
        made += [each for each in line.seen if each.method == "POST" and "uploads" in each.target]
        assert made
        for each in made:
            assert each.header("x-amz-storage-class") == "STANDARD"
            assert each.header("x-amz-server-side-encryption") == "aws:kms"
            assert each.header("x-amz-server-side-encryption-aws-kms-key-id") == "our-key"


async def test_two_prefixes_of_one_bucket_know_nothing_of_each_other(bucket: Bucket) -> None:
    async with (
        open_s3(f"s3://{bucket.name}/one", endpoint_url=bucket.endpoint_url) as one,
        open_s3(f"s3://{bucket.name}", endpoint_url=bucket.endpoint_url) as all_of_it,
    ):
        await one.put_once("a/b", b"1")
        await all_of_it.put_once("a/b", b"2")
        assert (await one.get("a/b"), await all_of_it.get("a/b")) == (b"1", b"2")
        assert await all_of_it.list("a/") == ["a/b"]
        await one.remove("a/b")
        assert await all_of_it.get("a/b") == b"2"
