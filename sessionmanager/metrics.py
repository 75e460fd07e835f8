"""Counts and times, on a registry that is handed in. What there is, and its names, stands in `telemetry.py`.

Children are looked up in a plain dictionary rather than by `labels()`, so that an observation costs under 1 µs.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Samples
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from sessionmanager import __version__
from sessionmanager.telemetry import BREAKER_STATES, EVENTS, METRICS, OTHER, TIERS, Metric
from sessionmanager.tracing.spans import finished, is_traced, trace_id
from sessionmanager.words import LIVE_CALL_STATES, PLACEMENTS, STATUSES, TierName

CHILDREN_MAX: Final = 1000
"""Children of one metric; past it everything new is `other`. A wall behind the closed sets, not a limit to meet."""
ACCEPT_CHARACTERS_MAX: Final = 1024
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CALLERS: Final[Mapping[TierName, str]] = {
    "hot": "everything is answered from warm, slower; signals are 503",
    "warm": "what needs it is 503 with Retry-After; sessions that are hot are still shown",
    "cold": "live sessions go on; old history, archived sessions and attachments are 503",
}
"""What callers meet while a tier is asked no more."""
log = structlog.get_logger()

_STATUS_CODES: Final = tuple(map(str, range(100, 600)))
_COUNTED_EVENTS: Final = frozenset({"warning", "error", "critical"})


Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class _Times:
    """One series of a histogram: plain numbers, a bisection and two sums an observation (0.2 µs; the library's own
    takes a lock for each and looks at one bound after another). For the event loop alone.

    exemplars: by bucket, the last observation that belonged to a trace.
    """

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] | None = None
        self.total = 0.0

    def observe(self, seconds: float, trace: str | None = None) -> None:
        bucket = bisect_left(self.bounds, seconds)
        self.counts[bucket] += 1
        self.total += seconds
        if trace is not None:
            if self.exemplars is None:
                self.exemplars = {}
            self.exemplars[bucket] = Exemplar({"trace_id": trace}, seconds, time.time())

    def buckets(self) -> list[Bucket]:
        """Cumulative counts by upper bound, as both formats have them, each with its exemplar."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        found: list[Bucket] = []
        exemplars = self.exemplars or {}
        for bucket, (name, count) in enumerate(zip(names, accumulate(self.counts), strict=True)):
            exemplar = exemplars.get(bucket)
            found.append((name, count) if exemplar is None else (name, count, exemplar))
        return found


class _Histogram(Collector):
    """A histogram's series, in the library's shape when they are scraped."""

    def __init__(self, row: Metric, registry: CollectorRegistry) -> None:
        self._row = row
        self._names = [name for name, _ in row.labels]
        self._series: dict[tuple[str, ...], _Times] = {}
        registry.register(self)

    def labels(self, *values: str) -> _Times:
        return self._series.setdefault(values, _Times(self._row.bounds))

    def collect(self) -> Iterator[Samples]:
        family = HistogramMetricFamily(self._row.name, self._row.help, labels=self._names)
        if not self._names:
            self.labels()
        for values, times in self._series.items():
            family.add_metric(values, times.buckets(), times.total)
        yield family


class _Family:
    """One metric and its children, by the values of their labels."""

    __slots__ = ("_allowed", "_children", "_parent")

    def __init__(self, row: Metric, registry: CollectorRegistry, sets: Mapping[str, Collection[str]]) -> None:
        names = [name for name, _ in row.labels]
        if row.kind == "histogram":
            self._parent: Any = _Histogram(row, registry)
        else:
            self._parent = (Counter if row.kind == "counter" else Gauge)(row.name, row.help, names, registry=registry)
        # A label whose set is empty is closed by our own code; all others by the table.
        self._allowed = tuple(frozenset(values or sets.get(name, ())) for name, values in row.labels)
        self._children: dict[tuple[str, ...], Any] = {}

    def at(self, *values: str) -> Any:
        """The child with these values; a value outside its set counts as `other`."""
        return self._children.get(values) or self._make(values)

    def begin(self, values: Collection[str]) -> None:
        """A series at 0 for each of these values of the one label: what appears with its first event at 1 has not
        increased in the eyes of Prometheus, and no alert would tell of that event."""
        for value in sorted(values):
            self.at(value)

    def allow(self, at: int, values: Collection[str]) -> None:
        """The closed set of the label at this place, from now on."""
        self._allowed = (*self._allowed[:at], frozenset(values), *self._allowed[at + 1 :])

    def _make(self, values: tuple[str, ...]) -> Any:
        known = tuple(
            value if not allowed or value in allowed else OTHER
            for value, allowed in zip(values, self._allowed, strict=True)
        )
        if known not in self._children and len(self._children) >= CHILDREN_MAX:
            known = (OTHER,) * len(known)
        child = self._children.get(known)
        if child is None:
            # Kept under the values that are shown, never under those that came in: callers must not make it grow.
            labelled = known or isinstance(self._parent, _Histogram)
            child = self._children[known] = self._parent.labels(*known) if labelled else self._parent
        return child


class Counted:
    """The metrics of a table on a registry, and the page that shows them.

    Times are taken on the event loop; everything else may be counted from any thread.
    """

    def __init__(
        self, registry: CollectorRegistry, rows: Sequence[Metric], sets: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """sets: of labels whose set the table leaves empty."""
        self._registry = registry
        self.beside: Callable[[], Awaitable[list[Samples]]] | None = None
        """Where several processes serve: all of their metrics (`running/siblings.py`)."""
        self._of = {row.name.removeprefix("sessionmanager_"): _Family(row, registry, sets or {}) for row in rows}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def watch(self, gauge: str, read: Callable[[], float], *labels: str) -> None:
        """Ask `read` for a gauge's value at each scrape: `http_requests_running`, `hot_copies`, `hot_bytes`, or
        `queue_depth` with the queue's name. It must be quick and must not fail. Raises KeyError for another name."""
        self._of[gauge].at(*labels).set_function(read)

    def collect(self) -> list[Samples]:
        """What this process has counted, as it is shown."""
        return list(_WithoutCreated(self._registry).collect())

    async def page(self, accept: str | None = None) -> tuple[str, bytes]:
        """What a scrape is answered: `render`, with the metrics of all processes where several serve."""
        return self.render(accept, None if self.beside is None else await self.beside())

    def render(self, accept: str | None = None, families: list[Samples] | None = None) -> tuple[str, bytes]:
        """The content type and the page for a scrape: OpenMetrics where `Accept` asks for it, else Prometheus text.

        families: those of this process where none are given. Cost: about 5 µs a series.
        """
        page = _Page(self.collect() if families is None else families)
        if _wants_openmetrics((accept or "")[:ACCEPT_CHARACTERS_MAX]):
            # The library types this one's arguments not at all.
            encode: Callable[[Collector], bytes] = cast("Any", openmetrics).generate_latest
            return OPENMETRICS, encode(page)
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(page)


class Metrics(Counted):
    """Everything that the service counts, one object a process; whoever counts is handed it.

    It is told by the guards (`TierWatch`) and hears what the core tells (`CoreEvents`).
    """

    def __init__(self, registry: CollectorRegistry, routes: Collection[str] = ()) -> None:
        """Put every metric on `registry`. routes: the templates that may be a label, such as `/sessions/{id}`."""
        events = frozenset(event.name for event in EVENTS)
        super().__init__(registry, METRICS, {"route": (*routes, OTHER), "status": _STATUS_CODES, "event": events})
        for row in METRICS:
            if row.kind == "counter" and len(row.labels) == 1:
                self._of[row.name.removeprefix("sessionmanager_")].begin(row.labels[0][1])
        self._of["log_events"].begin([event.name for event in EVENTS if event.level in _COUNTED_EVENTS])
        self._requests = self._of["http_request_duration_seconds"]
        self._calls = self._of["tier_operation_duration_seconds"]
        self._reads = self._of["reads"]
        self._commits = self._of["commits"]
        self._of["build_info"].at(__version__, platform.python_version()).set(1)

    def name_routes(self, templates: Collection[str]) -> None:
        """The templates that may be a label, where the routes are made after the metrics."""
        self._requests.allow(0, (*templates, OTHER))

    # -- edge

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered. route: its template; a path, or anything else not known, counts as `other`."""
        self._requests.at(route, method, str(status)).observe(seconds, trace_id())

    def problem(self, type_: str) -> None:
        """A problem document was answered; `type_` as in `errors.py`."""
        self._of["problems"].at(type_).inc()

    def shed(self, reason: str) -> None:
        """A request was refused because this process has too much to do; `reason` as in the table."""
        self._of["shed_requests"].at(reason).inc()

    def refusal(self, reason: str) -> None:
        """Somebody was refused for who they are, or for what they may not do."""
        self._of["auth_refusals"].at(reason).inc()

    # -- tiers

    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None:
        """A call to a tier ended. outcome: `ok`, or the error's name."""
        self._calls.at(tier, operation, outcome).observe(seconds)

    def breaker(self, tier: TierName, state: str, reason: str = "") -> None:
        """The tier's breaker is now `ok`, `half-open` or `open`."""
        for known in BREAKER_STATES:
            self._of["tier_breaker"].at(tier, known).set(known == state)

    def repeated(self, tier: TierName, operation: str, outcome: str) -> None:
        """A read of a tier that failed was repeated, or was not for want of budget or time."""
        self._of["tier_repeats"].at(tier, operation, outcome).inc()

    # -- core (`CoreEvents`)

    def read(self, tier: str, hit: bool) -> None:
        """A session was looked for in this tier."""
        self._reads.at(tier, "hit" if hit else "miss").inc()

    def commit(self, action: str) -> None:
        """A commit stands. action: what it did, a word of the code."""
        self._commits.at(action).inc()

    def conflict(self) -> None:
        """A compare-and-set was lost."""
        self._of["commit_conflicts"].at().inc()

    def unknown(self, resolved: bool) -> None:
        """A commit got no answer; whether it could be found out what became of it."""
        self._of["commit_unknowns"].at("settled" if resolved else "open").inc()

    def replay(self) -> None:
        """A repeated request got the first answer."""
        self._of["replays"].at().inc()

    def resume(self, tier: str, outcome: str = "ok") -> None:
        """A resume ended; `tier` had the session. outcome: `ok`, or the type of the problem."""
        self._of["resumes"].at(tier, outcome).inc()

    def worked(self, work: str, outcome: str) -> None:
        """The worker did what a session was owed: `done`, or the name of the error."""
        self._of["work"].at(work, outcome).inc()

    def lag(self, seconds: float) -> None:
        """Due work was begun this late."""
        self._of["worker_lag_seconds"].at().observe(seconds)

    def sessions(self, counts: Mapping[tuple[str, str], int]) -> None:
        """How many sessions there are by (status, placement); a pair that is missing has none."""
        for status in STATUSES:
            for placement in PLACEMENTS:
                self._of["sessions"].at(status, placement).set(counts.get((status, placement), 0))

    def calls(self, counts: Mapping[str, int]) -> None:
        """How many calls there are by state; a state that is missing has none."""
        for state in LIVE_CALL_STATES:
            self._of["calls"].at(state).set(counts.get(state, 0))

    # -- webhooks (`WebhookEvents`)

    def webhook(self, outcome: str) -> None:
        """An attempt to deliver ended, or a line was given up; `outcome` as in the table."""
        self._of["webhook_deliveries"].at(outcome).inc()

    def webhook_lag(self, seconds: float) -> None:
        """A line was delivered so long after its commit."""
        self._of["webhook_lag_seconds"].at().observe(seconds)

    # -- rooms

    def livekit(self, operation: str, outcome: str, seconds: float) -> None:
        """A call to LiveKit ended; both as in the table."""
        self._of["livekit_request_duration_seconds"].at(operation, outcome).observe(seconds)

    def room_corrected(self, what: str) -> None:
        """Something was set right between a session and its room."""
        self._of["room_corrections"].at(what).inc()

    def room_webhook(self, outcome: str) -> None:
        """LiveKit has told something."""
        self._of["room_webhooks"].at(outcome).inc()

    # -- logs

    def log_event(self, level: str, event: str) -> None:
        """A log line was written (`logs.configure(on_event=…)`)."""
        self._of["log_lines"].at(level).inc()
        if level in _COUNTED_EVENTS:
            self._of["log_events"].at(event).inc()

    def log_shipped(self, outcome: str, count: int) -> None:
        """Lines for Vector were sent, or dropped. From any thread."""
        self._of["log_shipping"].at(outcome).inc(count)


class TierWatch:
    """The guards' observer: all of it counted, and a line in the log when a tier is asked no more, or answers again.

    A trial call in between (`half-open`) changes neither: however long a tier is away, it is two lines.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.repeated = metrics.repeated
        self._metrics = metrics
        self._clock = clock
        self._away: dict[TierName, float] = {}
        for tier in TIERS:
            metrics.breaker(tier, "ok")

    def observe(self, tier: TierName, operation: str, outcome: str, seconds: float) -> None:
        """A call to a tier ended; within a trace it is a span."""
        self._metrics.observe(tier, operation, outcome, seconds)
        if is_traced():
            known = {"db.system.name": tier, "db.operation.name": operation, "outcome": outcome}
            finished(f"{tier}.{operation}", seconds, known, failed=outcome != "ok")

    def breaker(self, tier: TierName, state: str, reason: str = "") -> None:
        """The tier's breaker is now `ok`, `half-open` or `open`; `reason`: what the last failure said."""
        self._metrics.breaker(tier, state)
        if state == "open" and tier not in self._away:
            self._away[tier] = self._clock()
            log.warning("breaker.changed", tier=tier, state=state, reason=reason, callers=CALLERS[tier])
        elif state == "ok" and tier in self._away:
            seconds = round(self._clock() - self._away.pop(tier), 1)
            log.warning("breaker.changed", tier=tier, state=state, away_seconds=seconds)


def _wants_openmetrics(accept: str) -> bool:
    """Ours, because the library's own choice fails on a version that is none and repeats the caller's text."""
    for media_range in accept.split(","):
        name, *parameters = (part.strip().lower() for part in media_range.split(";"))
        if name == "application/openmetrics-text":
            values = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
            return values.get("version", "1.0.0") == "1.0.0" and values.get("q") not in ("0", "0.0")
    return False


class _Page(Collector):
    """Families as they are."""

    def __init__(self, families: list[Samples]) -> None:
        self._families = families

    def collect(self) -> list[Samples]:
        return self._families


class _WithoutCreated(Collector):
    """The registry without the `_created` series, which nobody asks for and which double the counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Samples]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
