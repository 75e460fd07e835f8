"""What the service tells about itself: the table of metrics, the table of log events.

`METRICS` and `EVENTS` are the only places where a metric or an event gets its name; `docs/reference/metrics.md` is made
from both (`python -m sessionmanager.telemetry`). Labels come from closed sets, never from a caller: no path, no tenant,
no id. A value outside its set is counted as `other`.
"""

from __future__ import annotations

import sys
from typing import Final, Literal, NamedTuple, get_args

from sessionmanager.words import GATEWAYS, LIVE_CALL_STATES, PLACEMENTS, STATUSES, TierName

OTHER: Final = "other"
FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
"""Bounds in seconds for what should take milliseconds: the targets lie at 5, 8, 10, 15 and 50 ms."""
SLOW: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Bounds in seconds for what may take its time."""
TIERS: Final = get_args(TierName)
ERRORS: Final = (
    "malformed", "unauthenticated", "forbidden", "not-found", "method-not-allowed", "already-exists",
    "illegal-transition", "not-resumable", "legal-hold", "quota-exceeded", "full", "floor-taken", "floor-lost",
    "checkpoint-taken", "in-progress", "erased", "version-conflict", "min-version-ahead", "too-large",
    "unsupported-media-type", "invalid", "key-reused", "precondition-required", "rate-limited", "internal",
    "data-corrupt", "upstream-failed", "tier-unavailable", "contended", "draining", "overloaded", "outcome-unknown",
    "join-timeout",
)  # fmt: skip
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
BREAKER_STATES: Final = ("ok", "half-open", "open")
REFUSALS: Final = (
    "missing", "header", "size", "shape", "base64", "json", "algorithm", "type", "critical", "key-reference", "key-id",
    "unknown-key", "signature", "time", "expired", "early", "lifetime", "issuer", "audience", "subject", "tenant",
    "roles", "binding", "revoked", "api-key", "left", "forbidden",
)  # fmt: skip
SHED: Final = ("depth", "late")
REPEATS: Final = ("ok", "failed", "budget", "deadline")
LIVEKIT_CALLS: Final = (
    "create_room", "list_rooms", "list_participants", "update_room_metadata", "remove_participant",
    "mute_published_track", "send_data", "delete_room",
)  # fmt: skip
LIVEKIT_OUTCOMES: Final = ("ok", "gone", "refused", "failed", "timeout", "open", "cancelled")
ROOM_CORRECTIONS: Final = (
    "connection", "room_id", "turn_detection", "config", "participant_missing", "participant_unknown",
    "participant_left", "microphone_open",
)  # fmt: skip
CALL_ENDS: Final = (
    "superseded", "session-ended", "erased", "taken-out", "ended-by-bot", "model-lost", "line-lost", "hung-up",
)  # fmt: skip
QUEUES: Final = ("requests", "commits", "turns", "cold", "worker", "audit", "services", "rooms", "handlers")

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One row. `labels`: names, each with the values it may have; an empty set is filled where `Metrics` is made
    (routes), or closed by the code that sets it (operations), and bounded by `CHILDREN_MAX`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = FAST


METRICS: Final = (
    Metric(
        "sessionmanager_http_request_duration_seconds", "histogram",
        "Time from the first byte of a request's headers to the last byte of its answer.",
        (("route", ()), ("method", METHODS), ("status", ())),
    ),
    Metric("sessionmanager_http_requests_running", "gauge", "Requests that are being answered."),
    Metric("sessionmanager_problems", "counter", "Problem documents that were answered.", (("type", ERRORS),)),
    Metric(
        "sessionmanager_shed_requests", "counter",
        "Requests refused at the door: so many were being answered, or the event loop was late for a while.",
        (("reason", SHED),),
    ),
    Metric("sessionmanager_auth_refusals", "counter", "Requests refused for who asks.", (("reason", REFUSALS),)),
    Metric(
        "sessionmanager_tier_operation_duration_seconds", "histogram",
        "Time of one call to a tier. Outcome: `ok`, or the name of the error.",
        (("tier", TIERS), ("operation", ()), ("outcome", ())),
    ),
    Metric(
        "sessionmanager_tier_breaker", "gauge", "1 for the state that the tier's breaker is in, 0 for the others.",
        (("tier", TIERS), ("state", BREAKER_STATES)),
    ),
    Metric(
        "sessionmanager_tier_repeats", "counter",
        "Reads of a tier that failed and were repeated (`ok`, `failed`), or were not, for want of budget or time.",
        (("tier", TIERS), ("operation", ()), ("outcome", REPEATS)),
    ),
    Metric(
        "sessionmanager_reads", "counter", "Looks for a session, by tier: the tier had it, or the next was asked.",
        (("tier", TIERS), ("result", ("hit", "miss"))),
    ),
    Metric("sessionmanager_commits", "counter", "Commits that stand, by what they did.", (("action", ()),)),
    Metric("sessionmanager_commit_conflicts", "counter", "Compare-and-sets that were lost to another writer."),
    Metric(
        "sessionmanager_commit_unknowns", "counter",
        "Commits that got no answer: whether what became of them could be found out.",
        (("outcome", ("settled", "open")),),
    ),
    Metric("sessionmanager_replays", "counter", "Repeated requests that got the first answer."),
    Metric(
        "sessionmanager_resumes", "counter", "Resumes, by the tier that had the session and how they ended.",
        (("tier", TIERS), ("outcome", ("ok", *ERRORS))),
    ),
    Metric(
        "sessionmanager_work", "counter",
        "What sessions were owed and the worker did (`seal`, `archive` …). Outcome: `done`, or the name of the error.",
        (("work", ()), ("outcome", ())),
    ),
    Metric(
        "sessionmanager_worker_lag_seconds", "histogram", "How late due work was begun.", (), SLOW
    ),
    Metric(
        "sessionmanager_sessions", "gauge", "Sessions, erased ones left out.",
        (("status", STATUSES), ("placement", PLACEMENTS)),
    ),
    Metric("sessionmanager_calls", "gauge", "Calls that have not ended.", (("state", LIVE_CALL_STATES),)),
    Metric("sessionmanager_hot_copies", "gauge", "Copies in this process's memory hot tier."),
    Metric("sessionmanager_hot_bytes", "gauge", "Bytes of those copies."),
    Metric("sessionmanager_queue_depth", "gauge", "What waits in a bounded queue.", (("queue", QUEUES),)),
    Metric("sessionmanager_streams", "gauge", "Feeds that are followed here, over SSE and WebSockets."),
    Metric("sessionmanager_stream_readers", "gauge", "Sessions that are read for them: one reader a session."),
    Metric(
        "sessionmanager_webhook_deliveries", "counter",
        "Attempts of webhooks by how they ended; `gone`: 410. And `dead`: lines that went to the dead letters.",
        (("outcome", ("delivered", "failed", "gone", "dead")),),
    ),
    Metric(
        "sessionmanager_webhook_lag_seconds", "histogram", "From a line's commit to its delivery to a webhook.",
        (), SLOW,
    ),
    Metric(
        "sessionmanager_webhook_owed_sessions", "gauge",
        "Sessions, once for each webhook that this process delivers for, with lines that it has not got.",
    ),
    Metric("sessionmanager_webhooks_disabled", "gauge", "Webhooks of all tenants that are disabled."),
    Metric(
        "sessionmanager_livekit_request_duration_seconds", "histogram",
        "Time of one call to LiveKit. Outcome: `ok`, `gone` (not there any more), `refused`, `failed`, `timeout`, or"
        " `open`: not made, since LiveKit was silent before.",
        (("operation", LIVEKIT_CALLS), ("outcome", LIVEKIT_OUTCOMES)),
        SLOW,
    ),
    Metric(
        "sessionmanager_room_corrections", "counter", "What was set right between sessions and their rooms.",
        (("what", ROOM_CORRECTIONS),),
    ),
    Metric(
        "sessionmanager_room_webhooks", "counter",
        "Webhooks of LiveKit: `heeded`, `repeated`, of a room that is no session's, of nothing that matters here.",
        (("outcome", ("heeded", "repeated", "unknown-room", "ignored")),),
    ),
    Metric("sessionmanager_log_lines", "counter", "Log lines, by level.", (("level", LEVELS),)),
    Metric(
        "sessionmanager_log_shipping", "counter", "Log lines for VECTOR_LOG_ENDPOINT, by what became of them.",
        (("outcome", ("shipped", "dropped")),),
    ),
    Metric("sessionmanager_log_events", "counter", "Log lines at warning or above, by event.", (("event", ()),)),
    Metric("sessionmanager_build_info", "gauge", "Always 1.", (("version", ()), ("python", ()))),
)  # fmt: skip
"""Counters get `_total` behind their names on the page that is scraped, as both formats demand."""

BRIDGE_METRICS: Final = (
    Metric("sessionmanager_bridge_calls", "gauge", "Calls that this bridge holds.", (("gateway", GATEWAYS),)),
    Metric(
        "sessionmanager_bridge_calls_ended", "counter",
        "Calls that this bridge is done with; `line-lost`, `superseded` and `model-lost` may go on elsewhere.",
        (("gateway", GATEWAYS), ("reason", CALL_ENDS)),
    ),
    Metric(
        "sessionmanager_bridge_attach_duration_seconds", "histogram",
        "From an arrival to its place in the session: made anew, resumed, refused for good, or not to be had in time.",
        (("gateway", GATEWAYS), ("outcome", ("created", "resumed", "refused", "away"))),
    ),
    Metric(
        "sessionmanager_bridge_model_connections", "counter",
        "Connections to the model: the first of a call, one after a loss, one in place of an old one; and tries that"
        " failed.",
        (("kind", ("first", "again", "replaced", "failed")),),
    ),
    Metric(
        "sessionmanager_bridge_half_sentences", "counter",
        "What callers were saying when their lines were lost: heard by the next model, written down for another"
        " bridge, or forgotten, as nobody came back.",
        (("outcome", ("heard", "written", "forgotten")),),
    ),
    Metric(
        "sessionmanager_bridge_checkpoints", "counter",
        "What callers are saying, given to the service for the next process: kept, refused, as another one has gone on"
        " with it, or failed.",
        (("outcome", ("kept", "refused", "failed")),),
    ),
    Metric(
        "sessionmanager_bridge_outbox_depth", "gauge",
        "Appends that the service does not have yet: what is lost with a bridge whose outbox is memory.",
    ),
    Metric(
        "sessionmanager_bridge_added_duration_seconds", "histogram",
        "What the bridge adds to a piece of sound, without the networks on both sides.",
        (("towards", ("model", "caller")),),
    ),
)  # fmt: skip
"""What a bridge tells about itself, on its own door."""


class Event(NamedTuple):
    """One log event: the least level it is written at, and when."""

    name: str
    level: str
    help: str


EVENTS: Final = (
    Event("server.started", "info", "The service answers; `address`, `data_dir`."),
    Event("server.stopping", "info", "SIGTERM or SIGINT came; running requests are finished."),
    Event(
        "background.failed",
        "error",
        "What runs beside requests met an error that is our fault, and begins again; `work`, `error`, `traceback`.",
    ),
    Event("profile.begun", "warning", "SIGUSR2 came: the event loop is measured for `seconds`."),
    Event("profile.written", "warning", "A profile was written; `path`, for `python -m pstats`."),
    Event("profile.failed", "warning", "A profile could not be made or written; `reason`."),
    Event("processes.started", "info", "Several serving processes were begun; `count`."),
    Event("processes.died", "error", "One of several processes ended by itself; `slot`, `code`."),
    Event("processes.killed", "error", "One did not stop in time, and was killed; `slot`."),
    Event("server.stopped", "info", "Everything is closed."),
    Event("server.failed", "error", "The service cannot go on, and the process ends with 1; `reason`."),
    Event("secret.made", "warning", "A token secret was made in the data directory, because none was given; `path`."),
    Event("master_key.made", "warning", "A master key was made in the data directory; `path`. Keep a copy."),
    Event(
        "request.finished",
        "info",
        "A request that failed with 5xx; at debug, any: `method`, `route`, `status`, "
        "`seconds`, `session`, and the type of its `problem`.",
    ),
    Event("request_failed", "error", "A request met an error that is our fault; `error`, `traceback`."),
    Event("edge.shedding", "warning", "This replica has too much to do and refuses some; `state`: `begun`, `ended`."),
    Event(
        "breaker.changed",
        "warning",
        "A tier is asked no more (`state` `open`): `tier`, `reason`, "
        "and what `callers` meet meanwhile. Or it answers again (`ok`), after `away_seconds`.",
    ),
    Event("hot.opened", "info", "Redis was found; `shape` (`single`, `sentinel`, `cluster`), `version`."),
    Event("hot.unreachable", "warning", "No Redis at the start; it is looked for until it answers; `problem`."),
    Event("hot.weak_server", "warning", "Redis is set up in a way that will hurt; `problem` says what to mend."),
    Event("hot.full", "warning", "Redis has no room: new copies are not kept until it has."),
    Event("hot.value_refused", "warning", "A copy was not what had been kept, and is forgotten; `mismatches` so far."),
    Event("warm.opened", "info", "The warm tier is open; how it is set up."),
    Event("warm.not_closed_clean", "warning", "The warm tier could not be closed as it should."),
    Event("warm.quick_check", "info", "SQLite was checked after an end that was not clean; at error if it is damaged."),
    Event("warm.transaction_failed", "warning", "A group of commits was refused as a whole; none stands."),
    Event("warm.member_failed", "error", "One commit of a group was refused; the others stand."),
    Event("warm.commit_hangs", "error", "A COMMIT did not come back while the tier was closed; `waited_seconds`."),
    Event("warm.poisoned", "error", "A write to disk failed: warm takes nothing more until it is opened anew."),
    Event("worker.cannot_look", "warning", "The worker could not ask what is due; once, until it can."),
    Event("worker.failed", "error", "A piece of due work met an error that is our fault; it is put off; `work`."),
    Event(
        "worker.corrupt",
        "error",
        "Stored data does not check, and a session cannot get what it is owed: `session`, "
        "`work`, `detail`. Once, until it can.",
    ),
    Event(
        "worker.held_back",
        "warning",
        "The clock alone wants more sessions archived or erased than an hour may see; `work`, `an_hour`. Once an hour.",
    ),
    Event("tenants.unreadable", "error", "A record of a tenant's settings does not read as one; it is passed over."),
    Event("services.unreadable", "error", "A record of a service does not read as one; it is passed over."),
    Event("services.cannot_look", "warning", "The registry could not be read; once, until it can; `error`."),
    Event("services.not_told", "warning", "What a service answered could not be written down; it is asked again."),
    Event("services.failed", "error", "Watching over services met an error that is our fault; `error`."),
    Event("handler.not_loaded", "error", "An installed handler cannot be used; `handler`, `error`."),
    Event("handler.failed", "error", "A handler raised or took too long; `handler`, `error`, `in_a_row`."),
    Event("handler.resting", "error", "A handler failed too often in a row and hears nothing for a while; `handler`."),
    Event("handler.too_slow", "warning", "A handler does not keep up: its oldest news are dropped; `handler`."),
    Event("feed.failed", "error", "A feed's reader met an error that is our fault; its followers come back; `error`."),
    Event("webhook.cannot_look", "warning", "Webhooks cannot be looked at: nothing is sent meanwhile; `error`. Once."),
    Event("webhook.disabled", "warning", "A webhook was taken out of service; `tenant`, `hook`, `reason`."),
    Event("webhook.lost", "warning", "Another process delivers for a `tenant`; this one has stopped."),
    Event("webhook.unreadable", "error", "A record of webhooks does not read as one; it is passed over; `kind`."),
    Event("webhook.failed", "error", "Deliveries of a webhook met an error that is our fault; `hook`, `error`."),
    Event("room.alert", "warning", "A room and its session cannot be brought together; `reason`."),
    Event("room.not_looked_at", "warning", "A look at a room could not be written down; it is looked at again."),
    Event("room.call_not_followed", "info", "A caller by SIP could not be made a call of the session."),
    Event("room.failed", "error", "A look at a room met an error that is our fault; it is due again; `error`."),
    Event("audit.cannot_write", "warning", "Lines of the audit trail wait until warm takes them; `waiting`. Once."),
    Event("audit.lost", "error", "Too many lines of the audit trail wait; `lost` so far: at the first and at the end."),
    Event("jwks.cannot_fetch", "warning", "JWT_JWKS_URL did not answer with keys: those at hand go on; `reason`."),
    Event("tokens.unreadable", "error", "A record of a revoked token does not read as one; it is passed over."),
    Event("library", "info", "A line of a library's own logger; `logger`, `text`."),
)


def render() -> str:
    """`docs/reference/metrics.md`."""
    lines = [
        "# Metrics and log events", "",
        "Made by `python -m sessionmanager.telemetry > docs/reference/metrics.md`; do not edit.", "",
        "`GET /metrics` answers in the Prometheus text format, or as OpenMetrics where `Accept` asks for it. Beside",
        "these come `process_*` and `python_info` of the Prometheus client. A label value outside its set is `other`.",
        "",
        "| metric | type | labels | what it tells |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [_line(row) for row in METRICS]
    bounds = sorted({row.bounds for row in METRICS if row.kind == "histogram"})
    lines += ["", "Histograms have the bounds (in seconds) " + "; or ".join(_listed(one) for one in bounds) + "."]
    lines += [
        "", "## Bridges", "",
        "A bridge process (`sessionmanager bridge …`) answers `GET /metrics` on its own door; how it is guarded stands",
        "in [Telephone calls](../how-to/telephone.md).", "",
        "| metric | type | labels | what it tells |", "|---|---|---|---|",
        *(_line(row) for row in BRIDGE_METRICS),
    ]  # fmt: skip
    lines += ["", "## Log events", ""]
    lines += [
        "Every line is one JSON object with `at`, `level`, `event`, and `request_id` and `tenant` where there is a"
    ]
    lines += ["request.", "", "| event | level | when |", "|---|---|---|"]
    lines += [f"| `{event.name}` | {event.level} | {event.help} |" for event in EVENTS]
    return "\n".join(lines) + "\n"


def _line(row: Metric) -> str:
    suffix = "_total" if row.kind == "counter" else ""
    labels = "; ".join(f"`{name}`" + (f": {', '.join(v)}" if v else "") for name, v in row.labels)
    return f"| `{row.name}{suffix}` | {row.kind} | {labels} | {row.help} |"


def _listed(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


if __name__ == "__main__":
    sys.stdout.write(render())
