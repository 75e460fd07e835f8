"""Settings of the process: where it listens, whom it lets in, how much of one request, what it tells."""

# ruff: noqa: RUF009  # `setting` makes a dataclass field; its default is immutable
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sessionmanager.settings_rows import Secret, setting


@dataclass(frozen=True, kw_only=True, repr=False)
class ServingSettings:
    """How it serves."""

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
    otel_exporter_otlp_endpoint: str | None = setting(
        None, "url", "traces.endpoint", "Collector of traces (OTLP over HTTP), such as http://collector:4318."
    )
    otel_service_name: str = setting(
        "sessionmanager", "text", "traces.service_name", "What this service calls itself in traces."
    )
    otel_traces_sampler_arg: float = setting(
        1.0, "number", "traces.share", "Share of traces that are kept, where the caller has not decided.", high=1
    )
    vector_log_enabled: bool = setting(
        False, "flag", "vector_log.enabled", "Send each log line to VECTOR_LOG_ENDPOINT as well."
    )
    vector_log_endpoint: str | None = setting(
        None, "url", "vector_log.endpoint", "Address of Vector's `http_server` source, such as http://vector:8686."
    )
    vector_log_source_name: str = setting(
        "sessionmanager", "text", "vector_log.source_name", "What these lines call themselves: their `source_name`."
    )
    log_format: str = setting(
        "auto", "choice", "log_format", "`auto` is console on a terminal, else JSON.",
        choices=("auto", "json", "console"),
    )  # fmt: skip
