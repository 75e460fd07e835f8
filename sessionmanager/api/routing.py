"""The route table: one description of a route feeds the router, the OpenAPI document and the tests.

A path is split once and looked up segment by segment, in the same time however many routes there are; a literal segment
wins over a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import msgspec

from sessionmanager.api.exchange import Exchange
from sessionmanager.api.limits import JSON_MEDIA
from sessionmanager.api.reply import Answer
from sessionmanager.errors import FieldError, Malformed, MethodNotAllowed, NotFound, SessionManagerError
from sessionmanager.wire.common import ID_CHARS, ID_FORM
from sessionmanager.wire.queries import NoQuery

NO_PATH: Final = "no such path: GET /docs shows those that there are"
Handler = Callable[[Exchange], Coroutine[Any, Any, Answer]]

TEXT_CHARS: Final = r"[A-Za-z0-9_+][A-Za-z0-9._:@+=~-]{0,127}"
PARAMETERS: Final[Mapping[str, str]] = {
    "id": ID_CHARS,
    "name": r"[A-Za-z0-9_][A-Za-z0-9._ ()@+=-]{0,127}",
    "seq": r"[1-9][0-9]{0,15}",
}
"""What a path parameter may look like, by its name; every other one is `TEXT_CHARS`. Else 400 that names it."""

PATH_BYTES_MAX: Final = 4096
_template = re.compile(r"\{([a-z_]+)\}")
_unsafe = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer of a route, for the contract: `body` is its type, None where it has none or is no JSON. also: other
    media that it may come in where the request asks for them."""

    status: int
    description: str
    body: Any = None
    media: str = "application/json"
    headers: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table.

    action: what is asked of `model/roles.py`. open: needs no token.
    request: the type of its body, or a tuple of one for each of `request_media`; `bytes` for any content; None = it has
    no body. request_media: what the body may come as. request_examples: by media type and name. body_bytes_max: None =
    the limit of all JSON bodies. query: the struct of its parameters. headers: request headers that it reads
    (`api/contract/document.py` describes them).
    errors: those beyond what every route of its shape may answer (`document.errors_of`).
    """

    method: str
    template: str
    action: str
    handler: Handler
    summary: str
    answers: tuple[Shown, ...]
    tag: str = "sessions"
    description: str = ""
    open: bool = False
    request: Any = None
    request_media: tuple[str, ...] = JSON_MEDIA
    request_examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    body_required: bool = True
    body_bytes_max: int | None = None
    query: type[msgspec.Struct] = NoQuery
    headers: tuple[str, ...] = ()
    errors: tuple[type[SessionManagerError], ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its path parameters, in order."""
        return tuple(_template.findall(self.template))

    @property
    def bodies(self) -> tuple[tuple[str, Any], ...]:
        """What its body may come as: each media type with the type of the body; none where it has no body."""
        if self.request is None:
            return ()
        given: Any = self.request
        types = cast("tuple[Any, ...]", given) if isinstance(given, tuple) else (given,) * len(self.request_media)
        return tuple(zip(self.request_media, types, strict=True))

    @property
    def name(self) -> str:
        """Unique in the table: the method and the template."""
        return f"{self.method} {self.template}"


class _Node:
    """One place in the tree of paths."""

    __slots__ = ("literals", "parameter", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...], tuple[re.Pattern[str], ...]]] = {}

    def child(self, segment: str) -> _Node:
        if not _template.fullmatch(segment):
            return self.literals.setdefault(segment, _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter


class RouteTable:
    """All routes, and the way from a path to one of them. Raises ValueError for two routes of one name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in _segments(route.template):
            node = node.child(segment)
        if route.method in node.routes:
            raise ValueError(f"{route.name} is in the table twice, or differs by the name of a parameter only")
        patterns = tuple(re.compile(PARAMETERS.get(name, TEXT_CHARS)) for name in route.parameters)
        node.routes[route.method] = (route, route.parameters, patterns)

    def find(self, method: str, path: str, raw_path: bytes | None = None) -> tuple[Route, dict[str, str]]:
        """The route and its decoded path parameters. HEAD is answered as GET.

        Segments are what the raw path says before it is decoded, so that `%2F` and `%2E%2E` never make new ones.
        Raises NotFound, MethodNotAllowed, Malformed (a parameter that no id looks like).
        """
        if raw_path is not None and b"%" in raw_path:
            segments = _decoded(raw_path)
        elif len(path) > PATH_BYTES_MAX or path[:1] != "/":
            raise NotFound(NO_PATH)
        else:
            segments = path[1:].split("/")
        values: list[str] = []
        node = _walk(self._root, segments, 0, values)
        if node is None:
            raise NotFound(NO_PATH)
        found = node.routes.get(method) or (node.routes.get("GET") if method == "HEAD" else None)
        if found is None:
            raise MethodNotAllowed(_allowed(node))
        route, names, patterns = found
        for name, value, pattern in zip(names, values, patterns, strict=True):
            if pattern.fullmatch(value) is None:
                error = _bad_parameter(name)
                raise Malformed(f"{error.pointer}: {error.detail}", [error])
        return route, dict(zip(names, values, strict=True))


def _bad_parameter(name: str) -> FieldError:
    return FieldError(f"path/{name}", f"not of the form that is allowed here{f': {ID_FORM}' if name == 'id' else ''}")


def _segments(template: str) -> list[str]:
    if not template.startswith("/") or template == "/":
        raise ValueError(f"{template}: a template begins with / and has segments")
    return template[1:].split("/")


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> _Node | None:
    """The node of these segments; a literal first, and a parameter where that leads nowhere. As deep as the table."""
    if at == len(segments):
        return node if node.routes else None
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None and (found := _walk(literal, segments, at + 1, values)) is not None:
        return found
    if node.parameter is None or segment in ("", ".", ".."):
        return None
    values.append(segment)
    found = _walk(node.parameter, segments, at + 1, values)
    if found is None:
        values.pop()
    return found


def _decoded(raw_path: bytes) -> list[str]:
    """Segments of a path with percent escapes. One that hides a slash, a dot segment or a control character leads
    nowhere."""
    if len(raw_path) > PATH_BYTES_MAX or raw_path[:1] != b"/":
        raise NotFound(NO_PATH)
    segments: list[str] = []
    for raw in raw_path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise NotFound(NO_PATH) from None
        if _unsafe.search(segment) or segment in (".", ".."):
            raise NotFound(NO_PATH)
        segments.append(segment)
    return segments


def _allowed(node: _Node) -> tuple[str, ...]:
    methods = {*node.routes, *(("HEAD",) if "GET" in node.routes else ())}
    return tuple(sorted(methods))
