"""Every error is one problem document: the table is whole, and what is our own fault tells only its request id."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from sessionmanager import errors as e
from sessionmanager.api.problems import STATUSES, problem, render, status_of
from sessionmanager.wire.answers import Problem
from sessionmanager.wire.common import pointer

pytestmark = pytest.mark.unit

SECRET = "a-secret-that-was-said"
ONE_OF_EACH: tuple[e.SessionManagerError, ...] = (
    e.Malformed("x", [e.FieldError("/a", "b")]),
    e.Unauthenticated(),
    e.Forbidden(),
    e.NotFound(),
    e.MethodNotAllowed(["GET", "HEAD"]),
    e.AlreadyExists(),
    e.IllegalTransition("ended", ["archive"]),
    e.NotResumable("ended"),
    e.LegalHold(),
    e.InProgress(),
    e.Erased(),
    e.VersionConflict(7),
    e.MinVersionAhead(7),
    e.TooLarge(10),
    e.UnsupportedMediaType(),
    e.Invalid([e.FieldError("/a", "b")]),
    e.KeyReused(),
    e.PreconditionRequired(),
    e.RateLimited(),
    e.DataCorrupt("segment 7"),
    e.UpstreamFailed("carrier"),
    e.TierUnavailable("warm", retry_after_seconds=0.2),
    e.Contended(),
    e.Draining(),
    e.Overloaded(),
    e.OutcomeUnknown(),
    e.QuotaExceeded("sessions", 3),
    e.Full("64 participants"),
    e.FloorTaken("par_1", 7, 12.5),
    e.FloorLost(7),
    e.CheckpointTaken(),
    e.JoinTimeout("call-1", ["asr"]),
)
STATUS_OF_TYPE = {
    "malformed": 400, "unauthenticated": 401, "forbidden": 403, "not-found": 404, "method-not-allowed": 405,
    "already-exists": 409, "illegal-transition": 409, "not-resumable": 409, "quota-exceeded": 409, "legal-hold": 409,
    "full": 409, "floor-taken": 409, "floor-lost": 409, "checkpoint-taken": 409, "in-progress": 409,
    "join-timeout": 504, "erased": 410, "version-conflict": 412, "min-version-ahead": 412, "too-large": 413,
    "unsupported-media-type": 415, "invalid": 422, "key-reused": 422, "precondition-required": 428, "rate-limited": 429,
    "data-corrupt": 500, "upstream-failed": 502, "tier-unavailable": 503, "contended": 503, "draining": 503,
    "outcome-unknown": 503, "overloaded": 503,
}  # fmt: skip


def rendered(error: e.SessionManagerError) -> tuple[dict[str, Any], dict[str, str]]:
    reply = render(error, path="/sessions/a", request_id="r-1")
    headers = {name.decode(): value.decode() for name, value in reply.raw_headers}
    assert headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = msgspec.json.decode(reply.body)
    assert document["status"] == reply.status_code
    return document, headers


def test_every_error_that_a_caller_can_meet_has_a_status() -> None:
    ours = {
        error
        for error in vars(e).values()
        if isinstance(error, type) and issubclass(error, e.SessionManagerError) and error is not e.SessionManagerError
    }
    assert ours == set(STATUSES) == {type(error) for error in ONE_OF_EACH}
    assert {error.type: status for error, status in STATUSES.items()} == STATUS_OF_TYPE  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: error.type)
def test_every_problem_reads_as_the_documented_type(error: e.SessionManagerError) -> None:
    document, headers = rendered(error)
    read = msgspec.convert(document, Problem, strict=True)
    assert (read.type, read.title, read.status) == (error.type, error.title, STATUS_OF_TYPE[error.type])
    assert (read.remedy, read.request_id, read.instance) == (error.remedy, "r-1", "/sessions/a")
    documented = {field.encode_name for field in msgspec.structs.fields(Problem)}
    assert set(document) <= documented
    assert set(error.members()) <= set(document)
    assert ("retry-after" in headers) == (read.remedy in ("wait", "repeat"))


def test_waiting_is_a_whole_number_of_seconds_and_at_least_one() -> None:
    for seconds, told in ((0.2, "1"), (1.0, "1"), (1.1, "2"), (1e9, "3600"), (-5.0, "1")):
        assert rendered(e.TierUnavailable("hot", retry_after_seconds=seconds))[1]["retry-after"] == told


def test_a_missing_token_is_challenged_and_a_method_is_offered() -> None:
    assert rendered(e.Unauthenticated())[1]["www-authenticate"].startswith("Bearer ")
    assert rendered(e.MethodNotAllowed(["GET", "HEAD"]))[1]["allow"] == "GET, HEAD"
    assert "from" in rendered(e.IllegalTransition("ended", ["archive"]))[0]


def test_a_subclass_has_the_status_of_its_parent_and_anything_else_is_internal() -> None:
    class Nearer(e.Unauthenticated):
        pass

    assert status_of(Nearer()) == 401
    assert status_of(ValueError) == status_of(e.RevConflict()) == 500


def test_what_nobody_expected_answers_500_and_is_logged_without_what_was_said() -> None:
    def breaks(content: str) -> None:
        raise ValueError(content)

    with capture_logs() as lines:
        try:
            try:
                breaks(SECRET)
            except ValueError as cause:
                raise KeyError(SECRET) from cause
        except KeyError as error:
            reply = problem(error, path="/x", request_id="r-9")
    assert reply.status_code == 500
    document = msgspec.json.decode(reply.body)
    assert (document["type"], document["request_id"], document["remedy"]) == ("internal", "r-9", "none")
    (line,) = lines
    assert (line["request_id"], line["error"], line["log_level"]) == ("r-9", ["KeyError", "ValueError"], "error")
    assert any("test_problems.py" in frame for frame in line["traceback"])
    assert SECRET not in repr(lines) + reply.body.decode()


def test_the_detail_of_our_own_fault_is_in_the_log_only() -> None:
    with capture_logs() as lines:
        reply = problem(e.DataCorrupt("segment s-7"), path="/x", request_id="r")
    assert b"s-7" not in reply.body
    assert lines[0]["detail"] == "segment s-7"


def test_a_callers_error_is_not_logged() -> None:
    with capture_logs() as lines:
        problem(e.NotFound(), path="/x", request_id="r")
    assert lines == []


@pytest.mark.parametrize("path", ["/\ud800", "/\n\r", "/é", "/" + "x" * 5000, "/<script>", ""])
def test_any_path_makes_a_short_ascii_instance(path: str) -> None:
    document = msgspec.json.decode(render(e.NotFound(), path=path, request_id="r").body)
    assert document["instance"].isascii()
    assert "<" not in document["instance"]
    assert len(document["instance"]) < 2000


def test_pointers_are_escaped_and_bounded() -> None:
    assert pointer("a/b", 0, "c~d") == "/a~1b/0/c~0d"
    assert len(pointer("x" * 10_000)) == 129
