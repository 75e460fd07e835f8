"""How soon a call goes on when something between the caller and the session dies: promised within a second.

A whole call at the simulated VoiceAI Connect: service, bridge, model and carrier in this process, so that one core does
all their work; bridges that are killed are processes. Each figure is the worst of its runs, from the loss until the
bridge has accepted the call anew; the carrier's own pause before it calls again, 100 ms, is in it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from sessionmanager.simulate.audiocodes.phone import VaicCall, dial
from sessionmanager.simulate.calling.script import Listen, Say
from tests.bench.rows import Plan, Row, row
from tests.bridges.carriers import VAIC, audiocodes, play, vaic
from tests.bridges.plug_functions import FOLDER
from tests.bridges.replicas import balanced
from tests.bridges.rig import BALANCE, Rig, rig
from tests.client.proxy import proxy

RUNS: Final = 5
LOOK_SECONDS: Final = 0.001
PATIENCE_SECONDS: Final = 60.0
TARGET: Final = "<= 1000"


def rows(plan: Plan) -> list[Row]:
    return asyncio.run(_rows(1 if plan.quick else RUNS))


async def _rows(runs: int) -> list[Row]:
    async with rig() as calls:
        return [
            await _row("the carrier's socket is lost", runs, lambda: _carrier(calls)),
            await _row("the same in mid-answer, to the first sound", runs, lambda: _answer(calls)),
            await _row("the model's socket is lost, to its history at the next", runs, lambda: _model(calls)),
            await _row("the bridge's process is killed", runs, lambda: _process(calls)),
            await _row("the service is away, from its return", runs, lambda: _service(calls)),
        ]


async def _row(name: str, runs: int, measure: Callable[[], Coroutine[Any, Any, float]]) -> Row:
    worst = max([await asyncio.wait_for(measure(), PATIENCE_SECONDS) for _ in range(runs)])
    return row(f"bridges: a call goes on after {name}, worst of {runs}", worst * 1e3, "ms", target=TARGET)


@asynccontextmanager
async def _called(calls: Rig, address: str | None = None) -> AsyncGenerator[VaicCall]:
    """A call of its own that was greeted."""
    async with audiocodes(calls, address=address) as (served, _), vaic(served, f"call-{time.monotonic_ns()}") as phone:
        await play(phone, Listen())
        yield phone


async def _until(holds: Callable[[], bool]) -> None:
    while True:
        if holds():
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _seconds(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _carrier(calls: Rig) -> float:
    async with _called(calls) as phone:
        await phone.drop()
        return phone.resume_seconds[0]


async def _answer(calls: Rig) -> float:
    async with _called(calls) as phone:
        await play(phone, Say(BALANCE))
        await phone.ear.until_words()
        phone.cut()
        began = time.perf_counter()
        await _until(lambda: phone.resumes == 1)
        await _until(lambda: phone.ear.is_playing)
        return time.perf_counter() - began


async def _model(calls: Rig) -> float:
    async with _called(calls):
        count = len(calls.model.connections)
        calls.model.kill()
        known = len(calls.model.connections[-1].items)
        return await _seconds(
            _until(lambda: len(calls.model.connections) > count and len(calls.model.connections[-1].items) >= known)
        )


async def _process(calls: Rig) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            balanced(calls, 2, {FOLDER: folder}) as bridges,
            dial(bridges.url, VAIC, f"call-{time.monotonic_ns()}") as phone,
        ):
            await play(phone, Listen())
            bridges.replicas[0].kill()
            await _until(lambda: phone.resumes == 1)
            return phone.resume_seconds[0]


async def _service(calls: Rig) -> float:
    async with proxy(random.Random(1)) as line:
        line.upstream = calls.service.address
        async with _called(calls, line.address) as phone:
            line.upstream = None
            await line.close()
            phone.cut()
            # The carrier has called again, and the bridge waits for the service.
            await asyncio.sleep(2 * VAIC.again_seconds)
            line.upstream = calls.service.address
            return await _seconds(_until(lambda: phone.resumes == 1))
