"""What a bridge costs a call: how much later a frame arrives, how many calls a core carries, how soon a model knows the
conversation after a resume, however long that is.

Frames and calls are measured between a line and a model of this process, which do nothing, so that what is told is the
base's own; a resume is measured with the simulated model behind its WebSocket and the service as a process.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from sessionmanager.bridges.bridge import Bridge, open_bridge
from sessionmanager.bridges.carrier import Arrival, Noticed, Piece, Token
from sessionmanager.bridges.media.formats import RAW_LPCM16, RAW_LPCM16_24, RAW_MULAW, MediaFormat
from sessionmanager.bridges.options import BridgeOptions
from sessionmanager.bridges.realtime.connection import RealtimeModel
from sessionmanager.bridges.upstream import (
    Connection,
    Identity,
    Model,
    ModelEvent,
    Setup,
    Skipped,
    Sound,
    SpeechStarted,
)
from sessionmanager.client import AsyncClient
from sessionmanager.simulate.realtime.server import SimulatedModel, open_model
from tests.bench import reattach
from tests.bench.corpus import Dialogue
from tests.bench.embedded import scratch
from tests.bench.rows import Plan, Row, row
from tests.bench.servers import Server, service

FRAME_MS: Final = 20
CALLS: Final = 16
LOOK_SECONDS: Final = 0.001
RESUMES: Final = 5
BATCH: Final = 256


class NoModel:
    """A model and its connection that note when sound arrives, and say what is put into `told`."""

    def __init__(self, media: MediaFormat) -> None:
        self.identity = Identity()
        self.arrived = 0.0
        self.told: asyncio.Queue[ModelEvent] = asyncio.Queue()
        self._media = media

    def media_for(self, line: MediaFormat) -> MediaFormat:
        return self._media

    def connect(self, setup: Setup) -> AbstractAsyncContextManager[Connection]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[Connection]:
        yield self

    async def seed(self, items: Sequence[Mapping[str, Any]]) -> list[Skipped]:
        return []

    async def events(self) -> AsyncIterator[ModelEvent]:
        while True:
            yield await self.told.get()

    async def hear(self, audio: bytes) -> None:
        self.arrived = time.perf_counter()

    async def turn_over(self) -> None: ...
    async def add(self, item: Mapping[str, Any]) -> None: ...
    async def respond(self, instructions: str | None = None) -> None: ...
    async def cancel(self) -> None: ...
    async def truncate(self, item: str, heard_ms: int) -> None: ...
    async def forget(self, item: str) -> None: ...


class NoLine:
    """A line that notes when sound arrives."""

    marks = False

    def __init__(self, media: MediaFormat) -> None:
        self.media: MediaFormat | None = media
        self.arrived = asyncio.Event()

    async def play(self, piece: Piece) -> None:
        self.arrived.set()

    async def show(self, token: Token) -> None: ...
    async def finish(self, utterance: str) -> None: ...
    async def clear(self) -> None: ...
    async def notice(self, noticed: Noticed) -> None: ...
    async def end(self, reason: str) -> None: ...
    async def transfer(self, target: str, reason: str) -> None: ...
    async def send_digits(self, digits: str) -> None: ...


def rows(plan: Plan) -> list[Row]:
    with scratch() as folder, service(folder / "data") as server:
        return [*asyncio.run(_rows(plan, server)), *reattach.rows(plan)]


async def _rows(plan: Plan, server: Server) -> list[Row]:
    address = f"http://127.0.0.1:{server.port}"
    async with AsyncClient(address, server.token) as client:
        found = [
            *await _frames(plan, client, RAW_MULAW, RAW_MULAW),
            *await _frames(plan, client, RAW_LPCM16, RAW_LPCM16_24),
        ]
        found.append(await _calls(plan, client))
        found += [await _kept(plan, client, RAW_MULAW), await _kept(plan, client, RAW_LPCM16_24)]
        async with open_model() as model:
            lengths = (10, 100) if plan.quick else (10, 1_000, 100_000)
            found += [await _resume(plan, client, model, lines) for lines in lengths]
        return found


@asynccontextmanager
async def _bridge(client: AsyncClient, model: Model, checkpoint_seconds: float = 1.0) -> AsyncGenerator[Bridge]:
    options = BridgeOptions(note_seconds=1.0, checkpoint_seconds=checkpoint_seconds)
    async with open_bridge(client, model, options=options) as bridge:
        yield bridge


def _arrival(name: str) -> Arrival:
    return Arrival(conversation=name, gateway="twilio", gateway_call_id=name)


async def _frames(plan: Plan, client: AsyncClient, line_media: MediaFormat, media: MediaFormat) -> list[Row]:
    """Frame by frame, both ways."""
    model, line, count = NoModel(media), NoLine(line_media), 20 if plan.quick else 2_000
    there: list[float] = []
    back: list[float] = []
    frame, piece = line_media.size_of(FRAME_MS) * b"\x01", media.size_of(FRAME_MS) * b"\x01"
    name = f"{line_media.name} and {media.name}"
    async with _bridge(client, model) as bridge, bridge.take(_arrival(f"frames-{line_media.rate}"), line) as call:
        while not model.arrived:
            await call.hear(frame)
            await asyncio.sleep(LOOK_SECONDS)
        await model.told.put(Sound("item", piece))
        await line.arrived.wait()
        for _ in range(count):
            began, model.arrived = time.perf_counter(), 0.0
            await call.hear(frame)
            there.append((model.arrived or time.perf_counter()) - began)
            line.arrived.clear()
            began = time.perf_counter()
            await model.told.put(Sound("item", piece))
            await line.arrived.wait()
            back.append(time.perf_counter() - began)
    return [
        row(
            f"bridges: added to a frame from the caller, p50, {name}",
            statistics.median(there) * 1e3,
            "ms",
            target="< 1",
        ),
        row(f"bridges: added to a frame to the caller, p50, {name}", statistics.median(back) * 1e3, "ms", target="< 1"),
    ]


async def _calls(plan: Plan, client: AsyncClient) -> Row:
    """Calls that speak and hear all the time, in frames as they come; processor of this process a second and call."""
    seconds = 0.5 if plan.quick else 10.0
    calls = 2 if plan.quick else CALLS

    async def talk(bridge: Bridge, model: NoModel, n: int) -> None:
        line = NoLine(RAW_MULAW)
        frame = line.media.size_of(FRAME_MS) * b"\x01" if line.media else b""
        async with bridge.take(_arrival(f"talk-{n}"), line) as call:
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                await call.hear(frame)
                await model.told.put(Sound("item", frame))
                await asyncio.sleep(FRAME_MS / 1000)

    async def one(n: int) -> None:
        model = NoModel(RAW_MULAW)
        async with _bridge(client, model) as bridge:
            await talk(bridge, model, n)

    began = time.process_time()
    await asyncio.gather(*(one(n) for n in range(calls)))
    spent = time.process_time() - began
    return row("bridges: calls a core carries, both sides speaking", seconds * calls / max(spent, 1e-6), "calls")


async def _kept(plan: Plan, client: AsyncClient, media: MediaFormat) -> Row:
    """Callers who speak on and on: what it costs this process to give the service what they say, once a second."""
    seconds, calls = (0.5, 2) if plan.quick else (10.0, CALLS)

    async def speak(name: str, checkpoint_seconds: float) -> None:
        model, frame = NoModel(media), media.size_of(FRAME_MS) * b"\x01"
        async with (
            _bridge(client, model, checkpoint_seconds) as bridge,
            bridge.take(_arrival(name), NoLine(media)) as call,
        ):
            await model.told.put(SpeechStarted("turn"))
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                await call.hear(frame)
                await asyncio.sleep(FRAME_MS / 1000)

    async def spent(every: float) -> float:
        began = time.process_time()
        await asyncio.gather(*(speak(f"kept-{media.rate}-{every}-{n}", every) for n in range(calls)))
        return time.process_time() - began

    without = await spent(0.0)
    more = (await spent(min(1.0, seconds / 2)) - without) / seconds / calls
    name = f"bridges: processor for a second of speech that is kept, turns of {seconds:g} s, {media.name}"
    return row(name, more * 1e3, "ms")


async def _has_items(model: SimulatedModel) -> None:
    while True:
        if len(model.connections[-1].items):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _resume(plan: Plan, client: AsyncClient, model: SimulatedModel, lines: int) -> Row:
    """From the arrival to the first item of the history at the model."""
    name = f"resume-{lines}"
    await client.create(id=name)
    said = Dialogue(lines)
    for at in range(0, lines, BATCH):
        await client.append(name, said.drafts(min(BATCH, lines - at)))
    times: list[float] = []
    async with _bridge(client, RealtimeModel(model.url)) as bridge:
        for _ in range(1 if plan.quick else RESUMES):
            count = len(model.connections)
            began = time.perf_counter()
            async with bridge.take(_arrival(name), NoLine(RAW_MULAW)):
                await model.connected(count + 1)
                await _has_items(model)
                times.append(time.perf_counter() - began)
    shown = f"{lines:,} entries"
    return row(f"bridges: from a resume to the first item at the model, {shown}", statistics.median(times) * 1e3, "ms")
