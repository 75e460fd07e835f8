"""A commit's trace goes with the bell to whoever follows: into a span of the delivery, and with that commit's lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from sessionmanager.core.build import Amendment
from sessionmanager.core.feed.reader import TRACES_MAX
from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.protocol import Ring
from sessionmanager.tracing.spans import Attributes, Kind, Span, span, trace_by
from tests.support import scenes
from tests.support.feeds import KEY, Fed, fed, lines, until
from tests.support.hot_builders import ring
from tests.support.scenes import talk

pytestmark = pytest.mark.contract


class Recorded:
    """A span. told: the `traceparent` that it goes on with, where another process told it."""

    def __init__(
        self, number: int, name: str, kind: Kind, parent: Span | None, told: str | None, *, kept: bool
    ) -> None:
        self.name = name
        self.kind = kind
        self.parent = parent
        self.told = told
        self.failed: bool | None = None
        self._number = number
        self._kept = kept

    @property
    def trace_id(self) -> str | None:
        return f"{self._number:032x}" if self._kept else None

    @property
    def line(self) -> str:
        return f"00-{self._number:032x}-{self._number:016x}-{'01' if self._kept else '00'}"

    def headers(self) -> dict[str, str]:
        return {"traceparent": self.line}

    def named(self, name: str, attributes: Attributes) -> None: ...

    def end(self, *, failed: bool) -> None:
        self.failed = failed


class Recorder:
    """A tracer. calls: what ended within which span."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.spans: list[Recorded] = []
        self.calls: list[tuple[str, Span]] = []
        self._keeps = keeps
        self._numbers = count(1)

    def begin(self, name: str, kind: Kind, parent: Span | None, headers: Mapping[str, str] | None) -> Recorded:
        told = (headers or {}).get("traceparent")
        self.spans.append(Recorded(next(self._numbers), name, kind, parent, told, kept=self._keeps))
        return self.spans[-1]

    def finished(self, name: str, parent: Span, seconds: float, attributes: Attributes, *, failed: bool) -> None:
        self.calls.append((name, parent))

    def deliveries(self) -> list[Recorded]:
        return [one for one in self.spans if one.name == "feed.deliver"]


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Fed]:
    async with fed(folder) as running:
        await scenes.begin(running.core, KEY)
        yield running


@contextmanager
def traced(tracer: Recorder) -> Generator[None]:
    trace_by(tracer)
    try:
        yield
    finally:
        trace_by(None)


async def test_the_lines_of_a_commit_come_with_its_trace_and_their_delivery_is_a_span_of_it(world: Fed) -> None:
    tracer = Recorder()
    with traced(tracer):
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        with span("request", "server") as request:
            await talk(world.core, KEY, 1)
    assert isinstance(request, Recorded)
    [line] = await lines(source, source.after + 1)
    assert line.trace == request.line
    await until(lambda: len(tracer.deliveries()) == 1 and tracer.deliveries()[0].failed is False)
    with traced(tracer):
        await talk(world.core, KEY, 1, first=2)
    assert [line.trace for line in await lines(source, source.after + 1)] == [None]
    [delivery] = tracer.deliveries()
    assert (delivery.told, delivery.parent, delivery.kind) == (request.line, None, "consumer")


async def test_each_line_has_the_trace_of_its_own_commit_also_where_one_look_finds_several(world: Fed) -> None:
    requests = list[Recorded]()
    with traced(Recorder()):
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        held = world.warm.hold_before("read")
        for i in range(3):
            with span("request", "server") as request:
                await talk(world.core, KEY, 1, first=i)
            assert isinstance(request, Recorded)
            requests.append(request)
            await held.reached.wait()
        await talk(world.core, KEY, 1, first=3)
    held.release()
    got = await lines(source, source.after + 4)
    assert [line.trace for line in got] == [*(request.line for request in requests), None]


async def test_what_is_read_from_the_log_later_has_no_trace(world: Fed) -> None:
    with traced(Recorder()), span("request", "server"):
        await talk(world.core, KEY, 2)
        source = await world.follow(after=0)
        assert {line.trace for line in await lines(source, source.newest)} == {None}


async def test_a_request_that_is_not_kept_rings_without_a_trace(world: Fed) -> None:
    tracer = Recorder(keeps=False)
    with traced(tracer):
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        with span("request", "server"):
            await talk(world.core, KEY, 1)
    assert [line.trace for line in await lines(source, source.after + 1)] == [None]
    assert tracer.deliveries() == []


async def test_where_nobody_traces_no_line_has_a_trace(world: Fed) -> None:
    source = await world.follow()
    await until(lambda: world.hot.listening == 1)
    with span("request", "server"):
        await talk(world.core, KEY, 1)
    assert [line.trace for line in await lines(source, source.after + 1)] == [None]


async def test_what_makes_no_version_rings_without_a_trace(world: Fed) -> None:
    """Else the lines of another request's version could be told as if this one had written them."""
    async with world.hot.listen(KEY) as rings:
        with traced(Recorder()), span("request", "server"):
            await world.core.ledger.amend(KEY, lambda stored, now: Amendment(stored.head, placement=stored.placement))
        ring = await anext(rings)
        assert isinstance(ring, Ring)
        assert ring.trace is None


async def test_a_delivery_that_fails_keeps_the_trace_for_the_next_try(world: Fed) -> None:
    tracer = Recorder()
    with traced(tracer):
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        world.warm.fail_before("read", TierUnavailable("warm"))
        with span("request", "server") as request:
            await talk(world.core, KEY, 1)
    assert isinstance(request, Recorded)
    assert [line.trace for line in await lines(source, source.after + 1)] == [request.line]
    await until(lambda: [one.failed for one in tracer.deliveries()] == [True, False])


async def test_traces_that_ring_and_lead_nowhere_are_bounded_and_harm_no_line(world: Fed) -> None:
    with traced(Recorder()):
        source = await world.follow()
        await until(lambda: world.hot.listening == 1)
        held = world.warm.hold_before("read")
        with span("request", "server") as request:
            await talk(world.core, KEY, 1)
            await held.reached.wait()
            assert isinstance(request, Recorded)
            for version in range(1000, 1000 + TRACES_MAX):
                await ring(world.core.ledger.hot, KEY, version, request.line)
                await asyncio.sleep(0)
    held.release()
    assert [line.trace for line in await lines(source, source.after + 1)] == [None]
