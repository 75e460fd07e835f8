"""Replicas that are real processes, on servers of one test alone, each replica with lines of its own that may be cut.

A replica reaches a tier by Toxiproxy; behind that, the line to warm passes `MongoProxy` and the line to cold `s3_line`,
which know the protocols and can lose the one answer, or refuse as a full disk does.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aioboto3
import httpx2
from aiobotocore.config import AioConfig
from prometheus_client.parser import text_string_to_metric_families

from sessionmanager.core.keys.files import make_key_file
from tests.services.own import OwnServer
from tests.services.processes import free_ports
from tests.support.mongo_proxy import MongoProxy, a_proxy
from tests.support.process import PLAIN, NotStarted, Process, serving
from tests.support.s3_line import Line, a_line
from tests.support.server import NO_TLS
from tests.support.services import REGION, S3Address, owned, parse_s3
from tests.support.shared_tiers import JWT_SECRET
from tests.support.toxiproxy import Proxy, proxied

HOT_TIMEOUT_SECONDS: Final = 0.2
"""Four times the default: a busy machine must not look like a slow Redis."""
WARM_TIMEOUT_SECONDS: Final = 1.0
COLD_TIMEOUT_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 2.0
SETTINGS: Final[Mapping[str, str]] = {
    "hot_timeout_seconds": str(HOT_TIMEOUT_SECONDS),
    "hot_lease_seconds": str(LEASE_SECONDS),
    "warm_timeout_seconds": str(WARM_TIMEOUT_SECONDS),
    "cold_timeout_seconds": str(COLD_TIMEOUT_SECONDS),
    "request_deadline_seconds": "10",
    "mongo_standalone": "allowed",
    "s3_region": REGION,
    "jwt_secret": JWT_SECRET,
    "log_level": "warning",
}
ASK_SECONDS: Final = 20.0
"""A request that takes so long has hung: no deadline of the service is that long."""
STARTS_MAX: Final = 5
LOOK_SECONDS: Final = 0.05
"""Between two looks at another process; it stands in place of no condition."""


class Answered(NamedTuple):
    """One answer and how long it took. body: its JSON, {} where it is none."""

    status: int
    headers: httpx2.Headers
    body: dict[str, Any]
    seconds: float

    @property
    def tier(self) -> str:
        return self.headers.get("session-tier", "")


class Servers(NamedTuple):
    """The servers behind all replicas of a test. bucket: of cold, with `objects` to look into it."""

    hot: OwnServer
    warm: OwnServer
    cold: OwnServer
    toxiproxy: OwnServer
    bucket: str
    settings: Mapping[str, str]

    @property
    def s3(self) -> S3Address:
        return parse_s3(self.cold.url)

    @asynccontextmanager
    async def objects(self) -> AsyncGenerator[Any]:
        """The driver's own client of the bucket, past every proxy."""
        async with _s3_client(self.s3) as client:
            yield client


class Lines(NamedTuple):
    """How one replica reaches its tiers; hot is None where it has many addresses. mongo, s3: what lies behind."""

    hot: Proxy | None
    warm: Proxy
    cold: Proxy
    mongo: MongoProxy
    s3: Line

    async def heal(self) -> None:
        """Nothing is broken on any of them any more."""
        for proxy in (self.hot, self.warm, self.cold):
            if proxy is not None:
                await proxy.heal()
        self.mongo.mend()
        self.s3.rule = None


class Replica:
    """One `serve` process after another, at one address."""

    def __init__(self, name: str, folder: Path, lines: Lines, settings: Mapping[str, str], outer: Mapping[str, str]):
        self.name = name
        self.lines = lines
        self.outer = dict(outer)
        self.program = PLAIN
        self.address = ""
        self.token = ""
        self._folder = folder / name
        self._settings = settings
        self._port = free_ports(1)[0]
        self._stack = ExitStack()
        self._process: Process | None = None
        self._http: httpx2.AsyncClient | None = None

    @property
    def up(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Returns once it answers."""
        process = await self._begun()
        self.address, self.token = process.address, process.token
        self._http = httpx2.AsyncClient(base_url=self.address, timeout=ASK_SECONDS, trust_env=False, verify=NO_TLS)
        self._process = process

    async def _begun(self) -> Process:
        """It refuses to start where a tier does not answer in the time of a request, which a busy machine may well
        take: then it is started again, as whatever supervises a service does."""

        async def begin() -> Process:
            running = serving(
                self._folder, "--port", str(self._port), program=self.program, outer=self.outer, **self._settings
            )
            return await asyncio.to_thread(self._stack.enter_context, running)

        for _ in range(STARTS_MAX - 1):
            with suppress(NotStarted):
                return await begin()
        return await begin()

    async def kill(self) -> None:
        """`kill -9`."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.kill)
        await self.close()

    async def close(self) -> None:
        """SIGTERM where it still runs."""
        self._process = None
        if self._http is not None:
            await self._http.aclose()
        await asyncio.to_thread(self._stack.close)

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Answered:
        """One request in an admin's name; its answer, whatever its status. headers: with `_` for `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["authorization"] = f"Bearer {self.token}"
        if key is not None:
            given["idempotency-key"] = key
        assert self._http is not None
        began = time.monotonic()
        answer = await self._http.request(method, path, json=body, headers=given)
        seconds = time.monotonic() - began
        is_json = "json" in answer.headers.get("content-type", "")
        return Answered(answer.status_code, answer.headers, answer.json() if is_json else {}, seconds)

    async def create(self, session: str) -> None:
        made = await self.ask("POST", "/sessions", {"id": session})
        assert made.status == 201, made

    async def say(self, session: str, text: str, *, key: str | None = None) -> Answered:
        entries = [{"type": "message", "role": "user", "content": text}]
        return await self.ask("POST", f"/sessions/{session}/entries", {"entries": entries}, key=key)

    async def texts(self, session: str) -> list[str]:
        """What was said in it, all of it, as warm and cold have it now. Of at most 200 entries."""
        found = await self.ask("GET", f"/sessions/{session}/entries?limit=200")
        assert found.status == 200, found
        return [item["content"] for item in found.body["items"] if item["type"] == "message"]

    async def health(self) -> dict[str, Any]:
        return (await self.ask("GET", "/health")).body

    async def state(self, tier: str) -> str:
        """What `/health` says of a tier: `ok`, `degraded` or `down`."""
        return (await self.health())["tiers"][tier]["status"]

    async def breaker(self, tier: str) -> str:
        """The state of the tier's breaker that `/metrics` shows."""
        assert self._http is not None
        page = (await self._http.get("/metrics")).text
        return next(
            sample.labels["state"]
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "sessionmanager_tier_breaker" and sample.labels["tier"] == tier and sample.value
        )

    def logged(self, *events: str) -> list[dict[str, Any]]:
        """All of its log lines so far, those of these events where any are named."""
        path = self._folder.parent / f"{self._folder.name}.log"
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if not events or line["event"] in events]


@asynccontextmanager
async def servers_to_break(folder: Path, *, hot: str = "redis", warm: str = "mongo") -> AsyncGenerator[Servers]:
    """Three tiers and a Toxiproxy of one test, empty. Skips where a server is missing."""
    async with AsyncExitStack() as stack:
        [one, two, three, proxy] = [
            await stack.enter_async_context(owned(name, folder)) for name in (hot, warm, "s3", "toxiproxy")
        ]
        make_key_file(folder / "master")
        bucket = f"test-{secrets.token_hex(8)}"
        async with _s3_client(parse_s3(three.url)) as client:
            await client.create_bucket(Bucket=bucket)
        yield Servers(one, two, three, proxy, bucket, {**SETTINGS, "master_key_file": str(folder / "master")})


@asynccontextmanager
async def a_replica(servers: Servers, name: str, folder: Path, **changes: str) -> AsyncGenerator[Replica]:
    """A replica with lines of its own, not started yet. changes: settings that are its own."""
    api, warm = servers.toxiproxy.url, urlsplit(servers.warm.url)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        mongo = await enter(a_proxy((warm.hostname or "", warm.port or 0), replica_set=False))
        s3 = await enter(a_line(servers.s3.endpoint_url))
        hot = await enter(proxied(api, servers.hot.url)) if len(servers.hot.parts) == 1 else None
        lines = Lines(hot, await enter(proxied(api, mongo.address)), await enter(proxied(api, s3.url)), mongo, s3)
        settings = {
            **servers.settings,
            "hot_url": servers.hot.url if hot is None else hot.url(servers.hot.url),
            "warm_url": urlunsplit(("mongodb", lines.warm.address, "/replicas", "", "")),
            "cold_url": f"s3://{servers.bucket}",
            "s3_endpoint_url": f"http://{lines.cold.address}",
            **changes,
        }
        outer = {"AWS_ACCESS_KEY_ID": servers.s3.key_id, "AWS_SECRET_ACCESS_KEY": servers.s3.secret}
        replica = Replica(name, folder, lines, settings, outer)
        try:
            yield replica
        finally:
            await replica.close()


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """Ask until it holds; answers after how many seconds it did. Fails after so many."""
    began = time.monotonic()
    while not await holds():  # it is another process's doing
        assert time.monotonic() - began < seconds, f"{what} not within {seconds} s"
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - began


@asynccontextmanager
async def _s3_client(address: S3Address) -> AsyncGenerator[Any]:
    config = AioConfig(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    session: Any = aioboto3.Session(address.key_id, address.secret)
    async with session.client(
        "s3", endpoint_url=address.endpoint_url, region_name=address.region, config=config
    ) as client:
        yield client
