"""The route table and its dispatch: each path leads to one route or nowhere, and every outcome is an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from sessionmanager.api.dispatch import Dispatch, application, request_ids
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Answer, Reply, json_reply
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.errors import Forbidden, Malformed, MethodNotAllowed, NotFound
from sessionmanager.wire.queries import GetSession
from sessionmanager.wire.requests import AppendBody, EndBody

pytestmark = pytest.mark.unit

SECRET = "a-secret-that-was-said"


async def told(exchange: Exchange) -> Answer:
    assert exchange.route is not None
    return json_reply(200, msgspec.json.encode({"route": exchange.route.name, "params": exchange.params}))


def a_route(method: str, template: str, handler: Any = told, **more: Any) -> Route:
    return Route(
        method=method, template=template, action="a", handler=handler, summary="s", answers=(Shown(200, "d"),), **more
    )


TABLE = RouteTable(
    [
        a_route("GET", "/sessions"),
        a_route("POST", "/sessions"),
        a_route("GET", "/sessions/{id}"),
        a_route("DELETE", "/sessions/{id}"),
        a_route("GET", "/sessions/{id}/entries"),
        a_route("GET", "/sessions/{id}/entries/{seq}"),
        a_route("GET", "/sessions/{id}/attachments/{name}"),
        a_route("GET", "/sessions/stats"),
        a_route("GET", "/sessions/stats/days"),
        a_route("GET", "/health"),
    ]
)


def found(method: str, path: str, raw: bytes | None = None) -> tuple[str, dict[str, str]]:
    route, params = TABLE.find(method, path, raw if raw is not None else path.encode())
    return route.template, params


def test_a_path_leads_to_its_route_with_decoded_parameters() -> None:
    assert found("GET", "/sessions") == ("/sessions", {})
    assert found("GET", "/sessions/call-4711") == ("/sessions/{id}", {"id": "call-4711"})
    assert found("GET", "/sessions/a/entries/7") == ("/sessions/{id}/entries/{seq}", {"id": "a", "seq": "7"})
    assert found("GET", "/sessions/+1202", b"/sessions/%2B1202") == ("/sessions/{id}", {"id": "+1202"})
    assert found("GET", "/sessions/+1202") == ("/sessions/{id}", {"id": "+1202"})
    assert found("GET", "/sessions/a", b"/%73essions/%61") == ("/sessions/{id}", {"id": "a"})


def test_a_literal_wins_over_a_parameter_and_falls_back_to_it() -> None:
    assert found("GET", "/sessions/stats")[0] == "/sessions/stats"
    assert found("GET", "/sessions/stats/days")[0] == "/sessions/stats/days"
    assert found("GET", "/sessions/stats/entries") == ("/sessions/{id}/entries", {"id": "stats"})


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/", None),
        ("", None),
        ("*", None),
        ("sessions", None),
        ("/nothing", None),
        ("/Sessions", None),
        ("/sessions/", None),
        ("//sessions", None),
        ("/sessions//entries", None),
        ("/sessions/a/", None),
        ("/sessions/..", None),
        ("/sessions/.", None),
        ("/sessions/../health", None),
        ("/sessions/./a", None),
        ("/sessions/..", b"/sessions/%2e%2e"),
        ("/sessions/../health", b"/sessions/%2E%2E/health"),
        ("/sessions/a/entries", b"/sessions/a%2fentries"),
        ("/sessions/a/b", b"/sessions/a%2Fb"),
        ("/sessions/a\\b", b"/sessions/a%5cb"),
        ("/sessions/a\x00", b"/sessions/a%00"),
        ("/sessions/a\n", b"/sessions/a%0a"),
        ("/sessions/\ufffd", b"/sessions/%ff"),
        ("/sessions/" + "a" * 5000, None),
        ("/sessions/a/entries/7/x", None),
        ("/health/x", None),
    ],
)
def test_paths_with_empty_dotted_or_hidden_segments_lead_nowhere(path: str, raw: bytes | None) -> None:
    with pytest.raises(NotFound):
        TABLE.find("GET", path, path.encode("utf-8", "replace") if raw is None else raw)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/sessions/$where", "path/id"),
        ("/sessions/a b", "path/id"),
        ("/sessions/" + "a" * 129, "path/id"),
        ("/sessions/a/entries/0", "path/seq"),
        ("/sessions/a/entries/-1", "path/seq"),
        ("/sessions/a/entries/x", "path/seq"),
        ("/sessions/a/entries/99999999999999999", "path/seq"),
        ("/sessions/a/attachments/.hidden", "path/name"),
    ],
)
def test_a_parameter_that_no_id_looks_like_is_refused_by_name(path: str, pointer: str) -> None:
    with pytest.raises(Malformed) as caught:
        TABLE.find("GET", path, path.replace(" ", "%20").encode())
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_a_method_that_a_path_lacks_is_refused_with_those_it_has() -> None:
    for method in ("PUT", "OPTIONS", "TRACE", "get"):
        with pytest.raises(MethodNotAllowed) as caught:
            TABLE.find(method, "/sessions/a")
        assert caught.value.allowed == ("DELETE", "GET", "HEAD")


def test_two_routes_of_one_name_are_refused_when_the_table_is_made() -> None:
    for second in ("/a/{id}", "/a/{other}"):
        with pytest.raises(ValueError, match="twice"):
            RouteTable([a_route("GET", "/a/{id}"), a_route("GET", second)])
    with pytest.raises(ValueError, match="template"):
        RouteTable([a_route("GET", "a")])


def a_client(*routes: Route, authorize: Any = None, observe: Any = None, **options: Any) -> TestClient:
    async def anybody(exchange: Exchange) -> None:
        exchange.actor = "somebody"

    dispatch = Dispatch(RouteTable(routes), authorize=authorize or anybody, observe=observe)
    return TestClient(application(dispatch, **options), raise_server_exceptions=False)


def test_errors_at_every_stage_are_problem_documents_with_the_request_id() -> None:
    async def refuses(exchange: Exchange) -> None:
        raise Forbidden

    client = a_client(a_route("GET", "/x"), authorize=refuses)
    for method, path, status in (("GET", "/x", 403), ("GET", "/y", 404), ("POST", "/x", 405), ("OPTIONS", "/x", 405)):
        answer = client.request(method, path, headers={"x-request-id": "mine-1"})
        assert answer.status_code == answer.json()["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post("/x").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\x1b[31m", "é"])
def test_a_request_id_that_could_do_harm_in_a_log_is_replaced(given: str) -> None:
    answer = a_client(a_route("GET", "/x")).get("/x", headers={b"x-request-id": given.encode("latin-1")})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) < 40


def test_request_ids_differ_also_between_processes() -> None:
    one, other = request_ids(), request_ids()
    assert len({one(), one(), other(), other()}) == 4


def test_a_fault_of_ours_answers_500_without_what_was_said() -> None:
    async def breaks(exchange: Exchange) -> Answer:
        raise RuntimeError(SECRET)

    with capture_logs() as lines:
        answer = a_client(a_route("GET", "/x", breaks)).get("/x")
    assert (answer.status_code, answer.json()["type"]) == (500, "internal")
    assert SECRET not in answer.text + repr(lines)
    assert [line["event"] for line in lines] == ["request_failed"]


def test_head_is_get_without_its_body() -> None:
    client = a_client(a_route("GET", "/x"))
    assert client.head("/x").content == b""
    assert client.head("/x").headers["content-length"] == client.get("/x").headers["content-length"]


def test_a_handler_may_answer_with_a_response_of_starlette() -> None:
    async def plain(exchange: Exchange) -> Answer:
        return JSONResponse({"path": exchange.path})

    async def streams(exchange: Exchange) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        return StreamingResponse(pieces())

    client = a_client(a_route("GET", "/plain", plain), a_route("GET", "/streams", streams))
    assert client.get("/plain").json() == {"path": "/plain"}
    assert client.get("/streams").text == "ab"
    assert client.get("/streams").headers["x-request-id"]


def test_an_answer_that_breaks_off_is_logged_and_closes_the_connection() -> None:
    async def breaks_off(exchange: Exchange) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            raise RuntimeError(SECRET)

        return StreamingResponse(pieces())

    dispatch = Dispatch(RouteTable([a_route("GET", "/x", breaks_off)]), authorize=_anybody)
    with capture_logs() as lines, pytest.raises(RuntimeError):
        TestClient(application(dispatch)).get("/x")
    assert [line["event"] for line in lines] == ["request_failed"]
    assert SECRET not in repr(lines)


async def _anybody(exchange: Exchange) -> None:
    return None


def test_bodies_are_read_as_the_type_of_their_route() -> None:
    async def counts(exchange: Exchange) -> Answer:
        body = await exchange.read(AppendBody)
        return json_reply(201, b"%d" % len(body.entries))

    client = a_client(a_route("POST", "/x", counts, request=AppendBody))
    good = {"entries": [{"type": "error", "content": 1}]}
    assert client.post("/x", json=good).json() == 1
    wrong = client.post("/x", json={"entries": [{"type": "error"}]})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/entries/0/content")
    assert client.post("/x", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/x", content=b"{}").status_code == 415
    assert client.post("/x").status_code == 415
    assert client.post("/x", content=b"", headers={"content-type": "application/json"}).status_code == 400
    huge = client.post("/x", content=b" " * (2**20 + 1), headers={"content-type": "application/json"})
    assert (huge.status_code, huge.json()["limit_bytes"]) == (413, 2**20)


def test_a_body_that_may_be_left_out_is_read_as_its_defaults() -> None:
    async def ends(exchange: Exchange) -> Answer:
        body = await exchange.read(EndBody)
        return json_reply(200, msgspec.json.encode(body))

    client = a_client(a_route("POST", "/x", ends, request=EndBody, body_required=False))
    assert client.post("/x").json() == {"reason": None}
    assert client.post("/x", json={"reason": "done"}).json() == {"reason": "done"}
    assert client.post("/x", content=b"{}").status_code == 415
    assert client.post("/x", json=[]).status_code == 422


def test_headers_and_query_are_read_when_they_are_asked_for() -> None:
    async def reads(exchange: Exchange) -> Answer:
        asked = exchange.query(GetSession)
        seen = [asked.entries, str(exchange.if_match()), str(exchange.if_none_match()), exchange.min_version()]
        return json_reply(200, msgspec.json.encode([*seen, exchange.idempotency_key(), exchange.actor]))

    client = a_client(a_route("GET", "/x", reads))
    answer = client.get("/x?entries=3", headers={"min-version": "7", "idempotency-key": "k", "if-match": "*"})
    assert answer.json() == [3, "*", "None", 7, "k", "somebody"]
    assert client.get("/x?zap=1").json()["errors"][0]["pointer"] == "query/zap"
    assert client.get("/x", headers={b"idempotency-key": b"\xff"}).status_code == 400


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "content-type", "min-version", "host"])
def test_a_header_that_must_not_come_twice_is_refused_by_name(name: str) -> None:
    answer = a_client(a_route("GET", "/x")).get("/x", headers=[(name, "a"), (name, "b")])
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].lower() == f"header/{name}"


def test_lists_of_tags_may_come_in_two_headers() -> None:
    async def reads(exchange: Exchange) -> Answer:
        return json_reply(200, msgspec.json.encode(sorted(exchange.if_none_match() or ())))

    headers = [("if-none-match", '"v1"'), ("if-none-match", '"v2"'), ("x-other", "a"), ("x-other", "b")]
    assert a_client(a_route("GET", "/x", reads)).get("/x", headers=headers).json() == [1, 2]


async def test_one_request_has_one_hash_and_reads_its_body_once() -> None:
    hashes: list[bytes] = []

    async def hashed(exchange: Exchange) -> Answer:
        hashes.append(await exchange.request_hash())
        assert await exchange.request_hash() == hashes[-1]
        return Reply(204)

    client = a_client(a_route("POST", "/x", hashed, request=EndBody))
    for body, query in ((b"{}", ""), (b"{}", ""), (b"{ }", ""), (b"{}", "?a=1")):
        client.post("/x" + query, content=body, headers={"content-type": "application/json"})
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_an_observer_learns_of_every_answer() -> None:
    seen: list[tuple[str, int]] = []
    client = a_client(a_route("GET", "/x"), observe=lambda exchange, status: seen.append((exchange.path, status)))
    client.get("/x")
    client.get("/y")
    assert seen == [("/x", 200), ("/y", 404)]


def test_the_application_is_a_starlette_one_with_its_lifespan() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("begin")
        yield
        events.append("end")

    dispatch = Dispatch(RouteTable([a_route("GET", "/x")]), authorize=_anybody)
    app = application(dispatch, lifespan=lifespan)
    assert isinstance(app, Starlette)
    with TestClient(app) as client:
        assert client.get("/x").status_code == 200
    assert events == ["begin", "end"]


def test_options_is_an_error_unless_cors_is_on() -> None:
    preflight = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    assert a_client(a_route("POST", "/x")).options("/x", headers=preflight).status_code == 405
    allowed = a_client(a_route("POST", "/x"), cors_origins=("*",)).options("/x", headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "*"


def test_a_transfer_coding_that_is_not_chunked_is_refused_before_anything_is_done() -> None:
    answer = a_client(a_route("DELETE", "/x")).delete("/x", headers={"transfer-encoding": "identity"})
    assert answer.json()["errors"][0]["pointer"] == "header/Transfer-Encoding"
