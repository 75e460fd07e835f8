"""Attachments over HTTP: bytes beside a session, the same on the way out as on the way in."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import OTHER, Caller, Served, chunks_of, pointers, problem, served

pytestmark = pytest.mark.contract

EVERY_BYTE = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(attachment_bytes_max="100000") as running:
        yield running


def put(caller: Caller, path: str, data: bytes, media: str | None = "audio/l16; rate=16000", **more: str) -> int:
    headers = {} if media is None else {"Content-Type": media}
    return caller.request("PUT", path, content=data, headers=headers, **more).status_code


def test_bytes_come_back_with_their_type_and_their_checksum_and_never_run_in_a_browser(admin: Caller) -> None:
    admin.create("a1")
    done = admin.request(
        "PUT",
        "/sessions/a1/attachments/tape.raw",
        content=EVERY_BYTE,
        headers={"Content-Type": "audio/l16; rate=16000"},
    )
    assert done.status_code == 201
    assert done.json() == {"id": "a1", "version": 2, "status": "initiated"}
    assert done.headers["etag"] == '"v2"'
    got = admin.get("/sessions/a1/attachments/tape.raw")
    digest = hashlib.sha256(EVERY_BYTE)
    assert (got.status_code, got.content) == (200, EVERY_BYTE)
    assert got.headers["content-type"] == "audio/l16; rate=16000"
    assert got.headers["content-length"] == str(len(EVERY_BYTE))
    assert got.headers["etag"] == f'"{digest.hexdigest()}"'
    assert got.headers["repr-digest"] == f"sha-256=:{b64encode(digest.digest()).decode()}:"
    assert got.headers["content-disposition"] == "attachment"
    assert "sandbox" in got.headers["content-security-policy"]
    assert got.headers["x-content-type-options"] == "nosniff"
    head = admin.request("HEAD", "/sessions/a1/attachments/tape.raw")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(EVERY_BYTE)))


def test_putting_again_replaces_and_deleting_forgets(service: Served, admin: Caller) -> None:
    admin.create("a2")
    path = "/sessions/a2/attachments/buffer"
    assert put(admin, path, b"one") == 201
    assert put(admin, path, b"two", None) == 201
    got = admin.get(path)
    assert (got.content, got.headers["content-type"]) == (b"two", "application/octet-stream")
    gone = admin.delete(path)
    assert gone.status_code == 200
    assert gone.json()["version"] == 4
    problem(admin.get(path), 404, "not-found")
    problem(admin.delete(path), 404, "not-found")
    problem(admin.get("/sessions/a2/attachments/never"), 404, "not-found")


def test_an_empty_attachment_is_one(admin: Caller) -> None:
    admin.create("a3")
    assert put(admin, "/sessions/a3/attachments/none", b"") == 201
    assert admin.get("/sessions/a3/attachments/none").content == b""


def test_a_repeat_with_the_same_key_gets_the_first_answer(admin: Caller) -> None:
    admin.create("a4")
    path = "/sessions/a4/attachments/x"
    first = admin.request("PUT", path, content=b"one", key="p")
    again = admin.request("PUT", path, content=b"one", key="p")
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    problem(admin.request("PUT", path, content=b"two", key="p"), 422, "key-reused")
    gone, repeated = (admin.delete(path, key="d") for _ in range(2))
    assert (gone.status_code, repeated.status_code, repeated.content) == (200, 200, gone.content)
    assert admin.read("a4")["version"] == 3


def test_attachments_survive_suspension_archive_and_the_way_back(service: Served, admin: Caller) -> None:
    admin.create("a5")
    put(admin, "/sessions/a5/attachments/x", EVERY_BYTE)
    service.archive(admin, "a5")
    assert admin.get("/sessions/a5/attachments/x").content == EVERY_BYTE
    assert admin.read("a5")["placement"] == "cold"
    admin.post("/sessions/a5/resume")
    assert admin.get("/sessions/a5/attachments/x").content == EVERY_BYTE


def test_over_the_limit_is_413_by_length_and_by_count_and_the_limit_itself_is_fine(admin: Caller) -> None:
    admin.create("a6")
    path = "/sessions/a6/attachments/big"
    assert put(admin, path, b"x" * 100_000) == 201
    refused = problem(admin.request("PUT", path, content=b"x" * 100_001), 413, "too-large")
    assert refused["limit_bytes"] == 100_000
    parts = [b"x" * 10_000] * 11
    chunked = admin.request("PUT", path, content=chunks_of(*parts))
    assert problem(chunked, 413, "too-large")["limit_bytes"] == 100_000
    assert admin.request("PUT", path, content=chunks_of(*parts[:10])).status_code == 201


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "a%2Fb", "%2e%2e", "x" * 129, "%00", "a\\b", "%zz"])
def test_a_name_that_is_a_path_leads_nowhere(service: Served, admin: Caller, name: str) -> None:
    admin.get("/sessions/a7") if admin.get("/sessions/a7").status_code == 200 else admin.create("a7")
    token = f"Bearer {admin.token}".encode()
    for method in ("PUT", "GET", "DELETE"):
        answer = service.raw(method, f"/sessions/a7/attachments/{name}".encode(), headers=[(b"authorization", token)])
        assert answer.status in (400, 404), answer
        problem(answer, answer.status)


def test_types_that_could_split_a_header_are_refused(service: Served, admin: Caller) -> None:
    admin.create("a8")
    answer = service.raw(
        "PUT",
        b"/sessions/a8/attachments/x",
        headers=[(b"authorization", f"Bearer {admin.token}".encode()), (b"content-type", b"text/plain\r\nx: y")],
    )
    assert pointers(problem(answer, 400, "malformed")) == {"header/Content-Type"}
    long = admin.request("PUT", "/sessions/a8/attachments/x", headers={"Content-Type": "a/" + "b" * 300})
    problem(long, 400, "malformed")
    coded = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    problem(admin.request("PUT", "/sessions/a8/attachments/x", headers=coded), 415, "unsupported-media-type")


def test_a_session_holds_256_attachments(admin: Caller) -> None:
    admin.create("a9")
    for i in range(256):
        assert put(admin, f"/sessions/a9/attachments/{i}", b"x") == 201
    refused = problem(admin.request("PUT", "/sessions/a9/attachments/more", content=b"x"), 422, "invalid")
    assert pointers(refused) == {"path/name"}
    assert put(admin, "/sessions/a9/attachments/7", b"y") == 201
    admin.delete("/sessions/a9/attachments/7")
    assert put(admin, "/sessions/a9/attachments/more", b"x") == 201


def test_nobody_of_another_tenant_reads_or_changes_them(service: Served, admin: Caller) -> None:
    admin.create("a10")
    put(admin, "/sessions/a10/attachments/x", b"mine")
    other = service.caller(tenant=OTHER)
    for answer in (
        other.get("/sessions/a10/attachments/x"),
        other.request("PUT", "/sessions/a10/attachments/x", content=b"yours"),
        other.delete("/sessions/a10/attachments/x"),
    ):
        problem(answer, 404, "not-found")
    assert admin.get("/sessions/a10/attachments/x").content == b"mine"


def test_what_lies_on_the_disk_is_not_what_was_put(tmp_path: Path) -> None:
    with served(tmp_path) as service:
        service.admin.create("a11")
        put(service.admin, "/sessions/a11/attachments/x", b"a secret recording of somebody")
        stored = [file.read_bytes() for file in (tmp_path / "cold").rglob("*") if file.is_file()]
    assert stored
    assert all(b"secret recording" not in data for data in stored)
