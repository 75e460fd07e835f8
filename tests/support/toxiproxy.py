"""Toxiproxy by its HTTP API: a proxy before a server, and what may be wrong with the line.

Source: the API that Toxiproxy v2.5.0 documents in its README; toxics act on connections that are open, too.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

import httpx2

from tests.services.processes import LOOPBACK, free_ports
from tests.support.server import NO_TLS

CALL_SECONDS: Final = 10.0
LISTEN_TRIES_MAX: Final = 5
Stream = Literal["downstream", "upstream"]
"""downstream: what the server answers. upstream: what it is asked."""


class Proxy:
    """A proxy before one server. address: `host:port` to speak to instead of the server's."""

    def __init__(self, api: httpx2.AsyncClient, name: str, port: int) -> None:
        self._api = api
        self._name = name
        self.host = LOOPBACK
        self.port = port

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def url(self, url: str) -> str:
        """The same URL with the proxy in the place of the server; for a server that is a single one."""
        parts = urlsplit(url)
        userinfo = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{userinfo}{self.address}"))

    async def latency(self, milliseconds: int, *, jitter: int = 0, stream: Stream = "downstream") -> str:
        """Everything comes so much later, give or take `jitter`. Answers the name of the toxic, as they all do."""
        return await self._add("latency", stream, latency=milliseconds, jitter=jitter)

    async def timeout(self, milliseconds: int = 0, *, stream: Stream = "downstream") -> str:
        """Nothing comes any more, and after so long the connection is closed; 0: not before the toxic is removed."""
        return await self._add("timeout", stream, timeout=milliseconds)

    async def reset_peer(self, milliseconds: int = 0, *, stream: Stream = "downstream") -> str:
        """Connections are reset after so long. Downstream, what the server was asked it has done."""
        return await self._add("reset_peer", stream, timeout=milliseconds)

    async def limit_data(self, size: int, *, stream: Stream = "downstream") -> str:
        """A connection is closed once so many bytes have come through it."""
        return await self._add("limit_data", stream, bytes=size)

    async def remove(self, toxic: str) -> None:
        """Take one toxic away."""
        await _call(self._api, "DELETE", f"/proxies/{self._name}/toxics/{toxic}")

    async def down(self) -> None:
        """Close all connections and take no more."""
        await self._set(enabled=False)

    async def up(self) -> None:
        """Listen again, at the same address."""
        await self._set(enabled=True)

    async def heal(self) -> None:
        """No toxics, and up."""
        for toxic in (await _call(self._api, "GET", f"/proxies/{self._name}/toxics")).json():
            await self.remove(toxic["name"])
        await self.up()

    async def _add(self, kind: str, stream: Stream, **attributes: int) -> str:
        body = {"type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes}
        body["name"] = f"{kind}-{stream}-{secrets.token_hex(4)}"
        made = await _call(self._api, "POST", f"/proxies/{self._name}/toxics", body)
        return made.json()["name"]

    async def _set(self, *, enabled: bool) -> None:
        await _call(self._api, "POST", f"/proxies/{self._name}", {"enabled": enabled})


@asynccontextmanager
async def proxied(toxiproxy_url: str, upstream: str) -> AsyncGenerator[Proxy]:
    """A proxy that is removed with the block, whatever was done to it.

    Args: toxiproxy_url: where Toxiproxy's own API is (`service_url("toxiproxy")`). upstream: the server, as a URL
        or as `host:port`.
    """
    where = urlsplit(upstream).netloc.rpartition("@")[2] if "//" in upstream else upstream
    # Whatever proxy the machine is set up with, loopback is reached without it.
    async with httpx2.AsyncClient(base_url=toxiproxy_url, timeout=CALL_SECONDS, trust_env=False, verify=NO_TLS) as api:
        name = f"proxy-{secrets.token_hex(8)}"
        port = await _listen(api, name, where)
        try:
            yield Proxy(api, name, port)
        finally:
            await _call(api, "DELETE", f"/proxies/{name}")


async def _listen(api: httpx2.AsyncClient, name: str, upstream: str) -> int:
    """Our own choice of port: one that Toxiproxy is given by the system could be lost to a caller while it is down."""
    refused = ""
    for _ in range(LISTEN_TRIES_MAX):
        port = free_ports(1)[0]
        body = {"name": name, "listen": f"{LOOPBACK}:{port}", "upstream": upstream, "enabled": True}
        answer = await api.post("/proxies", json=body)
        if answer.status_code == 201:
            return port
        refused = f"{answer.status_code} {answer.text}"
    raise AssertionError(f"no proxy before {upstream}: {refused}")


async def _call(api: httpx2.AsyncClient, method: str, path: str, body: Any = None) -> httpx2.Response:
    answer = await api.request(method, path, json=body)
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer
