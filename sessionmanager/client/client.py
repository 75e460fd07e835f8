"""The plain client: a call is one request, and its answer is JSON as it came. Nothing is retried here.

Every call has a deadline and every answer a bound. A write carries an idempotency key (made here unless one is given):
after `OutcomeUnknown` the same call with the same key gets the one true answer; the key stands in a note on the error.
For command lines and tests, which look at each answer by itself; the client of `sessionmanager.client` is built on it.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from sessionmanager import __version__
from sessionmanager.client.problems import READS, NotOurs, error_of, unanswered
from sessionmanager.errors import SessionManagerError, Unauthenticated
from sessionmanager.tracing.spans import told_headers
from sessionmanager.words import API_KEY_PREFIX, H_API_KEY, H_IDEMPOTENCY_KEY, H_MIN_VERSION, H_TENANT

DEADLINE_SECONDS: Final = 10.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
CONNECTIONS_MAX: Final = 100
STREAMS_MAX: Final = 1000
NOT_MODIFIED: Final = 304
_CREDENTIAL: Final = re.compile("[!-~]+")

Json = dict[str, Any]


class Answer(NamedTuple):
    """What came back: 2xx or 304, its headers in lower case, and the bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body as an object. Raises NotOurs."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NotOurs("the answer is not a JSON object") from None


class Page(msgspec.Struct, frozen=True):
    """A page of entries as they came, one JSON text each, numbers as they were written."""

    items: tuple[msgspec.Raw, ...]
    next_cursor: str | None = None

    @property
    def lines(self) -> list[bytes]:
        """The entries without a line feed in them, so that each is a line."""
        return [one_line(bytes(item)) for item in self.items]


_pages: Final = msgspec.json.Decoder(Page)


def page_of(answer: Answer) -> Page:
    """The answer to `GET …/entries` as a page. Raises NotOurs."""
    try:
        return _pages.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotOurs("the answer is not a page of entries") from None


def one_line(data: bytes) -> bytes:
    """The JSON text on one line; only white space between its parts is touched."""
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


class KeyText(str):
    """An API key where else a token stands: it goes in a header of its own."""

    __slots__ = ()


def credential_header(credential: str) -> dict[str, str]:
    """The header that says who calls: a token's, or that of an API key, which is known by how it begins. Raises
    Unauthenticated: no header takes it."""
    if not _CREDENTIAL.fullmatch(credential):
        raise Unauthenticated("the credential is empty, or has a space or line feed in it: nothing was sent")
    if isinstance(credential, KeyText) or credential.startswith(API_KEY_PREFIX):
        return {H_API_KEY: str(credential)}
    return {"authorization": f"Bearer {credential}"}


class PlainClient:
    """One service, one token. Use as `async with`; may be shared by many tasks of one event loop.

    where: the service, `http(s)://host:port`, as messages name it. always: headers of every request.
    """

    def __init__(
        self,
        base_url: str,
        token: str | Callable[[], str],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        tenant: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Args: token: or a function that gives one, asked at each call. tenant: which one a token for all tenants
        means. transport: for tests, in place of a socket.
        Raises: ValueError for an address that is not http(s)://host."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("the address of the service is http(s)://host[:port][/prefix]")
        self._token = token
        self._deadline = deadline_seconds
        # A proxy named in the environment has nothing to do with a service on this machine.
        self._trust_env = parts.hostname not in ("localhost", "127.0.0.1", "::1")
        # Whom to trust over TLS takes longer to read than some requests; plain HTTP asks for nobody, and trusts nobody.
        self._trusts: ssl.SSLContext | bool = parts.scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._base_url = base_url
        self.where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.always = {} if tenant is None else {H_TENANT: tenant}
        self._transport = transport
        self._http = self._pool(CONNECTIONS_MAX)
        self._streams: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _pool(self, connections_max: int) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self._base_url,
            headers={"user-agent": f"sessionmanager/{__version__}", "accept": "application/json"},
            timeout=self._deadline,
            transport=self._transport,
            limits=httpx2.Limits(max_connections=connections_max),
            trust_env=self._trust_env,
            verify=self._trusts,
        )

    @property
    def trusts_environment(self) -> bool:
        """Whether a proxy named in the environment is used."""
        return self._trust_env

    def url_of(self, path: str) -> str:
        """The whole address of a path."""
        return self._base_url.rstrip("/") + path

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; no call can be made any more."""
        if self._streams is not None:
            await self._streams.aclose()
        await self._http.aclose()

    # -- reads

    async def get(
        self, id: str, *, entries: int | None = None, max_bytes: int | None = None, min_version: int | None = None
    ) -> Json:
        """The session with its newest `entries`."""
        return (await self.get_raw(id, entries=entries, max_bytes=max_bytes, min_version=min_version)).json()

    async def get_raw(
        self, id: str, *, entries: int | None = None, max_bytes: int | None = None, min_version: int | None = None
    ) -> Answer:
        """The same, with every byte as the service sent it, and its headers (`session-tier`, `etag`)."""
        headers = {} if min_version is None else {H_MIN_VERSION: str(min_version)}
        query = {"entries": entries, "max_bytes": max_bytes}
        return await self.call("GET", path_of(id), query=query, headers=headers)

    async def list(self, *, limit: int | None = None, cursor: str | None = None, **filters: str | None) -> Json:
        """A page of summaries: `items`, `next_cursor`. filters: those of `GET /sessions`."""
        return (await self.call("GET", "/sessions", query={**filters, "limit": limit, "cursor": cursor})).json()

    async def entries(
        self,
        id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        order: str | None = None,
        type: str | None = None,
        cursor: str | None = None,
    ) -> Page:
        """A page of the log; `after` and `before` are seqs, both exclusive."""
        query = {"after": after, "before": before, "limit": limit, "order": order, "type": type, "cursor": cursor}
        return page_of(await self.call("GET", path_of(id, "entries"), query=query))

    async def resumable(self, id: str, *, max_age_seconds: float | None = None) -> Json:
        """Whether a resume would be allowed now, and if not, why."""
        return (await self.call("GET", path_of(id, "resumable"), query={"max_age_seconds": max_age_seconds})).json()

    async def erasure(self, erasure_id: str) -> Json:
        """The receipt of an erasure."""
        return (await self.call("GET", f"/erasures/{quote(erasure_id, safe='')}")).json()

    async def health(self) -> Json:
        """How the service is. Raises Unreachable when it is down."""
        return (await self.call("GET", "/health")).json()

    # -- writes; `key`: the idempotency key

    async def create(self, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Json:
        """A new session. body: `id` and any settable field, first `entries`."""
        return (await self.call("POST", "/sessions", body=body or {}, key=key)).json()

    async def append(self, id: str, entries: Sequence[Mapping[str, Any]], *, key: str | None = None) -> Json:
        """Add 1–256 entries. Answers the receipt: `version`, `status`, `seqs`, `duplicates`."""
        return await self._write(id, "entries", {"entries": list(entries)}, key)

    async def patch(self, id: str, changes: Mapping[str, Any], *, version: int | None, key: str | None = None) -> Json:
        """Merge `changes` into the session (RFC 7396). version: what they were decided on; None = the newest."""
        headers = {
            "if-match": "*" if version is None else f'"v{version}"',
            "content-type": "application/merge-patch+json",
        }
        return (await self.call("PATCH", path_of(id), body=changes, headers=headers, key=key)).json()

    async def resume(self, id: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Json:
        """Bring the session back. body: `max_age_seconds`, `replay`, `since_version`, `entries`, `max_bytes` …"""
        return await self._write(id, "resume", body or {}, key)

    async def suspend(self, id: str, *, key: str | None = None) -> Json:
        return await self._write(id, "suspend", {}, key)

    async def activate(self, id: str, *, key: str | None = None) -> Json:
        return await self._write(id, "activate", {}, key)

    async def end(self, id: str, reason: str | None = None, *, key: str | None = None) -> Json:
        return await self._write(id, "end", {} if reason is None else {"reason": reason}, key)

    async def fail(self, id: str, error: str, *, key: str | None = None) -> Json:
        return await self._write(id, "fail", {"error": error}, key)

    async def archive(self, id: str, *, key: str | None = None) -> Json:
        """Move the body to cold now."""
        return await self._write(id, "archive", {}, key)

    async def erase(self, id: str, *, key: str | None = None) -> Json:
        """Erase the session everywhere, for ever. Answers its `erasure_id`."""
        return (await self.call("DELETE", path_of(id), key=key)).json()

    async def _write(self, id: str, action: str, body: Mapping[str, Any], key: str | None) -> Json:
        return (await self.call("POST", path_of(id, action), body=body, key=key)).json()

    # -- one call

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        token: str | None = None,
        deadline_seconds: float | None = None,
        also: Collection[int] = (),
    ) -> Answer:
        """One request and its whole answer, within the deadline.

        body: bytes are JSON that is sent as it stands, the text of its numbers included. token: in place of the
        client's own. also: statuses from 400 on whose JSON is an answer, too.
        Raises: the service's own errors. Unreachable: nothing was sent, or a read broke off. TimedOut: a read.
        OutcomeUnknown: a write whose answer did not come. NotOurs. ValueError: `body` cannot be JSON.
        """
        if method not in READS:
            key = key or uuid.uuid4().hex
        request = self._request(self._http, method, path, query, body, headers, key=key, token=token)
        try:
            async with asyncio.timeout(self._deadline if deadline_seconds is None else deadline_seconds):
                return await self._send(request, also)
        except (TimeoutError, httpx2.HTTPError) as error:
            raise unanswered(error, self.where, method, key) from None

    async def open_stream(
        self,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        silence_seconds: float,
    ) -> httpx2.Response:
        """The beginning of an answer that lasts; whoever asked reads its bytes and closes it.

        silence_seconds: between two pieces of it; `stream_failure` says what a broken one means. Raises as `call`.
        """
        if self._streams is None:
            self._streams = self._pool(STREAMS_MAX)
        request = self._request(self._streams, "GET", path, query, None, headers, token=token)
        request.extensions["timeout"] = httpx2.Timeout(self._deadline, read=silence_seconds).as_dict()
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._streams.send(request, stream=True)
                if response.is_success:
                    return response
                await self._read(response)
        except (TimeoutError, httpx2.HTTPError) as error:
            raise self.stream_failure(error) from None
        raise NotOurs("an answer that is no stream")

    def stream_failure(self, error: Exception) -> SessionManagerError:
        """What it means that an open stream broke."""
        return unanswered(error, self.where, "GET", None)

    def _request(
        self,
        http: httpx2.AsyncClient,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | Sequence[Any] | bytes | None,
        headers: Mapping[str, str] | None,
        *,
        key: str | None = None,
        token: str | None = None,
    ) -> httpx2.Request:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("the client belongs to another event loop: make one in each, or use `Client`")
        self._loop = loop
        if token is None:
            token = self._token if isinstance(self._token, str) else self._token()
        sent = credential_header(token)
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else encode(body)
            sent["content-type"] = "application/json"
        if key is not None:
            sent[H_IDEMPOTENCY_KEY] = key
        return http.build_request(
            method,
            path.lstrip("/"),
            params={name: value for name, value in (query or {}).items() if value is not None},
            content=content,
            headers={**trace_headers(headers), **self.always, **sent, **(headers or {})},
        )

    async def _send(self, request: httpx2.Request, also: Collection[int]) -> Answer:
        return await self._read(await self._http.send(request, stream=True), also)

    async def _read(self, response: httpx2.Response, also: Collection[int] = ()) -> Answer:
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise NotOurs(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        status = response.status_code
        meant = status in also and headers.get("content-type", "").startswith("application/json")
        if response.is_success or status == NOT_MODIFIED or meant:
            return Answer(status, headers, bytes(body))
        if response.is_redirect:
            raise NotOurs("an answer that leads elsewhere: the address of the service is another")
        raise error_of(status, headers, bytes(body))


def encode(body: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """A body as compact JSON. Raises ValueError, TypeError for what cannot be JSON."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def trace_headers(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a request tells of the span at hand (W3C Trace Context): nothing where nobody traces, and nothing beside a
    `traceparent` that whoever calls gives."""
    told = told_headers()
    return {} if not told or any(name.lower() == "traceparent" for name in given or ()) else told


def path_of(id: str, *rest: str) -> str:
    """The path of a session, or of something of it; no id and no name leads out of it."""
    quoted = quote(id, safe="")
    return "/".join(("/sessions", quoted.replace(".", "%2E") if not id.strip(".") else quoted, *rest))
