"""`sessionmanager doctor`: what holds is told as such, what does not with what to mend, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.cli import doctor as command
from sessionmanager.cli.output import FAILURE, OK, USAGE
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.standing import admit
from sessionmanager.model import finding
from sessionmanager.tiers.cold import directory_doctor
from sessionmanager.tiers.cold.s3_doctor import diagnose as diagnose_s3
from sessionmanager.tiers.warm import sqlite_doctor
from sessionmanager.words import Key
from tests.cli.runner import Ran, run
from tests.support import scenes
from tests.support.s3_buckets import PREFIX, Bucket, ServerName, a_bucket
from tests.support.s3_line import Line, Message, Pass, a_line, answer
from tests.support.scenes import open_world
from tests.support.services import service_url

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _key(plain_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASTER_KEY_FILE", str(tmp_path / "key"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def look(capfd: pytest.CaptureFixture[str], *more: str) -> tuple[Ran, list[dict[str, Any]]]:
    ran = run(capfd, "doctor", "--json", *more)
    return ran, [json.loads(line) for line in ran.out.splitlines()]


def told(lines: list[dict[str, Any]], level: str) -> list[str]:
    return [f"{line['tier']} {line['check']}" for line in lines if line["level"] == level]


# -- embedded


def test_embedded_tiers_that_are_whole_need_nothing(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    async def made() -> None:
        async with open_world(folder) as world:
            await scenes.offloaded(world.process(), Key("acme", "call-1"))

    folder.mkdir(mode=0o700)
    asyncio.run(made())
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    ran, lines = look(capfd, "--data-dir", str(folder))
    assert ran.code == OK
    assert told(lines, "bad") == []
    assert {"warm format", "warm pages", "cold put once"} <= set(told(lines, "ok"))
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    ran = run(capfd, "doctor", "--data-dir", str(folder))
    assert ran.out.endswith("nothing must be mended\n")


def test_a_service_that_runs_is_not_disturbed(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    folder.mkdir(mode=0o700)

    async def beside() -> list[finding.Finding]:
        async with open_world(folder):
            return [each async for each in sqlite_doctor.diagnose(f"sqlite:///{folder}/warm.db")]

    assert [each.check for each in asyncio.run(beside()) if each.level == "bad"] == []


def test_what_is_not_there_yet_is_no_fault_and_is_not_made(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    ran, lines = look(capfd, "--data-dir", str(folder))
    assert ran.code == OK
    assert {"warm reach", "cold reach"} <= set(told(lines, "note"))
    assert not folder.exists()


def test_a_master_key_that_is_not_the_one_of_the_data_or_is_not_there_is_told(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    async def made() -> None:
        async with open_world(folder) as world:
            await admit(world.tiers.warm, MasterKeys(bytes(range(32))))

    folder.mkdir(mode=0o700)
    asyncio.run(made())
    key = tmp_path / "key"

    def of_key() -> tuple[int, list[tuple[str, str]]]:
        ran, lines = look(capfd, "--data-dir", str(folder), "--tier", "warm")
        return ran.code, [(line["level"], line["mend"]) for line in lines if line["check"] == "master key"]

    code, [(level, mend)] = of_key()
    assert (code, level) == (FAILURE, "bad")
    assert "put it back" in mend
    key.write_text(bytes(range(32)).hex())
    key.chmod(0o600)
    assert of_key() == (OK, [("ok", "")])
    key.write_text(bytes(range(1, 33)).hex())
    code, [(level, mend)] = of_key()
    assert (code, level) == (FAILURE, "bad")
    assert "MASTER_KEY_FILE" in mend


def test_files_that_cannot_be_used_are_told_with_what_to_mend(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "warm.db").write_bytes(b"no database at all" * 100)
    (folder / "cold").write_text("x")
    ran, lines = look(capfd, "--data-dir", str(folder))
    assert ran.code == FAILURE
    assert told(lines, "bad") == ["warm read", "cold reach"]
    assert all(line["mend"] for line in lines if line["level"] == "bad")


@pytest.mark.parametrize(("pragma", "check"), [("user_version = 99", "format"), ("application_id = 1", "format")])
def test_a_file_of_another_release_or_program_is_told(folder: Path, pragma: str, check: str) -> None:
    folder.mkdir(mode=0o700)

    async def whole() -> list[finding.Finding]:
        async with open_world(folder):
            pass
        with closing(sqlite3.connect(folder / "warm.db")) as connection:
            connection.execute(f"PRAGMA {pragma}")
            connection.commit()
        return [each async for each in sqlite_doctor.diagnose(f"sqlite:///{folder}/warm.db")]

    assert [each.check for each in asyncio.run(whole()) if each.level == "bad"] == [check]


def test_a_disk_that_is_nearly_full_is_told(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cold").mkdir(parents=True)
    monkeypatch.setattr(directory_doctor, "FREE_BYTES_MIN", 1 << 62)
    _, lines = look(capfd, "--data-dir", str(folder), "--tier", "cold")
    assert told(lines, "bad") == ["cold space"]


# -- S3


@pytest.fixture(params=["s3", "moto"])
def server(request: pytest.FixtureRequest) -> ServerName:
    return request.param


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with a_bucket(monkeypatch, "moto", versioned=True) as bucket:
        yield bucket


async def s3(bucket: Bucket, line: Line | None = None, **options: Any) -> dict[str, list[finding.Finding]]:
    """What is found, by level."""
    endpoint = line.url if line is not None else bucket.endpoint_url
    found: dict[str, list[finding.Finding]] = {"ok": [], "note": [], "bad": []}
    async for each in diagnose_s3(bucket.url, endpoint_url=endpoint, **options):
        found[each.level].append(each)
    return found


def checks(found: list[finding.Finding]) -> list[str]:
    return [each.check for each in found]


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_bucket_that_is_whole_needs_nothing_and_nothing_is_left_in_it(
    monkeypatch: pytest.MonkeyPatch, server: ServerName, versioned: bool
) -> None:
    async with a_bucket(monkeypatch, server, versioned=versioned) as bucket:
        found = await s3(bucket)
        assert found["bad"] == []
        assert {"reach", "round trip", "clock", "versions", "put once", "get", "parts", "remove"} <= set(
            checks(found["ok"])
        )
        assert await bucket.keys() == []


async def test_rules_that_delete_or_freeze_what_sessions_point_to_are_told(bucket: Bucket) -> None:
    rules = [
        {"ID": "expire", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}},
        {"ID": "freeze", "Status": "Enabled", "Filter": {"Prefix": f"{PREFIX}/t/"},
         "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}]},
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
        {"ID": "others", "Status": "Enabled", "Filter": {"Prefix": "elsewhere/"}, "Expiration": {"Days": 1}},
        {"ID": "versions", "Status": "Enabled", "Filter": {"Prefix": ""},
         "NoncurrentVersionExpiration": {"NoncurrentDays": 7}},
        {"ID": "cool", "Status": "Enabled", "Filter": {"Prefix": ""},
         "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]},
        {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]  # fmt: skip
    await bucket.client.put_bucket_lifecycle_configuration(Bucket=bucket.name, LifecycleConfiguration={"Rules": rules})
    found = await s3(bucket)
    assert [each.detail.split("'")[1] for each in found["bad"]] == ["expire", "freeze"]
    assert "uploads" in checks(found["ok"])


async def only(line: Line, method: str, part: str, status: int, code: str) -> None:
    async def rule(request: Message, pass_on: Pass) -> Message:
        if request.method == method and part in request.target:
            return answer(status, code)
        return await pass_on(request)

    line.rule = rule


@pytest.mark.parametrize(
    ("method", "part", "check", "right"),
    [
        ("HEAD", "", "reach", "ListBucket"),
        ("PUT", "doctor", "put", "PutObject"),
        ("GET", "versions", "get", "ListBucketVersions"),
        ("POST", "uploads", "parts", "AbortMultipartUpload"),
        ("DELETE", "versionId", "remove", "DeleteObjectVersion"),
    ],
)
async def test_a_right_that_is_missing_is_told_by_its_name(
    bucket: Bucket, method: str, part: str, check: str, right: str
) -> None:
    async with a_line(bucket.endpoint_url) as line:
        await only(line, method, part, 403, "AccessDenied")
        found = await s3(bucket, line)
    assert check in checks(found["bad"])
    assert right in next(each.mend for each in found["bad"] if each.check == check)


async def test_a_bucket_that_is_not_there_and_a_server_that_is_away_are_told(bucket: Bucket) -> None:
    async with a_line(bucket.endpoint_url) as line:
        await only(line, "HEAD", "", 404, "NoSuchBucket")
        [missing] = (await s3(bucket, line))["bad"]
        assert "the bucket is not there" in missing.detail
        await only(line, "HEAD", "", 500, "InternalError")
        [away] = (await s3(bucket, line))["bad"]
        assert "has failed" in away.detail


async def test_a_server_that_ignores_conditions_or_overwrites_is_told(bucket: Bucket) -> None:
    async def ignores(request: Message, pass_on: Pass) -> Message:
        return await pass_on(request.without("if-none-match"))

    async with a_line(bucket.endpoint_url) as line:
        line.rule = ignores
        found = await s3(bucket, line)
    assert found["bad"] == []
    assert "put once" in checks(found["note"])


async def test_a_clock_that_is_off_is_told(bucket: Bucket) -> None:
    async def late(request: Message, pass_on: Pass) -> Message:
        got = (await pass_on(request)).without("date")
        return got._replace(headers=(*got.headers, ("Date", "Sat, 21 Nov 2015 16:19:24 GMT")))

    async with a_line(bucket.endpoint_url) as line:
        line.rule = late
        found = await s3(bucket, line)
    assert checks(found["bad"]) == ["clock"]


async def test_encryption_that_was_asked_for_and_not_done_is_told(bucket: Bucket) -> None:
    async def forgets(request: Message, pass_on: Pass) -> Message:
        return (await pass_on(request)).without("x-amz-server-side-encryption")

    assert "encryption" in checks((await s3(bucket, encryption="AES256"))["ok"])
    async with a_line(bucket.endpoint_url) as line:
        line.rule = forgets
        assert "encryption" in checks((await s3(bucket, line, encryption="AES256"))["bad"])


async def test_a_class_that_must_be_restored_is_told(bucket: Bucket) -> None:
    [found] = (await s3(bucket, storage_class="GLACIER"))["bad"]
    assert "GLACIER must be restored" in found.detail


# -- Redis and MongoDB


@pytest.mark.parametrize("name", ["redis", "redis-cluster", "redis-sentinel"])
def test_redis_in_each_of_its_shapes_needs_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("REDIS_URL", service_url(name))
    ran, lines = look(capfd, "--tier", "hot")
    assert (ran.code, told(lines, "bad")) == (OK, [])
    assert {"hot reach", "hot round trip", "hot scripts", "hot remove"} <= set(told(lines, "ok"))


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
def test_a_redis_that_is_away_is_told_without_its_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    path = "/mymaster" if scheme == "redis+sentinel" else ""
    monkeypatch.setenv("REDIS_URL", f"{scheme}://:s3cr3t-w0rd@127.0.0.1:1{path}")
    for more in ((), ("--json",)):
        ran = run(capfd, "doctor", "--tier", "hot", *more)
        assert ran.code == FAILURE
        assert "s3cr3t" not in ran.out + ran.err


# The driver forgets the socket of an attempt that it gives up when it is closed (PyMongo 4.20, `pool_shared.py`).
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_mongo_that_is_away_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://user:s3cr3t-w0rd@127.0.0.1:1")
    ran, lines = look(capfd, "--tier", "warm")
    assert (ran.code, told(lines, "bad")) == (FAILURE, ["warm reach"])
    assert "s3cr3t" not in ran.out + ran.err
    gc.collect()


def test_a_mongo_is_looked_at(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", service_url("mongo"))
    _, lines = look(capfd, "--tier", "warm")
    assert {"warm reach", "warm round trip", "warm clock", "warm rights"} <= set(told(lines, "ok"))


# -- the command


def test_only_the_tiers_that_are_named_are_looked_at(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    _, lines = look(capfd, "--data-dir", str(folder), "--tier", "cold", "--tier", "hot")
    assert {line["tier"] for line in lines} == {"hot", "cold"}


def test_a_driver_that_is_not_installed_is_told_with_what_brings_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module", name="aioboto3")

    monkeypatch.setattr("sessionmanager.opening.import_module", missing)
    monkeypatch.setenv("S3_BUCKET", "bucket")
    ran, lines = look(capfd, "--tier", "cold")
    assert (ran.code, told(lines, "bad")) == (FAILURE, ["cold driver"])
    assert "sessionmanager[s3]" in lines[0]["mend"]


def test_a_tier_that_never_answers_does_not_hold_the_others(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(url: str, **_: Any) -> AsyncIterator[finding.Finding]:
        await asyncio.Event().wait()
        yield finding.ok("never", "comes")

    monkeypatch.setattr(sqlite_doctor, "diagnose", silent)
    monkeypatch.setattr(command, "TIER_SECONDS", 0.1)
    ran, lines = look(capfd, "--data-dir", str(folder))
    assert (ran.code, told(lines, "bad")) == (FAILURE, ["warm reach"])
    assert "cold" in {line["tier"] for line in lines}


def test_settings_that_cannot_be_read_are_told_as_everywhere(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_PORT", "none")
    assert run(capfd, "doctor").code == USAGE
    monkeypatch.setenv("SERVER_PORT", "1")
    monkeypatch.setenv("COLD_URL", "ftp://host/path")
    _, lines = look(capfd, "--tier", "cold")
    assert told(lines, "bad") == ["cold settings"]
