"""Settings of sessions and of who takes part in them: bounds, times, services, webhooks, rooms, feeds."""

# ruff: noqa: RUF009  # `setting` makes a dataclass field; its default is immutable
from __future__ import annotations

from dataclasses import dataclass

from sessionmanager.settings_rows import Secret, setting


@dataclass(frozen=True, kw_only=True, repr=False)
class ConversingSettings:
    """What conversations may hold, and who takes part."""

    # -- what a session may hold, and how long things last
    tail_entries_max: int = setting(
        1000, "whole", "log.tail_entries_max", "Unsealed entries of a session; past it the older ones are sealed.",
        low=2, high=10_000,
    )  # fmt: skip
    tail_bytes_max: int = setting(
        327_680, "whole", "log.tail_bytes_max", "The same in bytes.", unit="bytes", low=4096, high=4_194_304
    )
    tail_entries_kept: int = setting(
        100, "whole", "log.tail_entries_kept", "Newest entries that a seal leaves in the tail.", low=1, high=9_999
    )
    tail_bytes_kept: int = setting(
        65_536, "whole", "log.tail_bytes_kept", "The same in bytes.", unit="bytes", low=1024, high=4_194_304
    )
    warm_segments_max: int = setting(
        8, "whole", "log.warm_segments_max", "Segments of a living session in warm; past it they move to cold.",
        low=1, high=1024,
    )  # fmt: skip
    warm_segments_kept: int = setting(
        4, "whole", "log.warm_segments_kept", "Newest segments that stay in warm then.", high=1023
    )
    keys_keep_seconds: float = setting(
        86_400.0, "number", "lifecycle.keys_keep_seconds", "Idempotency keys are remembered at least this long.",
        unit="seconds", low=86_400, high=31_536_000,
    )  # fmt: skip
    idle_suspend_seconds: float = setting(
        3600.0, "number", "lifecycle.idle_suspend_seconds", "A quiet session becomes dormant after this; 0 = never.",
        unit="seconds", high=315_360_000,
    )  # fmt: skip
    archive_after_days: float = setting(
        365.0, "number", "lifecycle.archive_after_days", "A quiet session's body moves to cold after this; 0 = never.",
        unit="days", high=36_500,
    )  # fmt: skip
    retention_days: float = setting(
        0.0, "number", "lifecycle.retention_days", "An ended session is erased after this; 0 = never.",
        unit="days", high=36_500,
    )  # fmt: skip
    timed_moves_percent_max: float = setting(
        1.0, "number", "lifecycle.timed_moves_percent_max",
        "Share of all sessions that the clock alone archives, and erases, in an hour, at least 10; 0 = no cap.",
        unit="percent", high=100,
    )  # fmt: skip
    resume_policy: str = setting(
        "new", "choice", "calls.resume_policy", "Whether a later call of the same caller goes on with its session.",
        choices=("new", "resume_within", "always"),
    )  # fmt: skip
    resume_within_seconds: float = setting(
        3600.0, "number", "calls.resume_within_seconds", "How long after its last activity, with `resume_within`.",
        unit="seconds", low=1, high=3_153_600_000,
    )  # fmt: skip
    call_timeout_seconds: float = setting(
        14_400.0, "number", "calls.timeout_seconds",
        "A call that was answered and of which nothing is heard for so long ends as `timeout`; 0 = never.",
        unit="seconds", high=31_536_000,
    )  # fmt: skip
    call_setup_timeout_seconds: float = setting(
        300.0, "number", "calls.setup_timeout_seconds", "The same before it is answered.",
        unit="seconds", high=31_536_000,
    )  # fmt: skip
    quota_sessions: int | None = setting(
        None, "whole", "quotas.sessions", "Sessions that a tenant may have unless it has a quota of its own."
    )
    quota_requests_per_second: float | None = setting(
        None, "number", "quotas.requests_per_second", "Requests a second of a tenant, for each serving process.",
        low=0.001, high=1_000_000,
    )  # fmt: skip
    token_requests_per_second: float | None = setting(
        None, "number", "quotas.token_requests_per_second",
        "Requests a second of one subject, by whatever tokens or API keys, for each serving process.",
        low=0.001, high=1_000_000,
    )  # fmt: skip
    default_max_age_seconds: float | None = setting(
        None, "number", "lifecycle.default_max_age_seconds", "Oldest session that resume brings back unless asked.",
        unit="seconds", low=1, high=3_153_600_000,
    )  # fmt: skip

    # -- services that join sessions
    service_endpoints: tuple[str, ...] = setting(
        (), "list", "microservices.endpoints",
        "Where services may be: names, `*.` and a domain, addresses and networks; private addresses only as networks.",
        default_note="this machine where SERVER_HOST is loopback, else none",
    )  # fmt: skip
    service_registration_seconds: float = setting(
        30.0, "number", "microservices.registration_timeout", "A service must be heard of so soon after it registered.",
        unit="seconds", low=1, high=3600,
    )  # fmt: skip
    service_health_seconds: float = setting(
        10.0, "number", "microservices.health_interval", "Without a heartbeat for so long a service is asked for it.",
        unit="seconds", low=0.1, high=3600,
    )  # fmt: skip
    service_join_seconds: float = setting(
        60.0, "number", "microservices.join_timeout", "A service that was asked to join must have joined within this.",
        unit="seconds", low=0.1, high=3600,
    )  # fmt: skip
    service_retry_seconds: float = setting(
        30.0, "number", "microservices.retry_interval", "After a service failed to join, the next attempt.",
        unit="seconds", low=0.1, high=3600,
    )  # fmt: skip
    service_client_seconds: float = setting(
        300.0, "number", "microservices.client_timeout",
        "A session that asks for services must have them, and a client, within this.",
        unit="seconds", low=0.1, high=86_400,
    )  # fmt: skip
    service_types: tuple[str, ...] = setting(
        (), "list", "microservices.types",
        "What differs for a type: `tts:optional`, `asr:join=20:retry=5`. A session goes on without an optional one.",
        default_note="none",
    )  # fmt: skip

    # -- webhooks
    webhook_networks: tuple[str, ...] = setting(
        (), "list", "webhooks.networks",
        "Addresses and networks that webhooks may go to although they are not public, and by http.",
        default_note="none",
    )  # fmt: skip
    webhook_timeout_seconds: float = setting(
        10.0, "number", "webhooks.timeout_seconds", "One attempt to deliver, from the name to the last byte.",
        unit="seconds", low=0.1, high=15,
    )  # fmt: skip
    webhook_retry_hours: float = setting(
        24.0, "number", "webhooks.retry_hours", "A line that cannot be delivered for so long goes to the dead letters.",
        unit="hours", low=0.01, high=168,
    )  # fmt: skip
    webhook_disable_hours: float = setting(
        72.0, "number", "webhooks.disable_hours", "A webhook to which nothing gets through for so long is disabled.",
        unit="hours", low=0.01, high=8760,
    )  # fmt: skip

    # -- rooms at LiveKit
    livekit_server_url: str | None = setting(
        None, "url", "livekit.server_url", "Address of LiveKit; with it, its key and its secret sessions have rooms."
    )
    livekit_public_url: str | None = setting(
        None, "url", "livekit.public_url", "What participants are told, where they reach LiveKit by another address.",
        default_note="as LIVEKIT_SERVER_URL",
    )  # fmt: skip
    livekit_api_key: str | None = setting(None, "text", "livekit.api_key", "Name of the API key at LiveKit.")
    livekit_api_secret: Secret | None = setting(
        None, "secret", "livekit.api_secret", "Secret of the API key: signs tokens and checks LiveKit's webhooks."
    )
    livekit_timeout_seconds: float = setting(
        5.0, "number", "livekit.timeout_seconds", "Deadline of one call to LiveKit.", unit="seconds", low=0.1, high=60
    )
    livekit_token_seconds: int = setting(
        3600, "whole", "livekit.token_seconds", "A token lets into its room for so long; whoever is in stays.",
        unit="seconds", low=1, high=604_800,
    )  # fmt: skip
    room_empty_seconds: int = setting(
        300, "whole", "livekit.room_empty_seconds", "LiveKit closes a room into which nobody has come after this.",
        unit="seconds", low=1, high=604_800,
    )  # fmt: skip
    room_departure_seconds: int = setting(
        20, "whole", "livekit.room_departure_seconds", "LiveKit closes a room so long after the last one has left.",
        unit="seconds", low=1, high=604_800,
    )  # fmt: skip
    room_max_participants: int = setting(
        0, "whole", "livekit.room_max_participants", "Participants at once in a room; 0 = any number.", high=100_000
    )
    room_sync_seconds: float = setting(
        5.0, "number", "livekit.room_sync_seconds", "Between two looks at an open room.",
        unit="seconds", low=0.1, high=3600,
    )  # fmt: skip

    requests_max: int = setting(
        1_024, "whole", "limits.requests_max",
        "Requests answered at once in a process; the next gets 503 `overloaded`. Followed feeds do not count.",
        low=8, high=100_000,
    )  # fmt: skip

    # -- feeds, of one process
    streams_max: int = setting(5_000, "whole", "streams.max", "Feeds open at once.", low=1, high=1_000_000)
    streams_per_tenant_max: int = setting(
        4_000, "whole", "streams.per_tenant_max", "Of these for one tenant.", low=1, high=1_000_000
    )
    streams_per_session_max: int = setting(
        2_500, "whole", "streams.per_session_max", "Of these on one session.", low=1, high=1_000_000
    )
    streams_per_subject_max: int = setting(
        2_500, "whole", "streams.per_subject_max", "Of these for one subject.", low=1, high=1_000_000
    )
    stream_pending_bytes_max: int = setting(
        262_144, "whole", "streams.pending_bytes_max", "Kept for one slow reader; then it reads pages for itself.",
        unit="bytes", low=65_536, high=67_108_864,
    )  # fmt: skip
    stream_slow_seconds: float = setting(
        30.0, "number", "streams.slow_seconds", "A reader behind for so long is sent away, and may come back.",
        unit="seconds", low=1, high=3600,
    )  # fmt: skip
    stream_heartbeat_seconds: float = setting(
        15.0, "number", "streams.heartbeat_seconds", "Longest silence of a feed; clients give one up after 45 s.",
        unit="seconds", low=1, high=30,
    )  # fmt: skip
    stream_goaway_seconds: float = setting(
        5.0, "number", "streams.goaway_seconds", "Readers that are sent away come back over so long a time.",
        unit="seconds", high=600,
    )  # fmt: skip
