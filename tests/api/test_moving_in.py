"""What the five systems bring along when they move in: what conflicts between them, and defects that stay behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import jwt
import pytest

from tests.support.server import Caller, Served, problem, served

pytestmark = pytest.mark.contract

COPIES_MAX = 2


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """Room for two copies in memory, each for a second at most: what one of the five calls its storage."""
    with served(max_sessions=str(COPIES_MAX), session_ttl="1", default_max_age_seconds="3600") as running:
        yield running


@pytest.fixture
def admin(service: Served) -> Caller:
    return service.caller("admin")


@pytest.mark.parametrize("session_id", ["call:meta", "opusagent:session:call:meta", "call-4711", "4711"])
def test_no_ending_of_an_id_hides_a_session_from_lists(admin: Caller, session_id: str) -> None:
    admin.create(session_id, caller=f"caller of {session_id}")
    found = admin.get("/sessions", params={"caller": f"caller of {session_id}"}).json()["items"]
    assert [item["id"] for item in found] == [session_id]


def test_no_session_is_lost_to_a_bound_or_an_age_of_copies(admin: Caller) -> None:
    made = [f"kept-{i}" for i in range(10 * COPIES_MAX)]
    for session_id in made:
        admin.create(session_id, bot_name="kept")
        admin.say(session_id, "Hello")
    assert [admin.read(session_id)["entry_count"] for session_id in made] == [admin.read(made[0])["entry_count"]] * len(
        made
    )
    assert all(admin.read(session_id)["expires_at"] is None for session_id in made)


def test_no_write_moves_the_creation_and_no_read_counts_as_activity(admin: Caller) -> None:
    made = admin.create("mine")
    admin.say("mine", "Hello")
    changed = admin.patch("/sessions/mine", {"bot_name": "other"}, if_match="*").json()
    assert changed["created_at"] == made["created_at"]
    before = admin.read("mine", entries=0)
    for path in ("/sessions/mine", "/sessions/mine/entries", "/sessions/mine/resumable"):
        assert admin.get(path).status_code == 200
    after = admin.read("mine", entries=0)
    assert (after["last_activity"], after["version"], after["resumed_count"]) == (
        before["last_activity"], before["version"], before["resumed_count"],
    )  # fmt: skip


def test_paused_may_resume_and_ended_may_not(admin: Caller) -> None:
    for session_id in ("paused", "over"):
        admin.create(session_id)
    assert admin.post("/sessions/paused/suspend").json()["status"] == "dormant"
    assert admin.post("/sessions/paused/resume").json()["session"]["status"] == "active"
    assert admin.post("/sessions/over/end", {"reason": "hangup"}).json()["status"] == "ended"
    assert problem(admin.post("/sessions/over/resume"), 409, "not-resumable")["reason"] == "ended"
    assert admin.read("over")["end_reason"] == "hangup"


def test_a_session_may_have_no_type_and_nothing_said(admin: Caller) -> None:
    assert admin.create("empty", type=None)["type"] is None
    resumed = admin.post("/sessions/empty/resume").json()
    assert [entry["type"] for entry in resumed["entries"]] == ["state", "status"]
    assert (resumed["partial_turn"], resumed["function_calls"]) == (None, {"open": [], "interrupted": []})


def test_an_hour_is_a_choice_of_whoever_resumes_and_not_the_end_of_a_session(admin: Caller) -> None:
    admin.create("choice")
    assert admin.get("/sessions/choice/resumable").json()["resumable"] is True
    problem(admin.post("/sessions/choice/resume", {"max_age_seconds": 0}), 422, "invalid")
    assert admin.post("/sessions/choice/resume", {"max_age_seconds": None}).status_code == 200


def test_no_answer_about_a_session_and_no_entry_of_it_holds_a_token(admin: Caller, service: Served) -> None:
    admin.create("quiet")
    resumed = admin.post("/sessions/quiet/resume").json()
    assert resumed["token"] is None
    minted = admin.post("/tokens", {"subject": "bridge-1", "roles": ["bridge"], "ttl_seconds": 90}).json()
    # The end is a whole second, rounded up.
    claims = jwt.decode(minted["token"], options={"verify_signature": False})
    assert 90 <= claims["exp"] - claims["iat"] < 91
    assert datetime.fromtimestamp(claims["exp"], UTC) > datetime.now(UTC)
    shown = (admin.get("/sessions/quiet").text, admin.get("/sessions/quiet/entries").text, admin.get("/audit").text)
    for token in (minted["token"], admin.token or ""):
        assert not any(token in text or token.rpartition(".")[2] in text for text in shown)
