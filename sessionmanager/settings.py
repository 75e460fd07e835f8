"""Every setting, in one table: the fields of `Settings`.

A row says name, type, default, unit, meaning, place in the TOML file and what is allowed; the loader
(`settings_loader.py`), the checks (`settings_checks.py`), the `config` command and `docs/reference/settings.md`
(`python -m sessionmanager.settings`) all read it from here. A setting called `server_port` answers to the environment
variables SESSIONMANAGER_SERVER_PORT and SERVER_PORT (the first wins); a secret also to both with `_FILE` behind, which
name a file that holds it.

Settings are values: frozen, read once, checked whole at start, handed on through constructors.
"""

# ruff: noqa: RUF009  # `setting` makes a dataclass field; its default is immutable
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sessionmanager.settings_rows import Row, Secret, is_loopback, setting, shown

EMBEDDED_SCHEMES: Final = {"hot": "memory", "warm": "sqlite", "cold": "file"}
"""The URL scheme of each tier's embedded backend: what needs no server and lives in this one process."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """What the service runs with. Made by `load_settings`, which fills in what depends on other settings."""

    # -- where it listens
    server_host: str = setting("127.0.0.1", "host", "server.host", "Address to listen on.")
    server_port: int = setting(8000, "whole", "server.port", "Port to listen on; 0 takes a free one.", high=65535)
    workers: int = setting(
        1, "whole", "server.workers", "Serving processes; more than one needs shared tiers.", low=1, high=256
    )
    metrics_port: int | None = setting(
        None, "whole", "server.metrics_port", "Port of its own for /metrics, without a token.", low=1, high=65535
    )
    tls_cert: Path | None = setting(
        None, "path", "server.tls_cert", "PEM file with the certificate and its chain: the service speaks HTTPS alone."
    )
    tls_key: Path | None = setting(None, "path", "server.tls_key", "PEM file with the key of TLS_CERT.")
    tls_client_ca: Path | None = setting(
        None, "path", "server.tls_client_ca", "PEM file: callers must show a certificate that it signed (mTLS)."
    )
    cors_origins: tuple[str, ...] = setting(
        (), "list", "server.cors_origins", "Web pages that may call from a browser, such as https://desk.example.org.",
        default_note="none",
    )  # fmt: skip
    request_deadline_seconds: float = setting(
        10.0, "number", "server.request_deadline_seconds", "Longest life of a request, its tiers included.",
        unit="seconds", low=0.1, high=300,
    )  # fmt: skip
    headers_timeout_seconds: float = setting(
        10.0, "number", "server.headers_timeout_seconds", "A connection must send its headers within this.",
        unit="seconds", low=0.1, high=300,
    )  # fmt: skip
    body_timeout_seconds: float = setting(
        15.0, "number", "server.body_timeout_seconds", "Longest pause between two pieces of a request's body.",
        unit="seconds", low=0.1, high=300,
    )  # fmt: skip
    idle_timeout_seconds: int = setting(
        75, "whole", "server.idle_timeout_seconds", "An unused connection is kept this long.",
        unit="seconds", low=1, high=3600,
    )  # fmt: skip
    connections_max: int = setting(
        10_000, "whole", "server.connections_max", "Connections at once; the next is refused.", low=1, high=1_000_000
    )
    drain_seconds: int = setting(
        20, "whole", "server.drain_seconds", "After SIGTERM, time for running requests to end.",
        unit="seconds", high=3600,
    )  # fmt: skip

    # -- where the data lies
    data_dir: Path = setting(Path("./data"), "path", "data_dir", "Directory of everything that is embedded.")
    session_storage_type: str | None = setting(
        None, "choice", "hot.storage_type", "Chooses the hot tier alone; sessions stay in warm.",
        choices=("memory", "redis"),
    )  # fmt: skip
    hot_url: str = setting("memory://", "url", "hot.url", "Hot tier: copies of recent sessions; may be lost any time.")
    redis_url: str | None = setting(None, "url", "redis.url", "Means HOT_URL, and wins over it.")
    redis_password: Secret | None = setting(None, "secret", "redis.password", "Password of Redis.")
    redis_db: int = setting(0, "whole", "redis.db", "Database number of Redis.", high=65535)
    redis_max_connections: int = setting(
        32, "whole", "redis.max_connections", "Connections of a process to each Redis server.", low=1, high=10_000
    )
    redis_ca_file: Path | None = setting(
        None, "path", "redis.ca_file", "PEM file of who signs the certificates of Redis.",
        default_note="whom the system trusts",
    )  # fmt: skip
    redis_cert_file: Path | None = setting(None, "path", "redis.cert_file", "PEM file of our certificate for Redis.")
    redis_key_file: Path | None = setting(None, "path", "redis.key_file", "PEM file of its key.")
    hot_timeout_seconds: float = setting(
        0.05, "number", "hot.timeout_seconds", "Deadline of one call to hot.", unit="seconds", low=0.001, high=60
    )
    hot_lease_seconds: float = setting(
        2.0, "number", "hot.lease_seconds", "A copy is trusted this long after warm was asked.",
        unit="seconds", high=60,
    )  # fmt: skip
    session_ttl: float = setting(
        3600.0, "number", "hot.session_ttl", "Longest life of a hot copy. No session ends by it.",
        unit="seconds", low=1, high=31_536_000,
    )  # fmt: skip
    session_prefix: str = setting("sessionmanager:", "text", "hot.session_prefix", "What keys in Redis begin with.")
    max_sessions: int = setting(
        10_000, "whole", "hot.max_sessions", "Copies kept in the memory hot tier. No session ends by it.",
        low=1, high=100_000_000,
    )  # fmt: skip
    memory_max_sessions: int = setting(
        10_000, "whole", "hot.memory_max_sessions", "The same, and wins over MAX_SESSIONS.",
        low=1, high=100_000_000, default_note="as MAX_SESSIONS",
    )  # fmt: skip
    hot_bytes_max: int = setting(
        268_435_456, "whole", "hot.bytes_max", "Bytes of copies kept in the memory hot tier.",
        unit="bytes", low=1_048_576,
    )  # fmt: skip
    cleanup_interval: float = setting(
        300.0, "number", "cleanup_interval", "Time between two looks for sessions past their expires_at.",
        unit="seconds", low=1, high=86_400,
    )  # fmt: skip
    memory_cleanup_interval: float = setting(
        300.0, "number", "hot.memory_cleanup_interval", "Time between two sweeps of the memory hot tier.",
        unit="seconds", low=1, high=86_400, default_note="as CLEANUP_INTERVAL",
    )  # fmt: skip
    warm_url: str = setting(
        "", "url", "warm.url", "Warm tier: the one authority for sessions.", default_note="sqlite in DATA_DIR"
    )
    mongo_uri: str | None = setting(None, "url", "mongo.uri", "Means WARM_URL, and wins over it.")
    mongo_max_connections: int = setting(
        100, "whole", "mongo.max_connections", "Connections of a process to each MongoDB server.", low=2, high=10_000
    )
    mongo_standalone: str = setting(
        "refused", "choice", "mongo.standalone",
        "A MongoDB server without a replica set; it loses what it acknowledged with its disk.",
        choices=("refused", "allowed"),
    )  # fmt: skip
    warm_timeout_seconds: float = setting(
        1.0, "number", "warm.timeout_seconds", "Deadline of one call to warm.", unit="seconds", low=0.001, high=60
    )
    cold_url: str = setting(
        "", "url", "cold.url", "Cold tier: archived bodies, attachments.", default_note="a directory in DATA_DIR"
    )
    s3_bucket: str | None = setting(None, "text", "s3.bucket", "`bucket` or `bucket/prefix`: means COLD_URL, and wins.")
    s3_endpoint_url: str | None = setting(None, "url", "s3.endpoint_url", "Address of an S3 server that is not AWS.")
    s3_region: str | None = setting(
        None, "text", "s3.region", "Region of the bucket.", default_note="as the AWS configuration has it"
    )
    s3_addressing: str = setting(
        "auto", "choice", "s3.addressing", "Where the bucket's name stands; `auto` is `path` with S3_ENDPOINT_URL.",
        choices=("auto", "path", "virtual"),
    )  # fmt: skip
    s3_storage_class: str | None = setting(
        None, "choice", "s3.storage_class", "Class of new objects; none that must be restored before it is read.",
        choices=("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY",
                 "EXPRESS_ONEZONE"),
        default_note="as the server has it",
    )  # fmt: skip
    s3_encryption: str | None = setting(
        None, "choice", "s3.encryption", "Encryption by the server, on top of our own.",
        choices=("AES256", "aws:kms", "aws:kms:dsse"), default_note="as the bucket has it",
    )  # fmt: skip
    s3_kms_key_id: str | None = setting(
        None, "text", "s3.kms_key_id", "Key of S3_ENCRYPTION aws:kms.", default_note="the account's own"
    )
    s3_max_connections: int = setting(
        32, "whole", "s3.max_connections", "Connections to S3, of the one client a process has.", low=1, high=1024
    )
    s3_multipart_bytes: int = setting(
        16_777_216, "whole", "s3.multipart_bytes", "Larger objects are sent in parts.",
        unit="bytes", low=5_242_880, high=1_073_741_824,
    )  # fmt: skip
    cold_timeout_seconds: float = setting(
        10.0, "number", "cold.timeout_seconds", "Deadline of one call to cold.", unit="seconds", low=0.001, high=300
    )
    master_key_file: Path | None = setting(
        None, "path", "master_key_file", "File with the key that wraps all others; made only with embedded tiers.",
        default_note="in DATA_DIR, with three embedded tiers",
    )  # fmt: skip

    # -- who may come in
    jwt_secret: Secret | None = setting(
        None, "secret", "jwt.secret", "Secret that signs and checks tokens (HS256).", unit="bytes", low=32,
        default_note="made in DATA_DIR on a loopback address",
    )  # fmt: skip
    jwt_secret_previous: Secret | None = setting(
        None, "secret", "jwt.secret_previous", "Checks tokens too, signs none: the old one during a rotation.",
        unit="bytes", low=32,
    )  # fmt: skip
    jwt_jwks_url: str | None = setting(
        None, "url", "jwt.jwks_url", "Public keys that check tokens, in place of JWT_SECRET; https unless on loopback."
    )
    jwt_algorithms: tuple[str, ...] = setting(
        (), "list", "jwt.algorithms", "Signatures that are accepted.",
        choices=("HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
                 "ES256", "ES384", "ES512", "EdDSA"),
        default_note="HS256; with JWT_JWKS_URL RS256,ES256,EdDSA",
    )  # fmt: skip
    jwt_issuer: str | None = setting(None, "text", "jwt.issuer", "`iss` that tokens must have; unset: not checked.")
    jwt_audience: str | None = setting(None, "text", "jwt.audience", "`aud` that tokens must have; unset: not checked.")

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
        30.0, "number", "streams.slow_seconds", "So long a reader may be behind; then it is sent away, and may come back.",
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

    # -- limits of one request
    body_bytes_max: int = setting(
        1_048_576, "whole", "limits.body_bytes_max", "A body.", unit="bytes", low=1024, high=67_108_864
    )
    entry_bytes_max: int = setting(
        65_536, "whole", "limits.entry_bytes_max", "One entry.", unit="bytes", low=256, high=1_048_576
    )
    append_entries_max: int = setting(
        256, "whole", "limits.append_entries_max", "Entries of one append.", low=1, high=1000
    )
    context_bytes_max: int = setting(
        262_144, "whole", "limits.context_bytes_max", "`context` of a session.", unit="bytes", high=4_194_304
    )
    metadata_keys_max: int = setting(64, "whole", "limits.metadata_keys_max", "Keys in a `metadata`.", high=1024)
    metadata_bytes_max: int = setting(
        16_384, "whole", "limits.metadata_bytes_max", "A `metadata`.", unit="bytes", low=2, high=262_144
    )
    json_depth_max: int = setting(64, "whole", "limits.json_depth_max", "Depth of JSON in a body.", low=8, high=256)
    attachment_bytes_max: int = setting(
        16_777_216, "whole", "limits.attachment_bytes_max", "One attachment.", unit="bytes", high=1_073_741_824
    )

    # -- what it tells
    log_level: str = setting(
        "info", "choice", "log_level", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = setting(
        "auto", "choice", "log_format", "`auto` is console on a terminal, else JSON.",
        choices=("auto", "json", "console"),
    )  # fmt: skip

    origins: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """Where each value came from, by the setting's name; what is missing is the default."""

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")

    def shown(self, name: str) -> str:
        """The value as people may see it: secrets and the credentials in URLs masked."""
        return shown(rows()[name], getattr(self, name))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self.shown(name)}' for name in rows())})"

    @property
    def embedded_tiers(self) -> tuple[str, ...]:
        """The tiers that live in this process or on its disk, of hot, warm and cold."""
        urls = {"hot": self.hot_url, "warm": self.warm_url, "cold": self.cold_url}
        return tuple(tier for tier, url in urls.items() if urlsplit(url).scheme == EMBEDDED_SCHEMES[tier])

    @property
    def embedded(self) -> bool:
        """All three tiers are embedded: the one case in which a master key may be made."""
        return len(self.embedded_tiers) == len(EMBEDDED_SCHEMES)

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the service."""
        return is_loopback(self.server_host)


@cache
def rows() -> Mapping[str, Row]:
    """The table, in the order of the fields."""
    return {f.name: f.metadata["row"]._replace(name=f.name) for f in fields(Settings) if "row" in f.metadata}


if __name__ == "__main__":
    from sessionmanager.settings_reference import main

    main()
