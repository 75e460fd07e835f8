"""Spans to an OpenTelemetry collector, by OTLP over HTTP, from a bounded queue and a thread of its own.

Imported where traces are on alone: the packages are the extra `otel`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sessionmanager import __version__
from sessionmanager.tracing.spans import Attributes, Kind, Span

QUEUE_MAX: Final = 4096
"""Spans that wait; what comes beyond is dropped, and no request waits for it."""
EXPORT_SECONDS: Final = 5.0
FLUSH_MILLISECONDS: Final = 3000
KINDS: Final = {
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "internal": trace.SpanKind.INTERNAL,
    "consumer": trace.SpanKind.CONSUMER,
}
_propagator: Final = TraceContextTextMapPropagator()


class OtelSpan:
    """A span of the SDK as the service sees it."""

    __slots__ = ("inner",)

    def __init__(self, inner: trace.Span) -> None:
        self.inner = inner

    @property
    def trace_id(self) -> str | None:
        """None where this trace is not sampled: an exemplar that leads nowhere helps nobody."""
        found = self.inner.get_span_context()
        return trace.format_trace_id(found.trace_id) if found.trace_flags.sampled else None

    def headers(self) -> dict[str, str]:
        told: dict[str, str] = {}
        _propagator.inject(told, context=trace.set_span_in_context(self.inner))
        return told

    def named(self, name: str, attributes: Attributes) -> None:
        self.inner.update_name(name)
        self.inner.set_attributes(attributes)

    def end(self, *, failed: bool) -> None:
        if failed:
            self.inner.set_status(trace.StatusCode.ERROR)
        self.inner.end()


class OtelTracer:
    """One a process. `close` sends what is left, for at most a few seconds; it blocks.

    Args: endpoint: of the collector, to which `/v1/traces` is added. share: of traces that nobody else has decided on
    and that are kept, 0 to 1.
    """

    def __init__(self, endpoint: str, service_name: str, share: float) -> None:
        resource = Resource.create({"service.name": service_name, "service.version": __version__})
        self._provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_MAX))
        self._tracer = self._provider.get_tracer("sessionmanager", __version__)

    def begin(self, name: str, kind: Kind, parent: Span | None, headers: Mapping[str, str] | None) -> OtelSpan:
        if isinstance(parent, OtelSpan):
            context = trace.set_span_in_context(parent.inner)
        else:
            context = _propagator.extract(headers or {})
        return OtelSpan(self._tracer.start_span(name, context, KINDS[kind]))

    def finished(self, name: str, parent: Span, seconds: float, attributes: Attributes, *, failed: bool) -> None:
        if not isinstance(parent, OtelSpan) or not parent.inner.is_recording():
            return
        now = time.time_ns()
        inner = self._tracer.start_span(
            name,
            trace.set_span_in_context(parent.inner),
            KINDS["client"],
            attributes=attributes,
            start_time=now - round(seconds * 1e9),
        )
        if failed:
            inner.set_status(trace.StatusCode.ERROR)
        inner.end(now)

    def close(self) -> None:
        self._provider.force_flush(FLUSH_MILLISECONDS)
        self._provider.shutdown()
