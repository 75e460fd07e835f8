"""A disk that is full or only reads: 503 with the tier for what must be written, the rest goes on, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from sessionmanager.errors import TierUnavailable
from tests.support.disks import Disk, InjectedDisk, can_mount, small_disk
from tests.support.server import Caller, Served, problem, served

pytestmark = pytest.mark.fault

WRITES_MAX: Final = 2_000
LINE: Final = "x" * 8_000
KINDS: Final = ["injected", "injected, only reads", *(["real"] if can_mount() else [])]


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if request.param == "real":
        with small_disk(tmp_path / "disk") as small:
            yield small
    else:
        yield InjectedDisk(tmp_path, monkeypatch, only_reads="reads" in request.param)


@pytest.fixture
def service(disk: Disk) -> Iterator[Served]:
    with served(disk.folder / "data") as running:
        yield running


def append(caller: Caller, text: str, key: str) -> httpx2.Response:
    entry = {"type": "message", "role": "user", "content": text}
    return caller.post("/sessions/s/entries", {"entries": [entry]}, key=key)


def said(caller: Caller) -> list[Any]:
    return [entry["content"] for entry in caller.history("s", type="message", limit=200)]


def append_until_refused(caller: Caller) -> tuple[list[str], str]:
    """What was acknowledged, and what was refused with its key `k<number>`."""
    kept: list[str] = []
    for i in range(WRITES_MAX):
        text = f"{i} {LINE}"
        answer = append(caller, text, f"k{i}")
        if answer.status_code != 201:
            refused = problem(answer, 503, "tier-unavailable")
            assert (refused["tier"], refused["remedy"]) == ("warm", "wait")
            assert int(answer.headers["retry-after"]) >= 1
            return kept, text
        kept.append(text)
    raise AssertionError("the disk never filled up")


def test_a_full_disk_refuses_writes_with_503_reads_go_on_and_nothing_is_lost(disk: Disk) -> None:
    with served(disk.folder / "data") as service:
        admin = service.admin
        admin.create("s", context={"a": 1})
        assert append(admin, "first", "first").status_code == 201
        disk.fill()
        kept, refused = append_until_refused(admin)
        # Every other way to write is refused as well, each with the tier; none is a 500, none half done.
        for answer in (
            admin.post("/sessions", {"id": "other"}),
            admin.patch("/sessions/s", {"labels": ["x"]}, if_match="*"),
            admin.post("/sessions/s/suspend"),
            admin.post("/sessions/s/resume"),
            admin.put("/tenants/acme/settings", {"max_age_seconds": 5}),
        ):
            if answer.status_code >= 400:  # a few bytes may still be free on a real disk
                assert problem(answer, 503)["type"] in {"tier-unavailable", "outcome-unknown"}
        assert said(admin) == ["first", *kept]
        assert admin.read("s")["context"] == {"a": 1}
        assert admin.get("/sessions/s/resumable").status_code == 200
        assert admin.get("/sessions").status_code == 200
        assert admin.get("/audit").status_code == 200
        assert service.nobody().get("/livez").status_code == 200
        assert service.nobody().get("/readyz").status_code == 200, "it still serves reads"
        disk.free()
        # The caller repeats what was refused, with its key, as the document says.
        service.until(lambda: append(admin, refused, f"k{len(kept)}").status_code == 201, "writes after space is free")
        assert said(admin) == ["first", *kept, refused]
        service.until(lambda: service.nobody().get("/health").json()["status"] == "ok", "a clean bill of health")
    with served(disk.folder / "data") as again:
        assert said(again.admin) == ["first", *kept, refused], "and the same after a restart"


def test_a_full_cold_tier_refuses_attachments_and_keeps_what_waits_for_it_in_warm(disk: Disk, service: Served) -> None:
    admin = service.admin
    admin.create("s")
    assert admin.request("PUT", "/sessions/s/attachments/a", content=b"old").status_code == 201
    append(admin, "kept", "k")
    disk.fill()
    answer = admin.request("PUT", "/sessions/s/attachments/a", content=b"new" * 5_000)
    refused = problem(answer, 503)
    assert refused["type"] in {"tier-unavailable", "outcome-unknown"}
    assert refused.get("tier", "cold") in {"cold", "warm"}
    assert admin.get("/sessions/s/attachments/a").content == b"old"
    disk.free()

    def put() -> bool:
        return admin.request("PUT", "/sessions/s/attachments/a", content=b"new").status_code == 201

    service.until(put, "attachments after space is free")
    assert admin.get("/sessions/s/attachments/a").content == b"new"
    assert said(admin) == ["kept"]


def test_an_archive_that_finds_the_disk_full_is_made_when_there_is_space_again(disk: Disk, service: Served) -> None:
    admin = service.admin
    admin.create("s")
    append(admin, "kept", "k")
    admin.post("/sessions/s/suspend")
    assert admin.post("/sessions/s/archive").status_code == 202
    disk.fill()
    service.run(service.service.core.worker.turn())
    before = admin.read("s")
    assert before["status"] == "dormant"
    assert said(admin) == ["kept"]
    disk.free()
    service.until(lambda: admin.read("s")["placement"] == "cold", "the archive after space is free")
    assert said(admin) == ["kept"]
    assert admin.post("/sessions/s/resume").json()["session"]["status"] == "active"


def test_a_service_does_not_start_where_it_cannot_write_and_harms_nothing(tmp_path: Path) -> None:
    if not can_mount():
        folder = tmp_path / "data"
        with served(folder) as service:
            service.admin.create("s")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o500 if path.is_dir() else 0o400)
        _does_not_start(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        with served(folder) as service:
            assert service.admin.read("s")["version"] == 1
        return
    with small_disk(tmp_path / "disk") as disk:
        folder = disk.folder / "data"
        with served(folder) as service:
            service.admin.create("s")
        disk.only_read()
        _does_not_start(folder)
        disk.write_again()
        with served(folder) as service:
            assert service.admin.read("s")["version"] == 1


def _does_not_start(folder: Path) -> None:
    with pytest.raises((TierUnavailable, OSError)) as refused, served(folder):
        pass
    assert "tier" in str(refused.value) or "Read-only" in str(refused.value)
