"""One request on its way: what handlers read from, each thing parsed when it is first asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from starlette.types import Receive, Scope

from sessionmanager.api import conditional
from sessionmanager.api.limits import check_media, read_body
from sessionmanager.api.query import query_reader
from sessionmanager.api.strictjson import read_raw, reader_of
from sessionmanager.errors import FieldError, Malformed
from sessionmanager.wire.common import Limits

if TYPE_CHECKING:
    from sessionmanager.api.routing import Route

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

LISTS: Final = frozenset((b"if-match", b"if-none-match"))
ONCE: Final = frozenset(
    (
        *(b"authorization", b"content-length", b"content-type", b"content-encoding", b"host"),
        *(b"idempotency-key", b"min-version", b"x-api-key", b"last-event-id", b"range"),
    )
)
"""Headers that two readers could read differently if they came twice: refused by name."""


class Crowd:
    """How many requests are being answered at this moment."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


_RAW_NAMES: Final = {
    name: name.lower().encode() for name in ("If-Match", "If-None-Match", "Min-Version", "Idempotency-Key")
}
"""Asked for in most requests, so that they are not encoded in each."""


class Exchange:
    """A request and what is known of it.

    began: when it was first seen, on `perf_counter`; ended: when its answer was out, where that is known. authorize,
    route, params, request_id: set before the handler runs. actor, tenant: set by `authorize`. crowd: in which it
    is counted while it is answered; not while its caller has yet to send the body, which costs nobody anything.
    """

    __slots__ = ("_body", "_doubled", "_receive", "actor", "authorize", "began", "crowd", "ended", "headers", "limits",
                 "params", "request_id", "route", "scope", "tenant")  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self.scope = scope
        self._receive = receive
        self.limits = limits
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(pairs)
        self._doubled = len(self.headers) != len(pairs)
        self._body: bytes | None = None
        self.route: Route | None = None
        self.params: dict[str, str] = {}
        self.request_id = ""
        self.actor: Any = None
        self.tenant = ""
        self.authorize: Callable[[Exchange], Awaitable[None]] | None = None
        self.began = perf_counter()
        self.ended: float | None = None
        self.crowd: Crowd | None = None

    def check_headers(self) -> None:
        """Refuse a header that came twice and must not; join the lists. Raises Malformed.

        A transfer coding that is not `chunked` is known to the server only after the request was begun, so it is
        refused here before anything is done.
        """
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise Malformed(
                "Transfer-Encoding can only be chunked", [FieldError("header/Transfer-Encoding", "chunked")]
            )
        if not self._doubled:
            return
        seen: dict[bytes, bytes] = {}
        for name, value in self.scope["headers"]:
            if name in seen and name in ONCE:
                shown = name.decode("latin-1").title()
                raise Malformed(f"{shown} came twice", [FieldError(f"header/{shown}", "given twice")])
            seen[name] = seen[name] + b", " + value if name in seen and name in LISTS else value
        self.headers = seen

    @property
    def method(self) -> str:
        return self.scope["method"]

    @property
    def path(self) -> str:
        """The decoded path that was dispatched on; never built from the Host header."""
        return self.scope["path"]

    def header(self, name: str) -> str | None:
        """The value of a header, or None. Raises Malformed for bytes beyond ASCII."""
        value = self.headers.get(_RAW_NAMES.get(name) or name.lower().encode())
        if value is None:
            return None
        if not value.isascii():
            raise Malformed(f"{name} is not ASCII", [FieldError(f"header/{name}", "ASCII")])
        return value.decode()

    async def body(self) -> bytes:
        """The whole body, read once; empty where the route lets it be left out.

        Raises UnsupportedMediaType, TooLarge, Malformed, ClientGone.
        """
        if self._body is None:
            assert self.route is not None, "a body belongs to a route"
            bound = self.route.body_bytes_max or self.limits.body_bytes_max
            required = self.route.body_required and self.route.request is not None
            if required or self.headers.get(b"content-type") or self._announced():
                check_media(self.headers, self.route.request_media)
            crowd = self.crowd
            if crowd is None:
                self._body = await read_body(self._receive, self.headers, bound)
                return self._body
            crowd.size -= 1
            try:
                self._body = await read_body(self._receive, self.headers, bound)
            finally:
                crowd.size += 1
        return self._body

    def _announced(self) -> bool:
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    def media_type(self) -> str:
        """The media type of the body, which is one that the route takes. Raises UnsupportedMediaType."""
        assert self.route is not None, "a body belongs to a route"
        return check_media(self.headers, self.route.request_media)

    async def read(self, body_type: type[T]) -> T:
        """The body as a value of its type; the type's defaults where the body is left out and may be.

        Raises as `body` and `strictjson.Reader.read` do.
        """
        data = await self.body()
        if not data and self.route is not None and not self.route.body_required:
            data = b"{}"
        return reader_of(body_type).read(data, self.limits)

    async def read_raw(self) -> msgspec.Raw:
        """The body as a strict JSON text of any shape, compact."""
        return read_raw(await self.body(), depth_max=self.limits.json_depth_max)

    async def request_hash(self) -> bytes:
        """What an idempotency key is compared by: method, path, query and the body's own bytes."""
        target = self.path
        query: bytes = self.scope["query_string"]
        if query:
            target = f"{target}?{query.decode('latin-1')}"
        return conditional.body_hash(self.method, target, await self.body())

    def query(self, query_type: type[S]) -> S:
        """The query parameters. Raises Malformed that names each wrong one."""
        return query_reader(query_type).read(self.scope["query_string"])

    def answered(self) -> None:
        """The answer has begun and lasts: for metrics, which time requests, this is its end."""
        self.ended = perf_counter()

    async def good_for(self) -> float:
        """Ask once more, as at first, whether the caller may do this: for how many seconds its token is good at most.

        Raises what `authorize` raises.
        """
        assert self.authorize is not None, "asked before it was authorized"
        await self.authorize(self)
        return self.actor.expires_at - time()

    def if_match(self) -> conditional.Versions | None:
        return conditional.if_match(self.header("If-Match"))

    def if_none_match(self) -> conditional.Versions | None:
        return conditional.if_none_match(self.header("If-None-Match"))

    def min_version(self) -> int | None:
        return conditional.min_version(self.header("Min-Version"))

    def idempotency_key(self) -> str | None:
        return conditional.idempotency_key(self.header("Idempotency-Key"))
