"""Checkpoints over HTTP: bytes of a participant's process for the process after it; who may have them, and how many."""

from __future__ import annotations

import pytest

from sessionmanager.core.checkpoints import CHECKPOINT_BYTES_MAX
from sessionmanager.words import ROLES
from tests.support.server import OTHER, Caller, Served, pointers, problem

pytestmark = pytest.mark.contract


def joined(caller: Caller, session: str, identity: str = "bridge") -> tuple[str, str]:
    """The path of its checkpoint, and its token."""
    answer = caller.post(f"/sessions/{session}/participants", {"kind": "bridge", "identity": identity}).json()
    return f"/sessions/{session}/participants/{answer['participant']['id']}/checkpoint", answer["token"]


def keep(caller: Caller, path: str, data: bytes = b"what is my", holder: str = "one", media: str = "audio/basic"):
    return caller.request(
        "PUT", path, content=data, headers={"Content-Type": media}, params={"holder": holder, "number": "1"}
    )


def take(caller: Caller, path: str, holder: str = "other"):
    return caller.post(f"{path}/take", params={"holder": holder})


def test_what_one_process_keeps_the_next_takes_with_its_type_and_the_session_does_not_move(admin: Caller) -> None:
    admin.create("k1")
    path, _ = joined(admin, "k1")
    before = admin.read("k1")
    assert (keep(admin, path).status_code, keep(admin, path).content) == (204, b"")
    for _ in range(2):
        taken = take(admin, path)
        assert (taken.status_code, taken.content) == (200, b"what is my")
        assert taken.headers["content-type"] == "audio/basic"
        assert taken.headers["cache-control"] == "no-store"
        assert "sandbox" in taken.headers["content-security-policy"]
    problem(keep(admin, path), 409, "checkpoint-taken")
    assert keep(admin, path, b"", "other").status_code == 204
    assert (take(admin, path, "third").status_code, admin.read("k1")) == (204, before)
    assert [entry["type"] for entry in admin.history("k1")] == ["state", "participant"]


def test_who_may_append_may_keep_and_take_and_nobody_else(service: Served, admin: Caller) -> None:
    admin.create("k2")
    path, token = joined(admin, "k2")
    for role in set(ROLES) - {"participant"}:
        caller, may = service.caller(role), role in ("admin", "bridge", "agent")
        assert (take(caller, path, role).status_code in (200, 204)) == may, role
        assert (keep(caller, path, holder=role).status_code == 204) == may, role
    own = service.nobody(token)
    assert take(own, path, "own").status_code == 200
    assert keep(own, path, holder="own").status_code == 204
    other, _ = joined(admin, "k2", "another")
    problem(keep(own, other), 403, "forbidden")
    problem(take(own, other), 403, "forbidden")


def test_another_tenants_is_as_if_it_never_was(service: Served, admin: Caller) -> None:
    admin.create("k3")
    path, _ = joined(admin, "k3")
    keep(admin, path)
    stranger = service.caller(tenant=OTHER)
    problem(take(stranger, path), 404, "not-found")
    problem(keep(stranger, path, holder="other"), 404, "not-found")
    assert keep(admin, path).status_code == 204, "nobody has taken it"


def test_more_than_it_may_hold_is_refused_before_it_is_read(admin: Caller) -> None:
    admin.create("k4")
    path, _ = joined(admin, "k4")
    assert keep(admin, path, bytes(CHECKPOINT_BYTES_MAX)).status_code == 204
    told = problem(keep(admin, path, bytes(CHECKPOINT_BYTES_MAX + 1)), 413, "too-large")
    assert told["limit_bytes"] == CHECKPOINT_BYTES_MAX


@pytest.mark.parametrize("query", [{}, {"holder": ""}, {"holder": "h" * 256}, {"holder": "a\nb"}])
def test_a_holder_is_named(admin: Caller, query: dict[str, str]) -> None:
    if not query:
        admin.create("k5")
    path, _ = joined(admin, "k5")
    for answer in (
        admin.request("PUT", path, content=b"x", params=query),
        admin.post(f"{path}/take", params=query),
    ):
        assert pointers(problem(answer, 400, "malformed")) == {"query/holder"}


def test_an_erased_session_has_none(service: Served, admin: Caller) -> None:
    admin.create("k6")
    path, _ = joined(admin, "k6")
    keep(admin, path)
    assert admin.delete("/sessions/k6").status_code == 202
    problem(take(admin, path), 410, "erased")
    problem(keep(admin, path), 410, "erased")
