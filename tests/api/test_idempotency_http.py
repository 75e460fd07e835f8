"""Idempotency keys over HTTP: a repeat gets the first answer, another request under the same key a refusal."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.server import Caller, Served, gather, pointers, problem

pytestmark = pytest.mark.contract


def test_a_repeated_create_answers_with_the_session_of_the_first(admin: Caller) -> None:
    first = admin.post("/sessions", {"id": "key-1", "caller": "me"}, key="make-1")
    admin.say("key-1", "meanwhile")
    again = admin.post("/sessions", {"id": "key-1", "caller": "me"}, key="make-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("etag", "location"):
        assert again.headers[name] == first.headers[name]
    assert again.json()["id"] == "key-1"


def test_a_keyed_create_without_an_id_meets_on_one_session(service: Served, admin: Caller) -> None:
    async def twice() -> list[httpx2.Response]:
        return await gather(*(admin.send("POST", "/sessions", json={"caller": "me"}, key="make-2") for _ in range(8)))

    answers = service.run(twice())
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


def test_another_body_under_the_same_key_is_422_and_changes_nothing(admin: Caller) -> None:
    admin.post("/sessions", {"id": "key-2", "caller": "me"}, key="make-3")
    problem(admin.post("/sessions", {"id": "key-2", "caller": "you"}, key="make-3"), 422, "key-reused")
    admin.patch("/sessions/key-2", {"labels": ["a"]}, if_match=1, key="patch")
    problem(admin.patch("/sessions/key-2", {"labels": ["b"]}, if_match=1, key="patch"), 422, "key-reused")
    assert admin.read("key-2")["labels"] == ["a"]


def test_a_repeated_patch_answers_the_version_it_made_though_its_precondition_is_stale(admin: Caller) -> None:
    admin.create("key-3")
    first = admin.patch("/sessions/key-3", {"labels": ["a"]}, if_match=1, key="p")
    admin.say("key-3", "meanwhile")
    again = admin.patch("/sessions/key-3", {"labels": ["a"]}, if_match=1, key="p")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["etag"] == first.headers["etag"] == '"v2"'
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["version"] >= 2


def test_the_same_key_of_another_subject_is_another_key(service: Served, admin: Caller) -> None:
    bob = service.caller(subject="bob")
    admin.create("key-4")
    entry = {"entries": [{"type": "message", "role": "user", "content": "x"}]}
    first = admin.post("/sessions/key-4/entries", entry, key="same")
    other = bob.post("/sessions/key-4/entries", entry, key="same")
    assert (first.status_code, other.status_code) == (201, 201)
    assert other.json()["version"] == first.json()["version"] + 1


def test_the_same_key_in_another_session_is_another_key(admin: Caller) -> None:
    admin.create("key-5")
    admin.create("key-6")
    entry = {"entries": [{"type": "message", "role": "user", "content": "x"}]}
    assert "idempotency-replayed" not in admin.post("/sessions/key-5/entries", entry, key="shared").headers
    assert "idempotency-replayed" not in admin.post("/sessions/key-6/entries", entry, key="shared").headers


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "tab\tin"])
def test_a_key_that_is_none_is_400(admin: Caller, key: str) -> None:
    assert pointers(problem(admin.post("/sessions", {}, key=key), 400, "malformed")) == {"header/Idempotency-Key"}
