"""What settings mean together: values that follow from others, and combinations that would not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os.path import abspath
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sessionmanager.settings import Settings, rows
from sessionmanager.settings_rows import Row, Secret, is_loopback

Values = dict[str, Any]
SECRET_CHARACTERS_MIN: Final = 8
"""Different characters that a signing secret must have. 32 random bytes in any notation have more; `aaaa…` has not."""
MONGO_BYTES_MAX: Final = 12 * 1024 * 1024
"""What a session may take of its document: MongoDB refuses one over 16 MiB, and what the ring of its last commits keeps
needs room, too."""
PUBLIC_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""What is accepted from a JWKS address unless JWT_ALGORITHMS says otherwise."""


class Problem(NamedTuple):
    """One thing that is wrong. `name` is the setting's, or what was found where one should be."""

    name: str
    value: str
    origin: str
    allowed: str
    others: tuple[str, ...] = ()
    called: str = ""

    def __str__(self) -> str:
        row = rows().get(self.name)
        name = self.called or (row.env if row else self.name)
        value = f" = {self.value}" if self.value else ""
        return f"{name}{value} ({self.origin}): allowed is {self.allowed}".replace("allowed is unknown;", "unknown;")


class SettingsInvalid(Exception):
    """The settings do not hold; nothing was started. `problems` has all of them, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def refused(settings: Settings, name: str, allowed: str) -> SettingsInvalid:
    """For whoever finds out later that a value cannot be used, such as a URL scheme without a backend."""
    return SettingsInvalid([_problem(settings, name, allowed)])


def resolve(values: Values, origins: dict[str, str]) -> Values:
    """The values with those that follow from others filled in; `origins` says from which."""
    values = dict(values)

    def follow(name: str, source: str, value: Any, note: str = "") -> None:
        values[name] = value
        origins[name] = f"{source.upper()}, {origins[source]}" if source in origins else note or "default"

    data_dir = Path(abspath(values.get("data_dir", rows()["data_dir"].default)))
    values["data_dir"] = data_dir
    if "master_key_file" in values:
        values["master_key_file"] = Path(abspath(values["master_key_file"]))
    # REDIS_URL, MONGO_URI and S3_BUCKET mean the tier's URL and win over it, wherever they were said.
    if "redis_url" in values:
        follow("hot_url", "redis_url", values["redis_url"])
    elif values.get("session_storage_type") == "redis" and "hot_url" not in values:
        follow("hot_url", "session_storage_type", f"redis://localhost:6379/{values.get('redis_db', 0)}")
    if "mongo_uri" in values:
        follow("warm_url", "mongo_uri", values["mongo_uri"])
    if "s3_bucket" in values:
        follow("cold_url", "s3_bucket", f"s3://{values['s3_bucket'].removeprefix('s3://')}")
    in_data_dir = f"in DATA_DIR ({origins.get('data_dir', 'default')})"
    if "warm_url" not in values:
        # Four slashes: three would make the path relative.
        values["warm_url"], origins["warm_url"] = f"sqlite:///{quote(str(data_dir / 'warm.db'))}", in_data_dir
    if "cold_url" not in values:
        values["cold_url"], origins["cold_url"] = f"file://{quote(str(data_dir / 'cold'))}", in_data_dir
    for special, general in (("memory_max_sessions", "max_sessions"), ("memory_cleanup_interval", "cleanup_interval")):
        if special not in values and general in values:
            follow(special, general, values[general])
    if "jwt_algorithms" not in values:
        values["jwt_algorithms"] = PUBLIC_ALGORITHMS if "jwt_jwks_url" in values else ("HS256",)
    return values


def check(settings: Settings) -> Iterator[Problem]:
    """Everything that does not hold between settings."""
    yield from _check_storage(settings)
    yield from _check_processes(settings)
    yield from _check_identity(settings)
    yield from _check_livekit(settings)
    yield from _check_bounds(settings)
    yield from _check_document(settings)


def _problem(settings: Settings, name: str, allowed: str, *others: str) -> Problem:
    return Problem(name, repr(settings.shown(name)), settings.origin(name), allowed, others)


def _check_storage(settings: Settings) -> Iterator[Problem]:
    kind, hot = settings.session_storage_type, urlsplit(settings.hot_url).scheme
    by = "redis_url" if settings.redis_url else "hot_url"
    if kind == "memory" and hot != "memory":
        yield _problem(settings, "session_storage_type", f"memory without {by.upper()}, or {by.upper()} alone", by)
    if kind == "redis" and hot == "memory":
        yield _problem(
            settings, "session_storage_type", "redis with a Redis URL in HOT_URL, or REDIS_URL", "hot_url", "redis_url"
        )
    if hot.startswith("redis"):
        yield from _check_redis(settings, by)
    if not settings.embedded and settings.master_key_file is None:
        yield Problem(
            "master_key_file", "'(unset)'", "default",
            "the path of a key file that all replicas share: one is made only where all three tiers are embedded "
            f"(now: {', '.join(settings.embedded_tiers) or 'none'})",
            ("hot_url", "warm_url", "cold_url"),
        )  # fmt: skip


def _check_redis(settings: Settings, by: str) -> Iterator[Problem]:
    """What is said in two places is said the same; nothing here shows a password."""
    parts = urlsplit(settings.hot_url)
    password, secret = unquote(parts.netloc.rpartition("@")[0].partition(":")[2]), settings.redis_password
    if password and secret and secret != Secret(password):
        yield _problem(settings, "redis_password", f"one password; {by.upper()} has another", by)
    number = parts.path.rpartition("/")[2]
    if number.isdigit() and settings.origin("redis_db") != "default" and int(number) != settings.redis_db:
        yield _problem(settings, "redis_db", f"one database; {by.upper()} has another", by)
    if set("{}") & set(settings.session_prefix):
        yield _problem(settings, "session_prefix", "text without braces: Redis Cluster would part a session's keys")
    if settings.redis_key_file and not settings.redis_cert_file:
        yield _problem(settings, "redis_key_file", "the key of REDIS_CERT_FILE, which is unset", "redis_cert_file")


def _check_processes(settings: Settings) -> Iterator[Problem]:
    if settings.workers > 1 and settings.embedded_tiers:
        needed = {"hot": "REDIS_URL", "warm": "MONGO_URI", "cold": "S3_BUCKET"}
        missing = " and ".join(needed[tier] for tier in settings.embedded_tiers)
        yield _problem(
            settings, "workers",
            f"1 with an embedded tier ({', '.join(settings.embedded_tiers)}): run `serve` with WORKERS=1, "
            f"or set {missing}",
            "hot_url", "warm_url", "cold_url",
        )  # fmt: skip
    if settings.vector_log_enabled and settings.vector_log_endpoint is None:
        yield _problem(settings, "vector_log_enabled", "false without VECTOR_LOG_ENDPOINT", "vector_log_endpoint")
    for part, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
        if getattr(settings, part) is not None and getattr(settings, other) is None:
            yield _problem(settings, part, f"a path beside {other.upper()}, which is unset", other)
    if settings.metrics_port is not None and settings.metrics_port == settings.server_port:
        yield _problem(
            settings, "metrics_port", f"another port than SERVER_PORT ({settings.server_port})", "server_port"
        )


def _check_identity(settings: Settings) -> Iterator[Problem]:
    if settings.jwt_secret and settings.jwt_jwks_url:
        yield _problem(settings, "jwt_secret", "either JWT_SECRET or JWT_JWKS_URL; both are set", "jwt_jwks_url")
    if not settings.jwt_secret and not settings.jwt_jwks_url and not settings.loopback:
        yield Problem(
            "jwt_secret", "'(unset)'", "default",
            f"a secret of at least 32 bytes, or JWT_JWKS_URL: {settings.server_host} can be reached from outside "
            "(`openssl rand -base64 48` makes one)",
            ("jwt_jwks_url", "server_host"),
        )  # fmt: skip
    if settings.jwt_secret_previous and not settings.jwt_secret:
        yield _problem(settings, "jwt_secret_previous", "a secret beside JWT_SECRET, during a rotation", "jwt_secret")
    for name in ("jwt_secret", "jwt_secret_previous"):
        secret = getattr(settings, name)
        if secret and _is_weak(secret.reveal()):
            yield _problem(settings, name, "a secret that nobody guesses (`openssl rand -base64 48` makes one)")
    yield from _check_algorithms(settings)
    jwks = urlsplit(settings.jwt_jwks_url or "")
    if jwks.scheme and not (jwks.scheme == "https" or (jwks.scheme == "http" and is_loopback(jwks.hostname or ""))):
        yield _problem(settings, "jwt_jwks_url", "an https URL: keys that come in the clear can be exchanged")


def _check_livekit(settings: Settings) -> Iterator[Problem]:
    """The address, the key and its secret are given together or not at all."""
    three = ("livekit_server_url", "livekit_api_key", "livekit_api_secret")
    given = [name for name in three if getattr(settings, name) is not None]
    for name in three if given else ():
        if name not in given:
            yield _problem(settings, name, "what goes with " + " and ".join(one.upper() for one in given), *given)
    for name in ("livekit_server_url", "livekit_public_url"):
        url = urlsplit(getattr(settings, name) or "ws://unset")
        if url.scheme not in ("ws", "wss", "http", "https") or not url.hostname or "@" in url.netloc:
            yield _problem(settings, name, "an address such as wss://livekit.example.org, without credentials")


def _check_algorithms(settings: Settings) -> Iterator[Problem]:
    """A public key must never pass for a shared secret, so that the two kinds do not meet in one verifier."""
    public = [name for name in settings.jwt_algorithms if name != "HS256"]
    if settings.jwt_jwks_url and len(public) < len(settings.jwt_algorithms):
        yield _problem(settings, "jwt_algorithms", "RS, PS, ES or EdDSA alone with JWT_JWKS_URL", "jwt_jwks_url")
    if not settings.jwt_jwks_url and public:
        yield _problem(settings, "jwt_algorithms", "HS256 alone without JWT_JWKS_URL", "jwt_jwks_url")


def _is_weak(text: str) -> bool:
    lowered = text.lower().replace("-", "").replace("_", "").replace(" ", "")
    return len(set(text)) < SECRET_CHARACTERS_MIN or "changeme" in lowered or lowered.startswith("secretsecret")


_AT_MOST: Final[Mapping[str, str]] = {
    "tail_bytes_kept": "tail_bytes_max",
    "entry_bytes_max": "body_bytes_max",
    "context_bytes_max": "body_bytes_max",
    "metadata_bytes_max": "body_bytes_max",
    "hot_lease_seconds": "session_ttl",
    "hot_timeout_seconds": "request_deadline_seconds",
    "warm_timeout_seconds": "request_deadline_seconds",
    "tail_entries_kept": "tail_entries_max",
    "warm_segments_kept": "warm_segments_max",
}


def _check_bounds(settings: Settings) -> Iterator[Problem]:
    for name, bound in _AT_MOST.items():
        row: Row = rows()[name]
        value, most = getattr(settings, name), getattr(settings, bound)
        strictly = name.endswith("_kept")
        if value > most or (strictly and value == most):
            words = "less than" if strictly else "at most"
            yield _problem(settings, name, f"{row.allowed}, and {words} {bound.upper()} ({most:g})", bound)


def _check_document(settings: Settings) -> Iterator[Problem]:
    """With MongoDB a session is one document: its tail, which a commit seals at twice its bound, the append that
    passes it, and the context have to fit into one; else commits would be refused when they are needed most."""
    if not urlsplit(settings.warm_url).scheme.startswith("mongodb"):
        return
    shares = {
        "tail_bytes_max": 2 * settings.tail_bytes_max,
        "body_bytes_max": settings.body_bytes_max,
        "context_bytes_max": settings.context_bytes_max,
    }
    if sum(shares.values()) > MONGO_BYTES_MAX:
        largest = max(shares, key=lambda name: shares[name])
        allowed = (
            f"with MongoDB, a value with which 2 * TAIL_BYTES_MAX + BODY_BYTES_MAX + CONTEXT_BYTES_MAX (now "
            f"{sum(shares.values())}) is at most {MONGO_BYTES_MAX}: a document holds no more"
        )
        yield _problem(settings, largest, allowed, *(name for name in shares if name != largest), "warm_url")
