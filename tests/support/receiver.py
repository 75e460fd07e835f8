"""Receivers of webhooks on real sockets, a verifier written from the specification alone, and webhooks to try them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.outgoing.requests import Outgoing, Resolve, resolve
from sessionmanager.core.webhooks.destinations import Destinations
from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.messages import Secrets
from sessionmanager.core.webhooks.registry import Asked, HookRegistry, WantedHook
from sessionmanager.core.webhooks.sender import Outcome, Sender, Sending
from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.core.webhooks.webhooks import Means, Webhooks
from sessionmanager.model import instants
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.cold.protocol import Cold
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.tiers.warm.sqlite import open_sqlite
from tests.support.faulty import Faulty
from tests.support.scenes import NOW, POLICY
from tests.support.sim.cold import ModelCold
from tests.support.sim.warm import ModelWarm

LOOPBACK: Final = ("127.0.0.0/8", "::1")
TOLERANCE_SECONDS: Final = 300
PATIENCE_SECONDS: Final = 20.0
QUICK: Final = WebhookLimits(poll_seconds=0.02, renew_seconds=0.05)
MASTER: Final = MasterKeys(bytes(range(32)))


# -- the verifier


class ForgedError(Exception):
    """The signature does not hold."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> Any:
    """The payload, if one of the signatures is of this secret and the time is near. Header names in lower case."""
    assert secret.startswith("whsec_")
    key = base64.b64decode(secret[len("whsec_") :], validate=True)
    assert 24 <= len(key) <= 64, "the specification's bounds"
    identifier, stamp = headers["webhook-id"], headers["webhook-timestamp"]
    if not stamp.isdecimal() or abs(int(stamp) - now) > TOLERANCE_SECONDS:
        raise ForgedError("time")
    right = hmac.digest(key, identifier.encode() + b"." + stamp.encode() + b"." + body, hashlib.sha256)
    for one in headers["webhook-signature"].split(" "):
        version, _, value = one.partition(",")
        if version == "v1" and hmac.compare_digest(base64.b64decode(value, validate=True), right):
            return json.loads(body)
    raise ForgedError("signature")


# -- the receiver


class Got(NamedTuple):
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def place(self) -> tuple[str, int]:
        """Session and seq."""
        return self.event["subject"], self.event["data"]["seq"]


class Answer(NamedTuple):
    """What a receiver says. hangs: nothing, for ever. endless: a body without an end."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    hangs: bool = False
    endless: bool = False


class Receiver:
    """Records what comes, and answers as `answer` says. most: requests that were there at once."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Callable[[Got], Answer] = lambda got: Answer()
        self.port = 0
        self.at_once = 0
        self.most = 0
        self.overlaps: list[str] = []
        """Sessions of which a second request came while one was not answered."""
        self.delay_seconds = 0.0
        self._open: set[str] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def places(self) -> list[tuple[str, int]]:
        return [got.place for got in self.got]

    def seqs(self, session: str) -> list[int]:
        return [seq for name, seq in self.places if name == session]

    async def until(self, holds: Callable[[], bool], what: str = "it") -> None:
        """Let the loop go on until `holds`."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - what it waits for is not ours to set
                await asyncio.sleep(0.002)
        assert holds(), what

    def hang_up(self) -> None:
        """Cut all connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._take(Got(lines[0].split(" ")[1], headers, body, time.time()), writer)
        self._writers.discard(writer)
        writer.close()

    async def _take(self, got: Got, writer: asyncio.StreamWriter) -> None:
        subject = got.event.get("subject", "")
        self.got.append(got)
        if subject in self._open:
            self.overlaps.append(subject)
        self._open.add(subject)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            answer = self.answer(got)
            if answer.hangs:
                await asyncio.Event().wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
        finally:
            self._open.discard(subject)
            self.at_once -= 1
        length = () if answer.endless else (("content-length", str(len(answer.body))),)
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in (*answer.headers, *length))]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        while answer.endless:
            writer.write(b"x" * 65_536)
            await writer.drain()
        await writer.drain()


@asynccontextmanager
async def receiver(host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[Receiver]:
    """A receiver that listens on a free port."""
    running = Receiver()
    server = await asyncio.start_server(running.serve, host, port)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        running.hang_up()


# -- webhooks to try


class Heard:
    """What metrics would count."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.lags: list[float] = []

    def webhook(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def webhook_lag(self, seconds: float) -> None:
        self.lags.append(seconds)


class Sham:
    """Sends nothing: answers as it is told, and remembers the attempts, and when by `clock`. takes: seconds of one."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.sent: list[tuple[str, str, bytes, float]] = []
        self.answer: Callable[[Hook, dict[str, Any]], Outcome] = lambda hook, event: Outcome("delivered", 200)
        self.takes: Callable[[Hook], float] = lambda hook: 0.0
        self._clock = clock

    async def check(self, url: str) -> None:
        return None

    async def send(self, hook: Hook, message_id: str, body: bytes) -> Outcome:
        self.sent.append((hook.id, message_id, body, self._clock()))
        if self.takes(hook):
            await asyncio.sleep(self.takes(hook))
        return self.answer(hook, json.loads(body))

    @property
    def places(self) -> list[tuple[str, int]]:
        events = [json.loads(body) for _, _, body, _ in self.sent]
        return [(event["subject"], event["data"]["seq"]) for event in events]


async def _nothing() -> None:
    """What a sender that is closed elsewhere has to close."""


class Hooked:
    """A core over embedded tiers, and processes that deliver for it."""

    def __init__(self, warm: Any, core: Core, clock: Callable[[], float]) -> None:
        self.warm: Any = warm
        self.core = core
        self.clock = clock
        self.secrets = Secrets(MASTER, random.SystemRandom().randbytes)
        self.registry = HookRegistry(warm, self.secrets, random.SystemRandom().randbytes)
        self.heard = Heard()
        self.outgoings: list[Outgoing] = []

    def sender(self, networks: Sequence[str] = LOOPBACK, *, lookup: Resolve = resolve, seconds: float = 5.0) -> Sender:
        """One that really sends; where it may."""
        outgoing = Outgoing(Destinations(networks), lookup=lookup, seconds=seconds)
        self.outgoings.append(outgoing)
        return Sender(outgoing, self.secrets, self.warm.now)

    def process(
        self, sending: Sending, limits: WebhookLimits = QUICK, *, owner: str = "one", warm: Any = None, seed: int = 1
    ) -> Webhooks:
        """The webhooks of one process."""
        tier: Any = warm if warm is not None else self.warm
        registry = HookRegistry(tier, self.secrets, random.SystemRandom().randbytes)
        return Webhooks(
            Means(tier, self.core.reads, registry, sending, self.heard, _nothing),
            owner,
            limits=limits,
            rng=random.Random(seed),
            clock=asyncio.get_running_loop().time,
        )

    async def hook(self, url: str, tenant: str = "acme", **wanted: Any) -> tuple[Hook, str]:
        """A new hook, and its secret."""
        made = await self.registry.create(tenant, WantedHook(url=url, **wanted), "alice", self.asked())
        assert made.secret is not None
        return made.hook, made.secret

    async def left_of(self, hook: Hook) -> int:
        """Records of its deliveries."""
        kinds = ("webhook-place", "webhook-letter")
        return sum([len(await self.warm.list_records(hook.tenant, kind, prefix=f"{hook.id}/")) for kind in kinds])

    async def until(self, holds: Callable[[], Awaitable[object]], what: str = "it") -> None:
        """Let the loop go on until what is asked for is so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():  # noqa: ASYNC110 - what it waits for is not ours to set
                await asyncio.sleep(0.005)

    def asked(self) -> Asked:
        return Asked(None, self.warm.now(), False)


@asynccontextmanager
async def hooked(folder: Path) -> AsyncGenerator[Hooked]:
    """Embedded tiers in `folder`."""
    async with (
        open_sqlite(f"sqlite:///{folder}/warm.db", commit_in="loop") as sqlite,
        open_directory(f"file://{folder}/cold", threads=1) as cold,
    ):
        running = _hooked(sqlite, cold, time.time)
        try:
            yield running
        finally:
            for outgoing in running.outgoings:
                await outgoing.aclose()


def hooked_for_days() -> Hooked:
    """Model tiers on the time of the running loop, which may be a virtual one."""
    loop = asyncio.get_running_loop()

    def clock() -> float:
        return NOW + loop.time()

    return _hooked(ModelWarm(lambda: instants.from_ms(round(clock() * 1000))), ModelCold(), clock)


def _hooked(tier: Warm, cold: Cold, clock: Callable[[], float]) -> Hooked:
    warm: Any = Faulty(tier)
    hot = MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), clock)
    draw = random.SystemRandom().randbytes
    return Hooked(warm, build_core(hot, warm, cold, MASTER, CoreSettings(policy=POLICY), random_bytes=draw), clock)


@asynccontextmanager
async def delivering(*processes: Webhooks) -> AsyncGenerator[None]:
    """They run, and stop as a SIGTERM would stop them."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(process.run(stop)) for process in processes]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)
