"""Requests that this service sends by itself to addresses that others have told it.

The host is resolved once, every address is checked, and the connection goes to the one that was checked. No redirect is
followed, no proxy is asked, time and bytes are bounded, and at most `AT_ONCE_MAX` are under way.
Source: reliability notes, part 6 (SSRF).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

import httpx2

from sessionmanager.core.outgoing.endpoints import Endpoint, Endpoints, NotAllowed
from sessionmanager.tracing.spans import span, told_headers

CALL_SECONDS: Final = 10.0
"""A whole request, from the name to the last byte."""
ANSWER_BYTES_MAX: Final = 64 * 1024
AT_ONCE_MAX: Final = 32
RESOLVERS_MAX: Final = 4
"""Threads that resolve names: a name server that hangs keeps nobody else's waiting."""
KEPT_MAX: Final = 16

Resolve = Callable[[str, int], Sequence[str]]


class CallFailed(Exception):
    """No answer that could be read. `reason` is a word of ours; nothing of what the other side sent is in it.

    status: of an answer that had begun, and whose body is not taken.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class TheirAnswer(NamedTuple):
    """An answer, whatever its status. retry_after: the header of that name, as it came."""

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def is_fine(self) -> bool:
        return 200 <= self.status < 300


def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a host, in the order of the resolver. Raises OSError. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(where[4][0]) for where in found))


class Outgoing:
    """One a process. endpoints: where requests may go. `aclose` ends it."""

    def __init__(self, endpoints: Endpoints, *, lookup: Resolve = resolve, seconds: float = CALL_SECONDS) -> None:
        self._endpoints = endpoints
        self._lookup = lookup
        self._seconds = seconds
        self._resolvers = ThreadPoolExecutor(RESOLVERS_MAX, thread_name_prefix="resolve")
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def check(self, endpoint: Endpoint) -> str:
        """The address to connect to, now. Raises NotAllowed, CallFailed("unresolved")."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._seconds):
                look = partial(self._lookup, endpoint.host, endpoint.port)
                addresses = await loop.run_in_executor(self._resolvers, look)
        except (OSError, UnicodeError, TimeoutError):
            raise CallFailed("unresolved") from None
        return str(self._endpoints.check(endpoint, addresses))

    async def send(
        self,
        method: str,
        endpoint: Endpoint,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> TheirAnswer:
        """Send one request to a path below the endpoint. Raises CallFailed."""
        try:
            async with self._at_once, asyncio.timeout(self._seconds):
                address = await self.check(endpoint)
                with span(method, "client"):
                    return await self._exchange(method, endpoint, address, path, body, headers or {})
        except NotAllowed:
            raise CallFailed("not-allowed") from None
        except TimeoutError:
            raise CallFailed("timeout") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError):
            raise CallFailed("unreachable") from None

    async def _exchange(
        self,
        method: str,
        endpoint: Endpoint,
        address: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> TheirAnswer:
        host = f"[{address}]" if ":" in address else address
        url = f"{endpoint.scheme}://{host}:{endpoint.port}{endpoint.path}{path}"
        given = {"Host": endpoint.authority, "Accept": "application/json", "Accept-Encoding": "identity", **headers}
        given |= told_headers()
        if body is not None:
            given["Content-Type"] = "application/json"
        # The certificate is that of the name, wherever the connection goes.
        named: dict[str, Any] = {"sni_hostname": endpoint.host} if endpoint.scheme == "https" else {}
        async with self._client(endpoint.scheme).stream(
            method, url, content=body, headers=given, extensions=named
        ) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise CallFailed("compressed", response.status_code)
            taken = bytearray()
            async for piece in response.aiter_raw():
                taken += piece
                if len(taken) > ANSWER_BYTES_MAX:
                    raise CallFailed("too-large", response.status_code)
            return TheirAnswer(response.status_code, bytes(taken), response.headers.get("retry-after"))

    def _client(self, scheme: str) -> httpx2.AsyncClient:
        """Made when it is first needed: where no service ever registers, no certificates are read.

        A kept connection is known by address and port alone. Over TLS two names may share these, and what was verified
        for one must not carry a token to the other: so there each request has a connection of its own.
        """
        client = self._clients.get(scheme)
        if client is None:
            kept = KEPT_MAX if scheme == "http" else 0
            client = self._clients[scheme] = httpx2.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                timeout=self._seconds,
                limits=httpx2.Limits(max_connections=AT_ONCE_MAX, max_keepalive_connections=kept),
                # Plain HTTP trusts nobody over TLS, and reads no certificates.
                verify=scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
        return client

    async def aclose(self) -> None:
        """Close connections; what is under way fails."""
        for client in tuple(self._clients.values()):
            await client.aclose()
        self._resolvers.shutdown(wait=False, cancel_futures=True)
