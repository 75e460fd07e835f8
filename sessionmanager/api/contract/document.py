"""The OpenAPI 3.1 document, made from the route table and from the types that validate: it cannot say anything else.

Deterministic: the same table gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from sessionmanager import errors as e
from sessionmanager.api.problems import INTERNAL_STATUS, status_of
from sessionmanager.api.routing import PARAMETERS, TEXT_CHARS, Route, Shown
from sessionmanager.api.schemas import REF, components, portable, schema_of
from sessionmanager.wire.answers import Problem
from sessionmanager.words import INTEGER_MAX

DESCRIPTION: Final = (
    "A service that owns conversations: every turn durable, every session resumable. Errors are problem documents "
    "(RFC 9457) whose `type` is stable and whose `remedy` says what to do."
)
_TAG: Final = r'^(\*|(W/)?"[^"]*"(, *(W/)?"[^"]*")*)$'
REQUEST_HEADERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "If-Match": (
        'The version that is changed, `"v7"`, or `*` for the newest.',
        {"type": "string", "pattern": _TAG, "examples": ['"v7"']},
    ),
    "If-None-Match": (
        "Answers 304 if the session is still at this version.",
        {"type": "string", "pattern": _TAG, "examples": ['"v7"']},
    ),
    "Min-Version": (
        "Never answers an older version; 412 if there is none so new.",
        {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX},
    ),
    "Idempotency-Key": (
        "Makes a repeat harmless: it gets the first answer. Kept for at least 24 hours, by tenant and subject.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]+$", "examples": ["4e7f-1"]},
    ),
    "Range": ("Part of the bytes (RFC 9110 section 14).", {"type": "string", "pattern": "^bytes=[0-9, -]+$"}),
    "Last-Event-ID": ("Go on after this event.", {"type": "string", "maxLength": 255}),
}
"""Every request header that a route may name in `headers`: what it does, and its schema."""

ANSWER_HEADERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "ETag": ('`"v<version>"`: covers the state of the session, not its placement.', {"type": "string"}),
    "Location": ("Where the new thing is.", {"type": "string", "format": "uri-reference"}),
    "Session-Tier": ("The tier that answered.", {"type": "string", "enum": ["hot", "warm", "cold"]}),
    "Server-Timing": ("How long each tier took, in milliseconds.", {"type": "string"}),
    "Age": ("Seconds since warm confirmed this copy; only with `stale: true`.", {"type": "integer", "minimum": 0}),
    "Idempotency-Replayed": ("`true`: the answer of an earlier request.", {"type": "string", "enum": ["true"]}),
    "Content-Disposition": ("`attachment`: never shown in place.", {"type": "string"}),
    "Next-Cursor": ("From where to go on, now or later.", {"type": "string"}),
    "Complete-Until": ("Whatever was recorded before is told.", {"type": "string", "format": "date-time"}),
    "Link": ('`rel="next"`: the next page, where there is one by now (RFC 8288).', {"type": "string"}),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("How to authenticate.", {"type": "string"}),
}
"""Every header that a route may name in an answer."""

_WAITING: Final = (429, 503)


def build_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document. Raises KeyError for a header that is in neither table above."""
    table = tuple(routes)
    bodies = _types(table)
    schemas, named = components([Problem, *bodies])
    known = dict(zip(map(_name, [Problem, *bodies]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, known)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "sessionmanager", "version": version, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in table)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(named.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }
    result: dict[str, Any] = portable(document)
    return result


def encode_document(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def _types(table: tuple[Route, ...]) -> list[Any]:
    """Every type of a body, once."""
    found: dict[str, Any] = {}
    for route in table:
        for one in (*(body for _, body in route.bodies), *(shown.body for shown in route.answers)):
            if one is not None and one is not bytes:
                found.setdefault(_name(one), one)
    return list(found.values())


def _name(body_type: Any) -> str:
    return getattr(body_type, "__qualname__", "") or repr(body_type)


def _operation(route: Route, known: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "x-action": route.action,
    }
    description = " ".join(filter(None, (route.description, *_groups(route))))
    if description:
        operation["description"] = description
    parameters = [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        operation["requestBody"] = _request_body(route, known)
    answers = {str(shown.status): _answer(shown, known) for shown in route.answers}
    operation["responses"] = {**answers, **_problems(route, frozenset(answers))}
    if route.open:
        operation["security"] = []
    return operation


def operation_id(route: Route) -> str:
    """A name for generated clients, such as `post_sessions_id_entries`."""
    words = [part.strip("{}").replace(".", "_").replace("-", "_") for part in route.template.split("/") if part]
    return "_".join([route.method.lower(), *words])


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "pattern": f"^{PARAMETERS.get(name, TEXT_CHARS)}$"},
        }
        for name in route.parameters
    ]


def _groups(route: Route) -> list[str]:
    return [
        f"Also `{name}.<key>=<value>`, for any number of keys."
        for name, field in _query_fields(route).items()
        if field.get("type") == "object"
    ]


def _query_fields(route: Route) -> dict[str, Any]:
    fields: dict[str, Any] = schema_of(route.query)["$defs"][route.query.__name__]["properties"]
    return fields


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    """One parameter a field, but for groups, which OpenAPI cannot say: the description tells of them."""
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(field)}
        for name, field in _query_fields(route).items()
        if field.get("type") != "object"
    ]


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is left out rather than null."""
    kept = {k: v for k, v in schema.items() if not (k == "default" and v is None)}
    branches: list[dict[str, Any]] = [b for b in kept.pop("anyOf", []) if b.get("type") != "null"]
    if "enum" in kept:
        kept["enum"] = [v for v in kept["enum"] if v is not None]
    return {**kept, **branches[0]} if branches else kept


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name in route.headers:
        description, schema = REQUEST_HEADERS[name]
        parameters.append({"name": name, "in": "header", "description": description, "schema": schema})
    return parameters


def _request_body(route: Route, known: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media, one in route.bodies:
        content[media] = {"schema": {} if one is bytes else known[_name(one)]}
        if media in route.request_examples:
            examples = route.request_examples[media]
            content[media]["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"required": route.body_required, "content": content}


def _answer(shown: Shown, known: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": shown.description}
    if shown.headers:
        answer["headers"] = {name: _header(name) for name in shown.headers}
    if shown.body is not None:
        answer["content"] = {shown.media: {"schema": {} if shown.body is bytes else known[_name(shown.body)]}}
        answer["content"] |= {media: {"schema": {}} for media in shown.also}
    return answer


def _header(name: str) -> dict[str, Any]:
    description, schema = ANSWER_HEADERS[name]
    return {"description": description, "schema": schema}


def errors_of(route: Route) -> tuple[type[e.SessionManagerError], ...]:
    """Every error that a route may answer: its own, and those that its shape brings with it."""
    found: list[type[e.SessionManagerError]] = [e.Malformed, e.RateLimited]
    if not route.open:
        found += [e.Unauthenticated, e.Forbidden, e.TierUnavailable, e.Draining, e.Overloaded]
    if route.parameters:
        found.append(e.NotFound)
    if route.request is not None:
        found += [e.TooLarge, e.UnsupportedMediaType, e.Invalid]
    if route.method != "GET" and not route.open:
        found += [e.OutcomeUnknown, e.Contended]
    if "Idempotency-Key" in route.headers:
        found.append(e.KeyReused)
    if "Min-Version" in route.headers:
        found.append(e.MinVersionAhead)
    return tuple(dict.fromkeys([*found, *route.errors]))


def _problems(route: Route, taken: frozenset[str]) -> dict[str, Any]:
    """One answer a status that is not an answer of its own, naming the problems that share it."""
    by_status: dict[int, list[type[e.SessionManagerError]]] = {INTERNAL_STATUS: [e.SessionManagerError]}
    for error in errors_of(route):
        by_status.setdefault(status_of(error), []).append(error)
    answers: dict[str, Any] = {}
    for status, errors in sorted(by_status.items()):
        names = list(dict.fromkeys(error.type for error in errors))
        schema = {"allOf": [{"$ref": REF + Problem.__name__}, {"properties": {"type": {"enum": names}}}]}
        answer: dict[str, Any] = {
            "description": "; ".join(dict.fromkeys(error.title for error in errors)),
            "content": {"application/problem+json": {"schema": schema}},
        }
        if status in _WAITING:
            answer["headers"] = {"Retry-After": _header("Retry-After")}
        if status == 401:
            answer["headers"] = {"WWW-Authenticate": _header("WWW-Authenticate")}
        if str(status) not in taken:
            answers[str(status)] = answer
    return answers
