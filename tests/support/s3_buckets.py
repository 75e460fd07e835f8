"""Buckets of a test's own on the shared S3 servers, and a plain client to look behind the tier."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import aioboto3
import pytest
from aiobotocore.config import AioConfig

from tests.support.services import REGION, S3Address, s3_address

ServerName = Literal["s3", "moto"]
PREFIX = "some/prefix"


class Bucket(NamedTuple):
    """An empty bucket. client: aioboto3's own, for what the tier would never do."""

    name: str
    endpoint_url: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{PREFIX}"

    async def keys(self) -> list[str]:
        """Every key of which there is any version, marker or upload; what the tier asked its server with left out."""
        return sorted({key for key, _ in await self.versions()} | {each["Key"] for each in await self.uploads()})

    async def versions(self) -> list[tuple[str, str]]:
        answer = await self.client.list_object_versions(Bucket=self.name)
        found = (*answer.get("Versions", ()), *answer.get("DeleteMarkers", ()))
        return sorted((each["Key"], each["VersionId"]) for each in found if "/_probe/" not in each["Key"])

    async def uploads(self) -> list[dict[str, Any]]:
        return (await self.client.list_multipart_uploads(Bucket=self.name)).get("Uploads", [])


def credentials(monkeypatch: pytest.MonkeyPatch, address: S3Address) -> None:
    """The environment in which the usual chain finds the credentials of this server, and no others."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", address.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", address.secret)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def a_bucket(
    monkeypatch: pytest.MonkeyPatch, server: ServerName, *, versioned: bool = False
) -> AsyncGenerator[Bucket]:
    """A bucket that is emptied and removed with the block; the environment has the credentials for it."""
    address = s3_address(server)
    credentials(monkeypatch, address)
    config = AioConfig(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    session: Any = aioboto3.Session()
    async with session.client("s3", endpoint_url=address.endpoint_url, region_name=REGION, config=config) as client:
        name = f"test-{secrets.token_hex(8)}"
        await client.create_bucket(Bucket=name)
        if versioned:
            await client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        try:
            yield Bucket(name, address.endpoint_url, client)
        finally:
            await _empty(client, name)


async def _empty(client: Any, name: str) -> None:
    for each in (await client.list_multipart_uploads(Bucket=name)).get("Uploads", ()):
        await client.abort_multipart_upload(Bucket=name, Key=each["Key"], UploadId=each["UploadId"])
    async for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            await client.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
    await client.delete_bucket(Bucket=name)
