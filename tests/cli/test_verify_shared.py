"""`sessionmanager verify` on shared tiers: the same walk, through the same settings as the service's."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from sessionmanager.cli.output import DAMAGED, OK
from sessionmanager.tiers.cold.s3 import open_s3
from sessionmanager.tiers.warm import mongo_doctor
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.s3_buckets import a_bucket
from tests.support.scenes import open_world
from tests.support.services import service_url

pytestmark = pytest.mark.server

KEY = Key("acme", "call-1")
WAIT_SECONDS = 60.0


async def test_objects_in_a_bucket_are_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key_file = tmp_path / "master-key"
    key_file.write_text(bytes(range(32)).hex())
    key_file.chmod(0o600)
    async with a_bucket(monkeypatch, "s3", versioned=True) as bucket:
        async with open_world(tmp_path) as world, open_s3(bucket.url, endpoint_url=bucket.endpoint_url) as cold:
            await scenes.archived(world._replace(tiers=world.tiers._replace(cold=cold)).process(), KEY)
        settings = {
            "S3_BUCKET": bucket.url.removeprefix("s3://"),
            "S3_ENDPOINT_URL": bucket.endpoint_url,
            "MASTER_KEY_FILE": str(key_file),
        }
        before = await bucket.versions()
        assert len(before) >= 5
        code, lines = await verify(tmp_path, settings)
        assert (code, lines[-1]["sessions"]) == (OK, 1)
        assert await bucket.versions() == before
        for key, version in before:
            await bucket.client.delete_object(Bucket=bucket.name, Key=key, VersionId=version)
        code, lines = await verify(tmp_path, settings)
        assert (code, lines[0]["session"], lines[0]["fault"]) == (DAMAGED, "call-1", "damaged")


async def test_sessions_of_mongodb_are_walked_in_pages_by_tenant_and_from_a_place_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"{service_url('mongo-memory')}/verify-{secrets.token_hex(8)}"
    keys = [Key("a", "1"), Key("a", "2"), Key("a:b/c", "1"), Key("b", "1")]
    async with open_mongo(url, standalone="allowed") as warm, open_world(tmp_path) as world:
        core = world._replace(tiers=world.tiers._replace(warm=warm)).process()
        for key in keys:
            await scenes.begin(core, key)
    try:
        monkeypatch.setattr(mongo_doctor, "PAGE_KEYS", 2)
        walked = [key async for key in mongo_doctor.walk(url)]
        assert sorted(walked) == sorted(keys)
        for at, key in enumerate(walked):
            assert [each async for each in mongo_doctor.walk(url, after=key)] == walked[at + 1 :]
        assert [each async for each in mongo_doctor.walk(url, tenant="a")] == keys[:2]
        assert [each async for each in mongo_doctor.walk(url, tenant="a:b/c")] == keys[2:3]
        assert [each async for each in mongo_doctor.walk(url, tenant="a", after=keys[0])] == keys[1:2]
        assert [each async for each in mongo_doctor.walk(url, tenant="nobody")] == []
    finally:
        async with AsyncMongoClient(url) as client:
            await client.drop_database(url.rpartition("/")[2])


async def verify(folder: Path, settings: dict[str, str]) -> tuple[int | None, list[dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionmanager", "verify", "--data-dir", str(folder), "--json", "--leftovers",
        env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    assert out, err
    return process.returncode, [json.loads(line) for line in out.splitlines()]
