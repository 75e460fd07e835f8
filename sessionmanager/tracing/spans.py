"""What is going on, for whoever traces. With nobody tracing each of these is one look-up.

The tracer and the span at hand are of the context, as deadlines are: tasks inherit them. Names of attributes are those
of OpenTelemetry's semantic conventions; none of them holds what was said, a tenant, or an id that is no trace's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Final, Literal, Protocol

Kind = Literal["server", "client", "internal", "consumer"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """One piece of work that has begun. trace_id: 32 hex digits; None where this one is not kept."""

    @property
    def trace_id(self) -> str | None: ...

    def headers(self) -> dict[str, str]:
        """What tells another process of it (W3C Trace Context)."""
        ...

    def named(self, name: str, attributes: Attributes) -> None:
        """Its name and what is known of it by now."""
        ...

    def end(self, *, failed: bool) -> None: ...


class Tracer(Protocol):
    """Whoever takes spans."""

    def begin(self, name: str, kind: Kind, parent: Span | None, headers: Mapping[str, str] | None) -> Span:
        """A span under `parent`, or under the one that another process told in `headers`."""
        ...

    def finished(self, name: str, parent: Span, seconds: float, attributes: Attributes, *, failed: bool) -> None:
        """A call that has ended now and took so long."""
        ...


_tracer: Final[ContextVar[Tracer | None]] = ContextVar("tracer", default=None)
_span: Final[ContextVar[Span | None]] = ContextVar("span", default=None)


def trace_by(tracer: Tracer | None) -> None:
    """For everything that this context begins from now on."""
    _tracer.set(tracer)


def is_traced() -> bool:
    return _tracer.get() is not None


@contextmanager
def span(name: str, kind: Kind = "internal", headers: Mapping[str, str] | None = None) -> Generator[Span | None]:
    """A piece of work, until the end of the block; failed where that ends with an exception. None: nobody traces."""
    tracer = _tracer.get()
    if tracer is None:
        yield None
        return
    begun = tracer.begin(name, kind, _span.get(), headers)
    token = _span.set(begun)
    failed = True
    try:
        yield begun
        failed = False
    finally:
        _span.reset(token)
        begun.end(failed=failed)


def finished(name: str, seconds: float, attributes: Attributes, *, failed: bool) -> None:
    """A call within the span at hand has ended; nothing where there is none."""
    tracer, parent = _tracer.get(), _span.get()
    if tracer is not None and parent is not None:
        tracer.finished(name, parent, seconds, attributes, failed=failed)


def trace_id() -> str | None:
    """Of the span at hand, for log lines and exemplars."""
    current = _span.get()
    return None if current is None else current.trace_id


def traceparent() -> str | None:
    """What tells another process of the span at hand in one line; None where there is none, or it is not kept."""
    current = _span.get()
    return None if current is None or current.trace_id is None else current.headers().get("traceparent")


def untied() -> Context:
    """A context for work that goes on after whoever began it: who traces is all that it has of theirs."""
    context, tracer = Context(), _tracer.get()
    if tracer is not None:
        context.run(_tracer.set, tracer)
    return context


def told_headers() -> dict[str, str]:
    """What a request to another process carries of the span at hand; empty where there is none."""
    current = _span.get()
    return {} if current is None else current.headers()
