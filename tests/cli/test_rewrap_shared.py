"""`sessionmanager rewrap` on MongoDB: who has a key is found by names alone, and the service runs meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.cli.output import OK
from sessionmanager.core.keys.hierarchy import TENANT_KEY, SessionKeys
from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.keys.standing import admit
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm import mongo_doctor
from sessionmanager.tiers.warm.mongo.tier import open_mongo
from sessionmanager.words import Key
from tests.support.mongo import LEAKS, a_database

pytestmark = [pytest.mark.server, LEAKS]

OLD, NEW = (bytes(range(first, first + 32)) for first in (0, 1))
WAIT_SECONDS = 60.0
BESIDE = "x" * len(TENANT_KEY)
"""A kind as long as that of tenants' keys, whose records lie between them."""


async def test_who_has_a_record_of_a_kind_is_found_whatever_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = ["a", "b", "a.b", "c" * 9, "d" * 10, "e" * 11, "f" * 64, ALL_TENANTS]
    async with a_database() as url, open_mongo(url, standalone="allowed") as warm:
        for tenant in (*tenants, "none", "g" * 10):
            for number in range(3):
                await warm.put_record(tenant, BESIDE, f"{number}", b"{}", rev=0)
                await warm.put_record(tenant, f"{TENANT_KEY}s", f"{number}", b"{}", rev=0)
        for tenant in tenants:
            for name in ("ring", "rung"):
                await warm.put_record(tenant, TENANT_KEY, name, b"{}", rev=0)
        for page in (1, 2, 3, 1000):
            monkeypatch.setattr(mongo_doctor, "PAGE_KEYS", page)
            found = [tenant async for tenant in mongo_doctor.walk_tenants(url, TENANT_KEY)]
            assert sorted(found) == sorted(tenants)
        assert [tenant async for tenant in mongo_doctor.walk_tenants(url, "nothing")] == []


async def test_a_key_is_replaced_beside_a_service_that_holds_both(tmp_path: Path) -> None:
    key_file = tmp_path / "master-key"
    key_file.write_text(f"{NEW.hex()}\n{OLD.hex()}\n")
    key_file.chmod(0o600)
    keys = [Key(f"tenant-{number}", "call-1") for number in range(12)]
    async with a_database() as url, open_mongo(url, standalone="allowed") as warm:
        before = SessionKeys(await admit(warm, MasterKeys(OLD, NEW)), warm)
        rings = {key: await before.create(key) for key in keys}
        code, told = await rewrap(tmp_path, {"MONGO_URI": url, "MASTER_KEY_FILE": str(key_file)})
        assert (code, told["wrapped"], told["nothing_hangs_on"]) == (OK, len(keys), [MasterKey(OLD).id])
        later = Key("later", "call-1")
        rings[later] = await before.create(later)
        alone = SessionKeys(await admit(warm, MasterKeys(NEW)), warm)
        for key, ring in rings.items():
            assert ring.current is not None
            assert await alone.unwrap(key, ring, ring.current)


async def rewrap(folder: Path, settings: dict[str, str]) -> tuple[int | None, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionmanager", "rewrap", "--data-dir", str(folder), "--json",
        env=os.environ | settings | {"MONGO_STANDALONE": "allowed"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    assert out, err
    return process.returncode, json.loads(out.splitlines()[-1])
