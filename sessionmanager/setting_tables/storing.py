"""Settings of the tiers: where the data lies, and how they are reached."""

# ruff: noqa: RUF009  # `setting` makes a dataclass field; its default is immutable
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sessionmanager.settings_rows import Secret, setting


@dataclass(frozen=True, kw_only=True, repr=False)
class StoringSettings:
    """Where the data lies."""

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
    move_grace_seconds: float = setting(
        60.0, "number", "cold.move_grace_seconds",
        "A move to cold may take so long; then it is given up, and one that a kill left half-way is begun anew.",
        unit="seconds", low=5, high=3600,
    )  # fmt: skip
    master_key_file: Path | None = setting(
        None, "path", "master_key_file",
        "File with the key that wraps all others, or up to four, one a line, that to go over to first; made only with "
        "embedded tiers.",
        default_note="in DATA_DIR, with three embedded tiers",
    )  # fmt: skip
