"""Every route of the service is a method of the client, typed as the route's answer, and sends what the route reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, get_type_hints
from urllib.parse import unquote

import httpx2
import msgspec
import pytest

from sessionmanager.api.routing import Route
from sessionmanager.client import AsyncClient, bodies
from sessionmanager.client.calls import telephony
from sessionmanager.errors import Forbidden
from sessionmanager.fields import SettableFields
from sessionmanager.wire import queries, requests
from sessionmanager.wire.answers import Participant
from sessionmanager.wire.calls import CallAbout, CallAnywhere, CallBody, CallPage, CallPatch, ListCalls
from sessionmanager.wire.entries import EntryDraft
from sessionmanager.wire.participants import ParticipantPage
from sessionmanager.wire.services import ApiKey, ApiKeyPage
from tests.client.scripted import client_of, refusal
from tests.support.table import unbound_table

pytestmark = pytest.mark.unit

FOR_OTHERS: Final = {"POST /livekit/webhook"}
"""Called by systems that sign what they send, never by a client."""
TABLE: Final[Mapping[str, Route]] = {route.name: route for route in unbound_table() if route.name not in FOR_OTHERS}
METHODS: Final[Mapping[str, str]] = {
    route: name
    for name, method in inspect.getmembers(AsyncClient, inspect.isfunction)
    if (route := getattr(method, "serves", None))
}
ARGUMENTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "PATCH /sessions/{id}": ("a/b", {"labels": []}),
    "POST /sessions/{id}/entries": ("a/b", [{"type": "message"}]),
    "PUT /sessions/{id}/attachments/{name}": ("a/b", "n/m", b"x"),
    "POST /sessions/{id}/signals": ("a/b", "typing"),
    "PUT /sessions/{id}/participants/{pid}/checkpoint": ("a/b", "a/b", b"x"),
    "POST /services": ("a", "https://a"),
    "POST /api-keys": ("a", ["viewer"]),
    "POST /webhooks": ("https://a",),
    "POST /api/v1/microservices/register": ("a", "https://a"),
    "POST /tokens": ("bob", ["viewer"]),
    "DELETE /tokens": ("bob",),
    "POST /calls": ("sip",),
    "POST /sessions/{id}/calls": ("a/b", "sip"),
    "PUT /tenants/{tenant}/settings": ("a/b", requests.TenantSettings()),
}
NAMED: Final[Mapping[str, Mapping[str, Any]]] = {
    "PATCH /sessions/{id}": {"version": 3},
    "POST /sessions/{id}/participants": {"kind": "agent", "identity": "bot"},
    "PUT /sessions/{id}/participants/{pid}/checkpoint": {"holder": "process-1"},
    "POST /sessions/{id}/participants/{pid}/checkpoint/take": {"holder": "process-1"},
}
RETURNS_PART: Final = {
    "GET /sessions/{id}/participants": (ParticipantPage, tuple[Participant, ...]),
    "GET /api-keys": (ApiKeyPage, tuple[ApiKey, ...]),
    "GET /sessions/{id}/calls": (CallPage, tuple[CallAbout, ...]),
}


def test_every_route_has_its_method_and_no_method_a_route_that_is_not_there() -> None:
    assert METHODS.keys() == TABLE.keys()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_answers_the_type_that_its_route_answers(name: str) -> None:
    method = getattr(AsyncClient, METHODS[name])
    first = TABLE[name].answers[0]
    if first.body is bytes or first.media == "text/event-stream" or first.status == 101:
        return
    returned = get_type_hints(method)["return"]
    if name in RETURNS_PART:
        assert RETURNS_PART[name] == (first.body, returned)
    else:
        assert returned == (first.body or type(None))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"GET /sessions/{id}/ws"}))
async def test_a_method_asks_its_route_and_every_write_has_an_idempotency_key(name: str) -> None:
    route, seen = TABLE[name], list[httpx2.Request]()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return refusal(Forbidden())

    async with client_of(httpx2.MockTransport(handle)) as client:
        arguments = ARGUMENTS.get(name, tuple("a/b" for _ in route.parameters))
        called = getattr(client, METHODS[name])(*arguments, **NAMED.get(name, {}))
        with pytest.raises(Forbidden):
            await (anext(called) if hasattr(called, "__anext__") else called)
    request = seen[0]
    assert request.method == route.method
    got = request.url.raw_path.decode().partition("?")[0].removeprefix("/prefix")
    assert _matches(route, got)
    assert ("idempotency-key" in request.headers) == (route.method != "GET")
    assert request.headers["authorization"] == "Bearer t0ken"
    assert bool(request.content) == (route.request is not None)


def _matches(route: Route, path: str) -> bool:
    """Each parameter is one quoted segment, in its place."""
    parts, given = route.template.split("/"), path.split("/")
    return len(parts) == len(given) and all(
        "/" in unquote(got) if part.startswith("{") else part == got for part, got in zip(parts, given, strict=True)
    )


@pytest.mark.parametrize(
    ("taken", "struct", "apart"),
    [
        (bodies.Entry, EntryDraft, set()),
        (bodies.Fields, SettableFields, set()),
        (bodies.NewSession, requests.NewSession, set()),
        (bodies.SessionFilters, queries.ListSessions, {"limit", "cursor", "metadata"}),
        (bodies.AuditFilters, queries.ListAudit, {"limit", "cursor"}),
        (bodies.ResumeOptions, requests.ResumeBody, {"for"}),
        (telephony.NewCall, CallBody, {"gateway"}),
        (telephony.NewCall, CallAnywhere, {"gateway", "session", "session_id"}),
        (telephony.CallReport, CallPatch, set()),
        (telephony.CallFilters, ListCalls, {"limit", "cursor", "sort", "format"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_callers_hand_in_has_the_members_that_the_service_takes(taken: Any, struct: Any, apart: set[str]) -> None:
    members = {field.encode_name for field in msgspec.structs.fields(struct)}
    assert set(taken.__annotations__) | set(getattr(taken, "__optional_keys__", ())) == members - apart


@pytest.mark.parametrize("name", sorted(name for name in METHODS if TABLE[name].query is not queries.NoQuery))
def test_a_method_takes_every_query_parameter_of_its_route(name: str) -> None:
    parameters = inspect.signature(getattr(AsyncClient, METHODS[name])).parameters
    taken = {parameter.rstrip("_") for parameter in parameters}
    if "filters" in taken:
        filters = {"GET /audit": bodies.AuditFilters, "GET /calls": telephony.CallFilters}
        taken |= set(filters.get(name, bodies.SessionFilters).__optional_keys__)
    if name == "GET /calls":  # records for billing are bytes, and have a method of their own
        taken |= set(inspect.signature(AsyncClient.export_calls).parameters)
    wanted = {field.encode_name for field in msgspec.structs.fields(TABLE[name].query)}
    assert wanted <= taken


@pytest.mark.parametrize("name", sorted(name for name in METHODS if "Min-Version" in TABLE[name].headers))
def test_a_read_that_takes_min_version_offers_it(name: str) -> None:
    assert "min_version" in inspect.signature(getattr(AsyncClient, METHODS[name])).parameters
