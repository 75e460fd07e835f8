"""The contract: made from the table, valid, the same each time, and readable without an outside asset."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from sessionmanager.api.contract.document import build_document, encode_document, errors_of
from sessionmanager.api.contract.routes import Contract
from sessionmanager.api.dispatch import Dispatch, application
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.reply import Reply
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.api.strictjson import reader_of
from sessionmanager.errors import KeyReused
from sessionmanager.wire import queries
from tests.support.table import unbound_table

pytestmark = pytest.mark.unit


async def nothing(exchange: Exchange) -> Reply:
    return Reply(204)


TABLE: Final = unbound_table()


def every(node: Any, name: str) -> Iterator[Any]:
    """Every value of this member, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from every(value, name)
    elif isinstance(node, list):
        for item in node:
            yield from every(item, name)


@pytest.fixture
def document() -> dict[str, Any]:
    return build_document(TABLE, "1.2.3")


def test_the_document_is_valid_openapi_31(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"


def test_the_same_table_gives_the_same_bytes() -> None:
    assert encode_document(build_document(TABLE, "1")) == encode_document(build_document(TABLE, "1"))


def test_every_route_of_the_table_is_in_the_document_and_nothing_else(document: dict[str, Any]) -> None:
    documented = {(m.upper(), path) for path, operations in document["paths"].items() for m in operations}
    assert documented == {(route.method, route.template) for route in TABLE}
    ids = list(every(document["paths"], "operationId"))
    assert len(ids) == len(set(ids)) == len(TABLE)


def test_every_schema_is_a_schema_and_no_reference_dangles(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in every(document, "$ref"):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_patterns_are_those_of_any_dialect(document: dict[str, Any]) -> None:
    patterns = list(every(document, "pattern"))
    assert patterns
    assert not [p for p in patterns if isinstance(p, str) and "(?!\\n)" in p]


def test_every_route_names_the_problems_it_may_answer(document: dict[str, Any]) -> None:
    for route in TABLE:
        operation = document["paths"][route.template][route.method.lower()]
        told = {name for one in every(operation["responses"], "enum") for name in one}
        shown = {str(s.status) for s in route.answers}
        assert {error.type for error in errors_of(route) if error.retry_after_seconds is None} <= told
        assert "500" in operation["responses"]
        if not route.open:
            assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
            assert "Retry-After" in operation["responses"]["503"]["headers"]
        assert shown <= operation["responses"].keys()


def test_a_keyed_write_may_answer_that_the_key_was_reused() -> None:
    keyed = next(r for r in TABLE if "Idempotency-Key" in r.headers)
    assert KeyReused in errors_of(keyed)


def test_parameters_are_those_that_the_router_and_the_reader_know(document: dict[str, Any]) -> None:
    listed = document["paths"]["/sessions"]["get"]
    names = {p["name"] for p in listed["parameters"] if p["in"] == "query"}
    assert names == {f for f in queries.ListSessions.__struct_fields__ if f != "metadata"}
    assert "metadata.<key>" in listed["description"]
    status = next(p for p in listed["parameters"] if p["name"] == "status")
    assert None not in status["schema"]["enum"]
    assert status["required"] is False
    headers = {p["name"] for p in document["paths"]["/sessions/{id}"]["get"]["parameters"] if p["in"] == "header"}
    assert headers == {"If-None-Match", "Min-Version"}


def test_open_routes_need_no_token_and_all_others_do(document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "security" not in document["paths"]["/sessions"]["get"]


def test_each_media_type_has_the_schema_of_its_own_type(document: dict[str, Any]) -> None:
    content = document["paths"]["/sessions/{id}"]["patch"]["requestBody"]["content"]
    assert content["application/merge-patch+json"]["schema"]["$ref"].endswith("/MergePatch")
    assert content["application/json-patch+json"]["schema"]["type"] == "array"
    assert document["paths"]["/sessions/{id}/end"]["post"]["requestBody"]["required"] is False


def test_every_example_of_a_body_is_taken_by_its_route_and_shown_by_the_reader() -> None:
    shown, page = 0, a_client().get("/docs").text
    for route in TABLE:
        bodies = dict(route.bodies)
        for media, examples in route.request_examples.items():
            for value in examples.values():
                reader_of(bodies[media]).read(msgspec.json.encode(value))
                assert html.escape(json.dumps(value, ensure_ascii=False)) in page, route.name
                shown += 1
    assert shown >= 10


def a_client() -> TestClient:
    async def anybody(exchange: Exchange) -> None:
        return None

    contract = Contract("1.2.3")
    table = RouteTable((*contract.routes, *TABLE))
    contract.describe(table.routes)
    return TestClient(application(Dispatch(table, authorize=anybody)))


def test_the_contract_is_served_and_describes_itself() -> None:
    client = a_client()
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert "/openapi.json" in msgspec.json.decode(answer.content)["paths"]
    again = client.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_contract_is_made_when_it_is_first_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def build(routes: Any, version: str) -> dict[str, Any]:
        made.append(len(routes))
        return build_document(routes, version)

    monkeypatch.setattr("sessionmanager.api.contract.routes.build_document", build)
    client = a_client()
    assert made == []
    pages = [client.get(path).content for path in ("/docs", "/openapi.json", "/docs")]
    assert pages[0] == pages[2]
    assert made == [len(TABLE) + 3]


def test_the_reader_needs_nothing_from_outside_and_allows_no_script() -> None:
    client = a_client()
    page = client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in page.text
    assert " style=" not in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert [link for link in links if not link.startswith("#")] == ["/docs/style.css", "/openapi.json"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(re.findall(r' id="([^"]+)"', page.text))
    assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")
    for route in TABLE:
        assert route.template in page.text


def test_the_reader_escapes_what_the_document_says() -> None:
    hostile = Route(
        method="GET",
        template="/x",
        action="x",
        handler=nothing,
        summary="<script>alert(1)</script>",
        answers=(Shown(204, "None"),),
    )
    contract = Contract("1")
    contract.describe([hostile])
    page = TestClient(application(Dispatch(RouteTable([*contract.routes, hostile]), authorize=_anybody))).get("/docs")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


async def _anybody(exchange: Exchange) -> None:
    return None
