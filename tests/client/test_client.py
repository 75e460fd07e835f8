"""The plain client: a call is one request, and the service's errors come back as the same classes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from sessionmanager import errors
from sessionmanager.api import problems as served
from sessionmanager.client import problems
from sessionmanager.client.client import PlainClient, one_line
from sessionmanager.client.problems import NotOurs, TimedOut, Unreachable, error_of

pytestmark = pytest.mark.unit

Handler = Callable[[httpx2.Request], httpx2.Response]


def client_of(handler: Handler, **options: Any) -> PlainClient:
    return PlainClient("http://service/prefix", "t0ken", transport=httpx2.MockTransport(handler), **options)


def answering(body: Any, status: int = 200) -> tuple[list[httpx2.Request], Handler]:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, content=body if isinstance(body, bytes) else json.dumps(body).encode())

    return seen, handler


CALLS: list[tuple[str, str, Any, Callable[[PlainClient], Any]]] = [
    ("GET", "/sessions/a%2Fb?entries=3", None, lambda c: c.get("a/b", entries=3)),
    ("GET", "/sessions/a", None, lambda c: c.get("a", min_version=7)),
    ("GET", "/sessions?status=active&limit=2", None, lambda c: c.list(limit=2, status="active")),
    ("GET", "/sessions/a/resumable?max_age_seconds=5", None, lambda c: c.resumable("a", max_age_seconds=5)),
    ("GET", "/erasures/e1", None, lambda c: c.erasure("e1")),
    ("GET", "/health", None, lambda c: c.health()),
    ("POST", "/sessions", {"id": "a"}, lambda c: c.create({"id": "a"})),
    ("POST", "/sessions/a/entries", {"entries": [{"type": "message"}]}, lambda c: c.append("a", [{"type": "message"}])),
    ("PATCH", "/sessions/a", {"labels": []}, lambda c: c.patch("a", {"labels": []}, version=3)),
    ("POST", "/sessions/a/resume", {"replay": "tail"}, lambda c: c.resume("a", {"replay": "tail"})),
    ("POST", "/sessions/a/suspend", {}, lambda c: c.suspend("a")),
    ("POST", "/sessions/a/activate", {}, lambda c: c.activate("a")),
    ("POST", "/sessions/a/end", {"reason": "hung up"}, lambda c: c.end("a", "hung up")),
    ("POST", "/sessions/a/fail", {"error": "x"}, lambda c: c.fail("a", "x")),
    ("POST", "/sessions/a/archive", {}, lambda c: c.archive("a")),
    ("DELETE", "/sessions/a", None, lambda c: c.erase("a")),
]


@pytest.mark.parametrize(("method", "target", "body", "call"), CALLS, ids=[f"{c[0]} {c[1]}" for c in CALLS])
async def test_each_method_is_one_request_and_each_write_has_an_idempotency_key(
    method: str, target: str, body: Any, call: Callable[[PlainClient], Any]
) -> None:
    seen, handler = answering({"id": "a"})
    async with client_of(handler) as client:
        assert await call(client) == {"id": "a"}
    (request,) = seen
    assert request.method == method
    assert request.url.raw_path.decode() == f"/prefix{target}"
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers["authorization"] == "Bearer t0ken"
    assert ("idempotency-key" in request.headers) == (method != "GET")


async def test_preconditions_and_keys_are_sent_as_they_were_given() -> None:
    seen, handler = answering({})
    async with client_of(handler) as client:
        await client.patch("a", {}, version=3, key="k-1")
        await client.patch("a", {}, version=None)
        await client.get("a", min_version=9)
    assert seen[0].headers["if-match"] == '"v3"'
    assert seen[0].headers["idempotency-key"] == "k-1"
    assert seen[0].headers["content-type"] == "application/merge-patch+json"
    assert seen[1].headers["if-match"] == "*"
    assert seen[2].headers["min-version"] == "9"


@pytest.mark.parametrize("id", ["..", ".", "../../admin", "a?b", "a#b", "a b", "ä/%2e"])
async def test_an_id_never_leads_to_another_path(id: str) -> None:
    seen, handler = answering({})
    async with client_of(handler) as client:
        await client.get(id)
    path = seen[0].url.raw_path.decode()
    assert path.startswith("/prefix/sessions/")
    assert path.count("/") == 3
    assert path.rsplit("/", 1)[1].strip(".")


async def test_entries_keep_every_byte_of_their_numbers() -> None:
    _, handler = answering(
        b'{"items":[{"seq":1,"content":1.10e400},\n {"seq":2,\n"content":9007199254740993}],"next_cursor":null}'
    )
    async with client_of(handler) as client:
        page = await client.entries("a", after=0)
    assert page.lines == [b'{"seq":1,"content":1.10e400}', b'{"seq":2,"content":9007199254740993}']
    assert page.next_cursor is None


def test_one_line_touches_white_space_alone() -> None:
    assert one_line(b'{"a":\r\n[1.0, "x\\ny"]}') == b'{"a":[1.0,"x\\ny"]}'


SENT: list[errors.SessionManagerError] = [
    errors.Malformed("bad", [errors.FieldError("/a", "b")]), errors.Unauthenticated(), errors.Forbidden("no"),
    errors.NotFound(), errors.MethodNotAllowed(["GET"]), errors.AlreadyExists(),
    errors.IllegalTransition("ended", ["x"]), errors.NotResumable("expired"), errors.LegalHold(), errors.Erased(),
    errors.MinVersionAhead(4), errors.UnsupportedMediaType(), errors.TooLarge(5), errors.KeyReused(),
    errors.Invalid([errors.FieldError("/a", "b"), errors.FieldError("", "c")]), errors.VersionConflict(9),
    errors.PreconditionRequired(), errors.RateLimited(), errors.InProgress(), errors.Contended(),
    errors.TierUnavailable("cold", retry_after_seconds=3.0), errors.Draining(), errors.OutcomeUnknown(),
    errors.UpstreamFailed(), errors.Full("64"), errors.FloorLost(4), errors.FloorTaken("par_1", 3, 12.0),
    errors.QuotaExceeded("sessions", 5), errors.JoinTimeout("a", ["asr", "tts"]), errors.DataCorrupt(),
]  # fmt: skip


@pytest.mark.parametrize("error", SENT, ids=lambda error: error.type)
def test_an_error_comes_back_as_the_class_that_was_raised_with_its_members(error: errors.SessionManagerError) -> None:
    reply = served.render(error, path="/sessions/a", request_id="r-1")
    headers = {name.decode().lower(): value.decode() for name, value in reply.raw_headers}
    came = error_of(served.status_of(error), headers, reply.body)
    assert type(came) is type(error)
    assert came.members() == error.members()
    assert came.remedy == error.remedy
    assert came.retry_after_seconds == error.retry_after_seconds
    assert came.__notes__ == ["request_id r-1"]


def test_every_error_that_the_service_can_send_is_known() -> None:
    types = {one.type for one in served.STATUSES if issubclass(one, errors.SessionManagerError)}
    assert types <= set(problems._BUILD)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b"<html>", errors.NotFound), (502, b"", Unreachable), (503, b"busy", Unreachable), (504, b"", TimedOut),
        (418, b"", NotOurs), (500, b"{", NotOurs), (429, b"[]", errors.RateLimited), (401, b"", errors.Unauthenticated),
        (409, b'{"type": "of-tomorrow", "detail": "new"}', errors.SessionManagerError),
        (409, b'{"type": "illegal-transition", "allowed": 5}', errors.IllegalTransition),
        (422, b'{"type": "invalid", "errors": [3, {"pointer": 1}], "detail": null}', errors.Invalid),
        (412, b'{"type": "version-conflict", "version": "x"}', errors.VersionConflict),
        (500, b'{"type": ["data-corrupt"]}', errors.SessionManagerError),
        (400, b"\xff\xfe", NotOurs),
    ],
)  # fmt: skip
def test_whatever_answers_the_nearest_error_is_found(status: int, body: bytes, expected: type[Exception]) -> None:
    kind = "application/problem+json; charset=utf-8" if body[:1] in (b"{", b"\xff") else "text/html"
    error = error_of(status, {"content-type": kind, "retry-after": "soon"}, body)
    assert type(error) is expected


def failing(error: Exception) -> Handler:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    return handler


async def test_what_never_left_is_unreachable_for_reads_and_writes_alike() -> None:
    async with client_of(failing(httpx2.ConnectError("http://u:hunter2@service refused"))) as client:
        for call in (client.get("a"), client.suspend("a")):
            with pytest.raises(Unreachable) as caught:
                await call
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("error", [httpx2.ReadError("x"), httpx2.ReadTimeout("x"), httpx2.RemoteProtocolError("x")])
async def test_a_write_without_an_answer_is_an_unknown_outcome_with_its_key(error: Exception) -> None:
    async with client_of(failing(error)) as client:
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.suspend("a", key="k-7")
        assert caught.value.__notes__ == ["idempotency key k-7"]
        with pytest.raises((Unreachable, TimedOut)):
            await client.get("a")


async def test_every_call_has_a_deadline() -> None:
    class Never(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with PlainClient("http://service", "t", deadline_seconds=0.01, transport=Never()) as client:
        async with asyncio.timeout(2):
            with pytest.raises(TimedOut):
                await client.get("a")
            with pytest.raises(errors.OutcomeUnknown):
                await client.suspend("a")


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionmanager.client.client.ANSWER_BYTES_MAX", 1000)
    _, handler = answering(b"x" * 2000)
    async with client_of(handler) as client:
        with pytest.raises(NotOurs):
            await client.get("a")


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff"])
async def test_an_answer_that_is_not_ours_is_told_so(body: bytes) -> None:
    _, handler = answering(body)
    async with client_of(handler) as client:
        with pytest.raises(NotOurs):
            await client.get("a")
        with pytest.raises(NotOurs):
            await client.entries("a")


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    async with client_of(lambda _: httpx2.Response(307, headers={"location": "http://elsewhere/"})) as client:
        with pytest.raises(NotOurs):
            await client.get("a")


async def test_the_token_may_be_asked_for_at_each_call() -> None:
    seen, handler = answering({})
    tokens = iter(("one", "two"))
    async with PlainClient("http://s", lambda: next(tokens), transport=httpx2.MockTransport(handler)) as client:
        await client.get("a")
        await client.get("a")
    assert [request.headers["authorization"] for request in seen] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("url", ["", "service", "ftp://service", "http://", "http://u:p@service", "http://s?x=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        PlainClient(url, "t")


async def test_a_body_that_cannot_be_json_is_refused_before_it_is_sent() -> None:
    seen, handler = answering({})
    async with client_of(handler) as client:
        for value in (float("nan"), "\ud800", object()):
            with pytest.raises((ValueError, TypeError)):
                await client.create({"context": value})
    assert seen == []
