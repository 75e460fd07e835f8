"""A real LiveKit for tests: where it is, who joins it, what it tells, and waiting until a session agrees with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.support.live import Live, live
from tests.support.server import NO_TLS

PATIENCE_SECONDS: Final = 60.0
"""A wait that takes so long has failed; it is no time that anything is expected to take."""
LOOK_SECONDS: Final = 0.05
SYNC_SECONDS: Final = 0.5
"""Between two looks at a room, in tests; a LiveKit beside us answers in milliseconds."""
FORWARD_SECONDS: Final = 20.0
CONNECT_TRIES: Final = 3


class LiveKitAddress(NamedTuple):
    """ws: for participants. http: for its API. webhooks: the port to which it sends them."""

    ws: str
    http: str
    key: str
    secret: str
    webhooks: int

    def settings(self, **more: str) -> dict[str, str]:
        """The service's settings for this LiveKit."""
        return {
            "livekit_server_url": self.ws,
            "livekit_api_key": self.key,
            "livekit_api_secret": self.secret,
            "room_sync_seconds": str(SYNC_SECONDS),
            **more,
        }


def livekit_address(url: str) -> LiveKitAddress:
    """An address as the recipe tells it, taken apart."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port}"
    assert parts.username is not None
    assert parts.password is not None
    port = int(parse_qs(parts.query).get("webhooks", ["0"])[0])
    return LiveKitAddress(f"ws://{place}", f"http://{place}", parts.username, parts.password, port)


async def until(holds: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `holds` answers, once that is something."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while True:
        found = await holds()
        if found:
            return found
        assert loop.time() < deadline, f"{what} did not come about within {PATIENCE_SECONDS:g} s"
        await asyncio.sleep(LOOK_SECONDS)


class Session:
    """One session of a live service, and its room."""

    def __init__(self, service: Live, session_id: str) -> None:
        self.service = service
        self.id = session_id

    async def read(self) -> dict[str, Any]:
        found = await self.service.http.get(f"/sessions/{self.id}")
        assert found.status_code == 200, found.text
        return found.json()

    async def post(self, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        done = await self.service.http.post(f"/sessions/{self.id}{path}", json={} if body is None else body)
        assert done.status_code == status, f"{done.status_code} {done.text}"
        return done.json()

    async def attach(self, identity: str, kind: str = "client", **more: Any) -> dict[str, Any]:
        """Join the session; answers the whole answer, with `livekit` in it."""
        body = {"kind": kind, "identity": identity, **more}
        done = await self.service.http.post(f"/sessions/{self.id}/participants", json=body)
        assert done.status_code in (200, 201), done.text
        return done.json()

    async def entries(self, *types: str) -> list[dict[str, Any]]:
        found = await self.service.http.get(f"/sessions/{self.id}/entries", params={"limit": 200})
        assert found.status_code == 200, found.text
        return [one for one in found.json()["items"] if not types or one["type"] in types]

    async def people(self) -> dict[str, dict[str, Any]]:
        """Participants by identity."""
        return {one["identity"]: one for one in (await self.read())["participants"]}

    async def until_open(self, sync_state: str = "active") -> dict[str, Any]:
        """Its room, once that is so."""

        async def look() -> dict[str, Any] | None:
            room = (await self.read())["room"]
            return room if room is not None and room["sync_state"] == sync_state else None

        return await until(look, f"room {sync_state}")

    async def until_in(self, *identities: str) -> None:
        """Exactly these are in the room, as the session sees it."""

        async def look() -> bool:
            return {name for name, one in (await self.people()).items() if one["room_sid"]} == set(identities)

        await until(look, f"{identities} in the room")

    async def until_status(self, identity: str, status: str) -> None:
        async def look() -> bool:
            return (await self.people()).get(identity, {}).get("status") == status

        await until(look, f"{identity} {status}")

    async def until_session(self, status: str) -> None:
        async def look() -> bool:
            return (await self.read())["status"] == status

        await until(look, f"session {status}")


class Joiner:
    """A real participant. heard: (topic, bytes) of data that came."""

    def __init__(self, access: Mapping[str, str]) -> None:
        from livekit import rtc

        self.access = access
        self.heard: list[tuple[str, bytes]] = []
        self._made = rtc
        self.room = self._room()

    def _room(self) -> Any:
        room = self._made.Room()
        room.on("data_received", self._hear)
        return room

    def _hear(self, packet: Any) -> None:
        self.heard.append((packet.topic or "", bytes(packet.data)))

    async def connect(self, tries: int = CONNECT_TRIES) -> None:
        """On a busy machine the media of a good token may not come up in the time that the SDK allows: then anew."""
        for left in reversed(range(tries)):
            try:
                await self.room.connect(self.access["url"], self.access["token"])
            except self._made.ConnectError:
                if not left:
                    raise
                self.room = self._room()
            else:
                return

    async def say(self, text: str, topic: str = "talk") -> None:
        await self.room.local_participant.publish_data(text, topic=topic)

    async def open_microphone(self, *, muted: bool = False) -> None:
        """Publish silence, as a microphone."""
        from livekit import rtc

        source = rtc.AudioSource(48_000, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self.room.local_participant.publish_track(track, options)
        if muted:
            track.mute()

    async def until_heard(self, topic: str, holds: Callable[[bytes], bool] = lambda data: True) -> bytes:
        async def look() -> bytes | None:
            return next((data for name, data in self.heard if name == topic and holds(data)), None)

        return await until(look, f"data of {topic}")


@asynccontextmanager
async def joined(access: Mapping[str, str]) -> AsyncGenerator[Joiner]:
    """Somebody in the room, who leaves with the block."""
    joiner = Joiner(access)
    await joiner.connect()
    try:
        yield joiner
    finally:
        with suppress(Exception):  # a server that is gone is left, too
            await joiner.room.disconnect()


# -- webhooks


class Relay:
    """Stands where LiveKit sends its webhooks and hands them on. share: of those that are dropped, of those that are
    sent twice, and of those that come late and so after others; the rest comes at once."""

    def __init__(self, target: str, rng: random.Random, share: float = 0.0) -> None:
        self.target = target
        self.share = share
        self.came = 0
        self.answers: list[int] = []
        self._rng = rng
        self._client = httpx2.AsyncClient(trust_env=False, timeout=FORWARD_SECONDS, verify=NO_TLS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[asyncio.StreamWriter] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of LiveKit's; each request is answered with 200, whatever becomes of it."""
        self._lines.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ": " in line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(headers["content-length"]))
                self.came += 1
                self._send(self._forward(headers, body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        self._lines.discard(writer)
        writer.close()

    def _send(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, headers: Mapping[str, str], body: bytes) -> None:
        fate = self._rng.random()
        if fate < self.share:
            return
        twice, late = fate < 2 * self.share, fate < 3 * self.share
        if late and not twice:
            await asyncio.sleep(self._rng.random() * 3 * SYNC_SECONDS)
        given = {name: headers[name] for name in ("authorization", "content-type")}
        for _ in range(1 + twice):
            with suppress(httpx2.HTTPError):
                answer = await self._client.post(f"{self.target}/livekit/webhook", content=body, headers=given)
                self.answers.append(answer.status_code)

    async def aclose(self) -> None:
        """Take nothing more, and hand on what came: a request that is cut leaves its connection open."""
        for line in tuple(self._lines):
            line.close()
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._client.aclose()


@asynccontextmanager
async def relayed(address: LiveKitAddress, target: str, *, seed: int = 0, share: float = 0.0) -> AsyncGenerator[Relay]:
    """LiveKit's webhooks go to the service at `target`."""
    relay = Relay(target, random.Random(seed), share)
    server = await asyncio.start_server(relay.take, "127.0.0.1", address.webhooks)
    try:
        yield relay
    finally:
        server.close()
        await relay.aclose()


@asynccontextmanager
async def roomy(
    address: LiveKitAddress, *, webhooks: bool = False, share: float = 0.0, seed: int = 0, **changes: str
) -> AsyncGenerator[tuple[Live, Relay | None]]:
    """A service with rooms at this LiveKit. webhooks: whether it hears what LiveKit tells."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(live(**address.settings(**changes)))
        relay = None
        if webhooks:
            relay = await stack.enter_async_context(relayed(address, service.address, seed=seed, share=share))
        yield service, relay
