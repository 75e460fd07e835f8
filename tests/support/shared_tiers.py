"""Three shared tiers of a test's own, on the servers of `make services`: what several replicas are pointed at."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from sessionmanager.core.keys.files import make_key_file
from tests.support.mongo import a_database
from tests.support.s3_buckets import a_bucket
from tests.support.services import s3_address, service_url

JWT_SECRET = "a-secret-that-replicas-share-" + "0123456789abcdef"


class SharedTiers(NamedTuple):
    """settings: names and values that each replica gets. outer: the credentials of the bucket."""

    settings: dict[str, str]
    outer: dict[str, str]


@asynccontextmanager
async def shared_tiers(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, redis: str = "redis", mongo: str = "mongo-memory"
) -> AsyncGenerator[SharedTiers]:
    """A prefix in Redis, a database and a bucket, the last two removed at the end. Skips where a server is missing."""
    address = s3_address()
    redis_url = service_url(redis)
    make_key_file(folder / "master")
    async with a_database(mongo) as mongo_url, a_bucket(monkeypatch, "s3") as bucket:
        settings = {
            "hot_url": redis_url,
            "session_prefix": f"t{secrets.token_hex(6)}:",
            "warm_url": mongo_url,
            "mongo_standalone": "allowed",
            "cold_url": bucket.url,
            "s3_endpoint_url": address.endpoint_url,
            "s3_region": address.region,
            "master_key_file": str(folder / "master"),
            "jwt_secret": JWT_SECRET,
        }
        outer = {"AWS_ACCESS_KEY_ID": address.key_id, "AWS_SECRET_ACCESS_KEY": address.secret}
        yield SharedTiers(settings, outer)
