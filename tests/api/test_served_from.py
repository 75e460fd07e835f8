"""Every read of a session says which tier answered and how long it took, and holds `Min-Version`."""

from __future__ import annotations

import pytest

from tests.support.server import Caller, Served, problem

pytestmark = pytest.mark.contract

READS = (
    "/sessions/s",
    "/sessions/s/entries",
    "/sessions/s/resumable",
    "/lookup?caller=me",
    "/sessions/s/attachments/a",
)


@pytest.fixture(scope="module")
def admin(service: Served) -> Caller:
    service.admin.create("s", caller="me")
    service.admin.put("/sessions/s/attachments/a", "x")
    return service.admin


@pytest.mark.parametrize("path", READS)
def test_every_read_of_a_session_names_the_tier_that_answered(admin: Caller, path: str) -> None:
    answer = admin.get(path)
    tier = answer.headers["session-tier"]
    assert tier in {"hot", "warm", "cold"}
    assert answer.headers["server-timing"].startswith(f"{tier};dur=")


@pytest.mark.parametrize("path", READS[:3])
def test_no_read_answers_with_less_than_the_least_version(admin: Caller, path: str) -> None:
    assert admin.get(path, headers={"Min-Version": "2"}).status_code == 200
    refused = problem(admin.get(path, headers={"Min-Version": "99"}), 412, "min-version-ahead")
    assert refused["version"] == 2
    problem(admin.get(path, headers={"Min-Version": "soon"}), 400, "malformed")
