"""A live entry says the trace of the request that wrote it, over either kind of feed; what is read later says none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from sessionmanager.tracing.spans import Attributes, Kind, Span, trace_by
from tests.support.live import Live, live
from tests.support.sockets import opened

pytestmark = pytest.mark.contract


class OneSpan:
    """A tracer whose spans are all one."""

    LINE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    def begin(self, name: str, kind: Kind, parent: Span | None, headers: Mapping[str, str] | None) -> OneSpan:
        return self

    def finished(self, name: str, parent: Span, seconds: float, attributes: Attributes, *, failed: bool) -> None: ...

    def headers(self) -> dict[str, str]:
        return {"traceparent": self.LINE}

    def named(self, name: str, attributes: Attributes) -> None: ...

    def end(self, *, failed: bool) -> None: ...


@pytest.fixture
async def service() -> AsyncIterator[Live]:
    trace_by(OneSpan())
    try:
        async with live() as running:
            yield running
    finally:
        trace_by(None)


async def test_over_a_websocket_it_is_a_member_of_the_frame(service: Live) -> None:
    await service.create("traced")
    async with opened(service, "/sessions/traced/ws") as client:
        await client.until("hello")
        await service.say("traced", "hi")
        assert (await client.until("entry"))["traceparent"] == OneSpan.LINE
    async with opened(service, "/sessions/traced/ws?after=0") as client:
        assert "traceparent" not in await client.until("entry")


async def test_over_server_sent_events_it_is_a_field_beside_the_bytes_of_the_entry(service: Live) -> None:
    await service.create("traced")
    async with service.http.stream("GET", "/sessions/traced/events") as stream:
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("data:"):  # of the hello
            pass
        await service.say("traced", "hi")
        while not (await anext(lines)).startswith("id:"):
            pass
        event, trace, data = [await anext(lines) for _ in range(3)]
    assert (event, trace) == ("event: status", f"traceparent: {OneSpan.LINE}")
    page = (await service.http.get("/sessions/traced/entries")).text
    assert data.removeprefix("data: ") in page
    async with service.http.stream("GET", "/sessions/traced/events?after=0") as stream:
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("id:"):
            pass
        assert [(await anext(lines)).split(":")[0] for _ in range(2)] == ["event", "data"]
