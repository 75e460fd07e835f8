"""Who may import what, and who may know which library: the tables that `tests/test_house.py` holds the code to."""

from __future__ import annotations

from typing import Final

WORDS: Final = ("words", "errors", "fields")
PROTOCOLS: Final = ("tiers.hot.protocol", "tiers.warm.protocol", "tiers.cold.protocol")

# -- arrows: a module, or all in a folder, and what of ours it may import. The first line that fits a module counts.

ARROWS: Final = (
    # Packages hold nothing but their modules; the outermost has the version.
    ("", ()),
    ("__main__", ("cli.main",)),
    ("words", ()),
    ("errors", ("words",)),
    ("fields", ("words",)),
    ("waits", ()),
    ("logs", ("tracing.spans",)),
    ("running.log_shipping", ()),
    ("running.profiling", ()),
    ("tracing.spans", ()),
    ("tracing.otel", ("", "tracing.spans")),
    ("tracing", ()),
    ("telemetry", ("words",)),
    ("metrics", ("", "telemetry", "tracing.spans", "words")),
    ("settings_rows", ()),
    ("setting_tables", ("settings_rows",)),
    ("settings_checks", ("settings", "settings_rows")),
    # The numbers of the parts; what it imports of core are plain values.
    ("settings_parts", ("settings", "settings_checks", "core", "model", "wire.common")),
    ("settings_loader", ("settings", "settings_checks", "settings_rows")),
    ("settings_reference", ("settings", "settings_rows")),
    ("settings", ("setting_tables", "settings_rows", "settings_reference")),
    (
        "opening",
        (
            "settings",
            "settings_checks",
            "core.keys",
            "core.verify",
            "tiers",
            "model.roles",
            *WORDS,
            "logs",
        ),
    ),
    ("running.background", ("waits.pause",)),
    ("running.garbage", ()),
    ("running.gauges", ("api.context", "core.services.handlers", "metrics", "tiers.hot")),
    ("running.small_server", ()),
    ("running.processes", ("waits.pause",)),
    ("running.siblings", ("running.processes",)),
    (
        "running.servers",
        ("running", "wiring", "settings", "settings_checks", "api", "cli.serve", "model.roles", "logs"),
    ),
    ("running", ()),
    ("local_secret", ("settings", "settings_checks", "settings_rows", "core.keys.files")),
    ("model", ("model", *WORDS)),
    ("tiers.hot.protocol", ("model", "words")),
    ("tiers.warm.protocol", ("model", "words")),
    ("tiers.cold.protocol", ("model", "words")),
    ("tiers.registry", ()),
    ("tiers.breaker", ("errors",)),
    ("tiers.guard", ("tiers.breaker", "waits.deadline", "errors", "words")),
    ("tiers.retries", ("tiers.guard", "waits.deadline", "errors")),
    ("tiers.guarded", ("tiers.guard", "tiers.retries", *PROTOCOLS, "model", "words")),
    ("tiers.trials", ("tiers.guard", "tiers.guarded", "model", "errors", "waits.pause", "words")),
    ("tiers.hot", ("tiers.hot", "model", "errors", "words")),
    ("tiers.warm", ("tiers.warm", "model", "waits.deadline", "errors", "words")),
    ("tiers.cold", ("tiers.cold", "model", "errors", "words")),
    ("tiers", ()),
    # LiveKit is no tier, and is kept off by the same breaker.
    ("core.rooms.livekit", ("core", "tiers.breaker", "model", *WORDS)),
    ("core", ("core", *PROTOCOLS, "model", "tracing.spans", "waits.pause", *WORDS)),
    # The bounds of leases and of the floor are the model's.
    ("wire.participants", ("wire", "model.floor", "model.participants", *WORDS)),
    ("wire", ("wire", *WORDS)),
    ("api", ("", "api", "core", "wire", "model", *PROTOCOLS, *WORDS, "logs", "tracing.spans", "waits.deadline")),
    ("client", ("", "client", "wire", "tracing.spans", *WORDS)),
    # What a service author builds on: the HTTP surface from afar, and a small server of its own.
    ("services", ("", "services", "client", "wire", *WORDS, "running.small_server")),
    # Other systems' names over the client; a whole service is put together within one function.
    ("compat", ("compat", "client", "wire", *WORDS)),
    # Made tokens are those of the command `token`; locust and gevent are known here alone.
    ("loadtest.locustfile", ("loadtest", "cli.options", "cli.token")),
    ("loadtest.addresses", ("client.retry",)),
    ("loadtest.readback", ("loadtest", "client", "errors")),
    ("loadtest", ("loadtest",)),
    ("dashboards", ("dashboards",)),
    ("cli.loadtest", ("cli", "loadtest.kept", "loadtest.plan", "loadtest.samples", "loadtest.verdict")),
    # Clients of the HTTP surface, as anybody's bridge is.
    # Anybody's agent uses it: of the other bridges it knows nothing.
    ("bridges.livekit", ("bridges.livekit", "client", "wire", *WORDS)),
    ("bridges.metrics", ("bridges.carrier", "metrics", "telemetry", "client", *WORDS)),
    ("bridges", ("", "bridges", "client", "wire", *WORDS, "running.small_server")),
    ("simulate", ("", "simulate", "bridges.media", "waits.pause", "wire", *WORDS)),
    ("cli.bridge", ("cli", "bridges", "simulate", "client", "errors", "running.small_server")),
    ("cli.simulate", ("cli", "simulate")),
    (
        "cli.playing",
        ("cli", "bridges", "simulate", "client", "wire", *WORDS, "settings", "settings_rows"),
    ),
    ("cli.verify", ("cli", "settings", "waits.pause", *WORDS)),
    ("cli", ("", "cli", "client", "wire", *WORDS, "settings", "settings_checks", "settings_loader", "settings_rows")),
)
INSIDE: Final = {
    "cli.serve": ("running.servers",),
    "cli.worker": ("running.servers",),
    "cli.loadtest": ("loadtest.readback", "loadtest.report"),
    # Commands that work on the tiers themselves, in place of the service or beside it.
    "cli.doctor": ("opening", "model.finding"),
    "cli.upkeep.migrate": ("opening", "logs", "tiers.registry", "core.assembly", "core.moves.restored"),
    "cli.verify": ("opening", "core.verify"),
    "cli.upkeep.rewrap": ("opening", "core.keys.hierarchy", "core.keys.rewrap", "core.keys.standing"),
    # A token is made by the service's own rules, with the service's own secret; no tier is called for it.
    "compat.opusagent.places": ("wiring", "settings_loader", "core.keys.files", "model.roles"),
    "cli.token": (
        "core.tokens.minting",
        "core.tokens.revocations",
        "local_secret",
        "model.roles",
        "tiers.warm.protocol",
    ),
}
"""What more a module may import within a function, or for its types alone."""
EVERYTHING: Final = "wiring"

# -- who may know which library: whatever is replaced one day is known in one place

LIBRARIES: Final = {
    "click": ("cli",),
    "cryptography": ("core.keys", "api.identity.jwks"),
    "opentelemetry": ("tracing.otel",),
    "gevent": ("loadtest",),
    "geventhttpclient": ("loadtest",),
    "httptools": ("api.serving.protocol",),
    "httpx2": (
        "running.log_shipping",
        "client",
        "cli",
        "services.credentials",
        "api.identity.jwks",
        "core.outgoing",
        "compat.opusagent.places",
        "simulate.twilio",
    ),
    "jsonpatch": ("model.patching",),
    "jsonpointer": ("model.patching",),
    "jsonschema": ("api.fielderrors",),
    "aiohttp": ("core.rooms.livekit", "tiers.cold"),
    "livekit": ("core.rooms", "bridges.livekit"),
    "locust": ("loadtest",),
    "matplotlib": ("loadtest.report",),
    "jwt": ("core.tokens", "api.identity"),
    "prometheus_client": ("metrics", "running.siblings", "wiring", "bridges.metrics"),
    "pybreaker": ("tiers.breaker",),
    "tenacity": ("tiers.retries",),
    "requests": ("loadtest",),
    "sqlite3": ("tiers.warm",),
    "starlette": (
        "api",
        "services.server",
        "running.small_server",
        "wiring",
        "bridges.audiocodes",
        "bridges.doors",
        "bridges.twilio",
        "cli.bridge",
    ),
    "uvicorn": ("api", "running.small_server"),
    "uvloop": ("running.servers",),
    # Drivers: each in its backend alone, once there is one.
    "redis": ("tiers.hot",),
    "hiredis": ("tiers.hot",),
    "pymongo": ("tiers.warm.mongo",),
    "bson": ("tiers.warm.mongo",),
    "aioboto3": ("tiers.cold",),
    "botocore": ("tiers.cold",),
}
