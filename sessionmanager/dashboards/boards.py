"""What is on the dashboards."""

from __future__ import annotations

from typing import Final

from sessionmanager.dashboards.panels import Board, Panel, Query, latest, quantile, rate

HTTP: Final = "sessionmanager_http_request_duration_seconds"
TIER: Final = "sessionmanager_tier_operation_duration_seconds"
FAILED: Final = 'status=~"5.."'
HIT: Final = 'result="hit"'

OVERVIEW: Final = Board(
    "overview",
    "overview",
    (
        Panel("Requests", "reqps", "By route.", (Query(rate(f"{HTTP}_count", "route"), "{{route}}"),)),
        Panel(
            "Failed requests",
            "percentunit",
            "5xx among all; the objective is 0.1 %.",
            (Query(f"{rate(f'{HTTP}_count', where=FAILED)} / {rate(f'{HTTP}_count')}", "5xx"),),
        ),
        Panel(
            "Duration",
            "s",
            "What callers feel.",
            tuple(Query(quantile(share, HTTP), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)),
        ),
        Panel("p99 by route", "s", "Which route is slow.", (Query(quantile(0.99, HTTP, "route"), "{{route}}"),)),
        Panel("Problems", "ops", "By type.", (Query(rate("sessionmanager_problems_total", "type"), "{{type}}"),)),
        Panel(
            "Refused for who asks",
            "ops",
            "By reason.",
            (Query(rate("sessionmanager_auth_refusals_total", "reason"), "{{reason}}"),),
        ),
        Panel(
            "Requests running",
            "short",
            "By process.",
            (Query(latest("sessionmanager_http_requests_running", "instance"), "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "bytes",
            "By process.",
            (Query(latest("process_resident_memory_bytes", "instance", where='job="sessionmanager"'), "{{instance}}"),),
        ),
        Panel(
            "Processor",
            "percentunit",
            "Share of one core; one process uses one.",
            (Query(rate("process_cpu_seconds_total", "instance", where='job="sessionmanager"'), "{{instance}}"),),
        ),
    ),
)

TIERS: Final = Board(
    "tiers",
    "tiers",
    (
        Panel(
            "Breakers",
            "short",
            "1 = the tier is refused for now.",
            (Query(latest("sessionmanager_tier_breaker", "tier", where='state="open"', how="max"), "{{tier}}"),),
        ),
        Panel("p99 of operations", "s", "By tier.", (Query(quantile(0.99, TIER, "tier"), "{{tier}}"),)),
        Panel(
            "Operations",
            "ops",
            "By tier and operation.",
            (Query(rate(f"{TIER}_count", "tier", "operation"), "{{tier}} {{operation}}"),),
        ),
        Panel(
            "Failed operations",
            "ops",
            "By tier and outcome.",
            (Query(rate(f"{TIER}_count", "tier", "outcome", where='outcome!="ok"'), "{{tier}} {{outcome}}"),),
        ),
        Panel(
            "Reads that found their session",
            "percentunit",
            "By tier; a miss asks the next.",
            (
                Query(
                    f"{rate('sessionmanager_reads_total', 'tier', where=HIT)}"
                    f" / {rate('sessionmanager_reads_total', 'tier')}",
                    "{{tier}}",
                ),
            ),
        ),
        Panel(
            "Commits",
            "ops",
            "By what they did.",
            (Query(rate("sessionmanager_commits_total", "action"), "{{action}}"),),
        ),
        Panel(
            "Lost races and unknown outcomes",
            "ops",
            "Conflicts are decided again; an open unknown is told to the caller.",
            (
                Query(rate("sessionmanager_commit_conflicts_total"), "conflicts"),
                Query(rate("sessionmanager_commit_unknowns_total", "outcome"), "unknown, {{outcome}}"),
                Query(rate("sessionmanager_replays_total"), "replays"),
            ),
        ),
        Panel(
            "Queues",
            "short",
            "What waits in bounded queues.",
            (Query(latest("sessionmanager_queue_depth", "queue"), "{{queue}}"),),
        ),
        Panel(
            "Copies in memory",
            "bytes",
            "Memory hot tier alone.",
            (Query(latest("sessionmanager_hot_bytes", "instance"), "{{instance}}"),),
        ),
    ),
)

SESSIONS: Final = Board(
    "sessions",
    "sessions and calls",
    (
        Panel(
            "Sessions",
            "short",
            "By status. Every replica counts all of them.",
            (Query(latest("sessionmanager_sessions", "status", how="max"), "{{status}}"),),
        ),
        Panel(
            "Placement",
            "short",
            "Warm or cold.",
            (
                Query(
                    f"sum by (placement) ({latest('sessionmanager_sessions', 'placement', 'status', how='max')})",
                    "{{placement}}",
                ),
            ),
        ),
        Panel(
            "Resumes",
            "ops",
            "By the tier that had the session.",
            (Query(rate("sessionmanager_resumes_total", "tier", "outcome"), "{{tier}} {{outcome}}"),),
        ),
        Panel(
            "Streams",
            "short",
            "Feeds that are followed, and sessions that are read for them.",
            (
                Query(latest("sessionmanager_streams"), "streams"),
                Query(latest("sessionmanager_stream_readers"), "sessions"),
            ),
        ),
        Panel(
            "Webhooks",
            "ops",
            "Deliveries by outcome.",
            (Query(rate("sessionmanager_webhook_deliveries_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Webhook lag",
            "s",
            "From the commit to the delivery.",
            (Query(quantile(0.9, "sessionmanager_webhook_lag_seconds"), "p90"),),
        ),
    ),
)

WORKER: Final = Board(
    "worker",
    "worker",
    (
        Panel(
            "Work done",
            "ops",
            "What sessions were owed.",
            (Query(rate("sessionmanager_work_total", "work", where='outcome="done"'), "{{work}}"),),
        ),
        Panel(
            "Work that failed",
            "ops",
            "It is tried again.",
            (
                Query(
                    rate("sessionmanager_work_total", "work", "outcome", where='outcome!="done"'),
                    "{{work}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Lag",
            "s",
            "How late due work began.",
            tuple(
                Query(quantile(share, "sessionmanager_worker_lag_seconds"), f"p{share * 100:g}") for share in (0.5, 0.9)
            ),
        ),
        Panel(
            "Owed by webhooks",
            "short",
            "Sessions with lines that a receiver has not got.",
            (Query(latest("sessionmanager_webhook_owed_sessions"), "sessions"),),
        ),
        Panel(
            "Log lines",
            "ops",
            "By level.",
            (Query(rate("sessionmanager_log_lines_total", "level"), "{{level}}"),),
        ),
        Panel(
            "Warnings and errors",
            "ops",
            "By event.",
            (Query(rate("sessionmanager_log_events_total", "event"), "{{event}}"),),
        ),
    ),
)

BOARDS: Final = (OVERVIEW, TIERS, SESSIONS, WORKER)
