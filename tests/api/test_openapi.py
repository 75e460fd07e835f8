"""The contract: made from the table, valid, the same each time, and readable without an outside asset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from sessionmanager.api.contract import Contract
from sessionmanager.api.dispatch import Dispatch, application
from sessionmanager.api.exchange import Exchange
from sessionmanager.api.openapi import build_document, encode_document, errors_of
from sessionmanager.api.reply import Reply
from sessionmanager.api.routing import Route, RouteTable, Shown
from sessionmanager.errors import AlreadyExists, Erased, KeyReused, VersionConflict
from sessionmanager.wire import answers, queries, requests

pytestmark = pytest.mark.unit


async def nothing(exchange: Exchange) -> Reply:
    return Reply(204)


def a_table() -> tuple[Route, ...]:
    """A route of every shape, over every type of body."""
    created = Shown(201, "Made", answers.Session, headers=("ETag", "Location"))
    receipt = Shown(200, "Done", answers.Receipt, headers=("ETag", "Idempotency-Replayed"))
    write: dict[str, Any] = {"headers": ("Idempotency-Key",), "errors": (Erased,)}
    return (
        Route(
            method="POST",
            template="/sessions",
            action="session.create",
            handler=nothing,
            summary="Create",
            answers=(created,),
            request=requests.NewSession,
            headers=("Idempotency-Key",),
            errors=(AlreadyExists,),
            request_examples={"small": {"id": "call-4711"}},
        ),
        Route(
            method="GET",
            template="/sessions",
            action="session.list",
            handler=nothing,
            summary="List",
            answers=(Shown(200, "A page", answers.SessionPage),),
            query=queries.ListSessions,
        ),
        Route(
            method="GET",
            template="/sessions/{id}",
            action="session.read",
            handler=nothing,
            summary="Read",
            answers=(Shown(200, "It", answers.Session, headers=("ETag", "Session-Tier")), Shown(304, "Unchanged")),
            query=queries.GetSession,
            headers=("If-None-Match", "Min-Version"),
            errors=(Erased,),
        ),
        Route(
            method="PATCH",
            template="/sessions/{id}",
            action="session.patch",
            handler=nothing,
            summary="Change",
            answers=(receipt,),
            request=(requests.MergePatch, requests.JsonPatch),
            headers=("If-Match",),
            request_media=("application/merge-patch+json", "application/json-patch+json"),
            errors=(VersionConflict,),
        ),
        Route(
            method="POST",
            template="/sessions/{id}/entries",
            action="entry.append",
            handler=nothing,
            summary="Append",
            answers=(receipt,),
            request=requests.AppendBody,
            **write,
        ),
        Route(
            method="GET",
            template="/sessions/{id}/entries",
            action="entry.read",
            handler=nothing,
            summary="Entries",
            answers=(Shown(200, "A page", answers.EntryPage),),
            query=queries.ListEntries,
        ),
        Route(
            method="POST",
            template="/sessions/{id}/resume",
            action="session.resume",
            handler=nothing,
            summary="Resume",
            answers=(Shown(200, "All of it", answers.ResumeAnswer),),
            request=requests.ResumeBody,
            body_required=False,
            **write,
        ),
        Route(
            method="POST",
            template="/sessions/{id}/end",
            action="session.end",
            handler=nothing,
            summary="End",
            answers=(receipt,),
            request=requests.EndBody,
            body_required=False,
            **write,
        ),
        Route(
            method="PUT",
            template="/sessions/{id}/attachments/{name}",
            action="attachment.put",
            handler=nothing,
            summary="Keep bytes",
            answers=(Shown(201, "Kept", answers.Attachment),),
            request=bytes,
            request_media=("*/*",),
            body_bytes_max=16 * 2**20,
        ),
        Route(
            method="GET",
            template="/audit",
            action="audit.read",
            handler=nothing,
            summary="Audit",
            answers=(Shown(200, "A page", answers.AuditPage),),
            query=queries.ListAudit,
            tag="service",
        ),
        Route(
            method="PUT",
            template="/tenants/{tenant}/settings",
            action="settings.put",
            handler=nothing,
            summary="Set",
            answers=(Shown(200, "Set", requests.TenantSettings),),
            request=requests.TenantSettings,
            tag="service",
        ),
        Route(
            method="POST",
            template="/tokens",
            action="token.mint",
            handler=nothing,
            summary="Mint",
            answers=(Shown(201, "Minted", answers.TokenAnswer),),
            request=requests.TokenBody,
            tag="service",
        ),
        Route(
            method="GET",
            template="/health",
            action="health.read",
            handler=nothing,
            summary="Health",
            open=True,
            answers=(Shown(200, "Up", answers.Health), Shown(503, "Down", answers.Health)),
            tag="service",
        ),
    )


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
    return build_document(a_table(), "1.2.3")


def test_the_document_is_valid_openapi_31(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"


def test_the_same_table_gives_the_same_bytes() -> None:
    assert encode_document(build_document(a_table(), "1")) == encode_document(build_document(a_table(), "1"))


def test_every_route_of_the_table_is_in_the_document_and_nothing_else(document: dict[str, Any]) -> None:
    documented = {(m.upper(), path) for path, operations in document["paths"].items() for m in operations}
    assert documented == {(route.method, route.template) for route in a_table()}
    ids = list(every(document["paths"], "operationId"))
    assert len(ids) == len(set(ids)) == len(a_table())


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
    for route in a_table():
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
    keyed = next(r for r in a_table() if "Idempotency-Key" in r.headers)
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


def a_client() -> TestClient:
    async def anybody(exchange: Exchange) -> None:
        return None

    contract = Contract("1.2.3")
    table = RouteTable((*contract.routes, *a_table()))
    contract.describe(table.routes)
    return TestClient(application(Dispatch(table, authorize=anybody)))


def test_the_contract_is_served_and_describes_itself() -> None:
    client = a_client()
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert "/openapi.json" in msgspec.json.decode(answer.content)["paths"]
    again = client.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


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
    for route in a_table():
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
