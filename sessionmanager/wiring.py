"""Settings → running parts: the only file that knows every other, and the order in which they begin and end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from sessionmanager import logs
from sessionmanager.api.app import make_app, metrics_app
from sessionmanager.api.audit import Refusals
from sessionmanager.api.auth import Verifier
from sessionmanager.api.context import Api
from sessionmanager.api.jwks import Jwks
from sessionmanager.api.protocol import ServerBounds
from sessionmanager.api.server import make_server
from sessionmanager.api.service import ServiceState
from sessionmanager.cli.serve import banner
from sessionmanager.core.assembly import Core, CoreEvents, CoreSettings, build_core
from sessionmanager.core.keyfiles import load_or_make_key_file, read_key_file
from sessionmanager.core.keys import CursorCodec, MasterKey, SessionKeys
from sessionmanager.core.tenants import Tenants
from sessionmanager.core.tokens import Revocations, TokenMinter
from sessionmanager.local_secret import signing_secret
from sessionmanager.metrics import Metrics
from sessionmanager.model.decide import Bounds
from sessionmanager.model.roles import Actor
from sessionmanager.model.timers import Policy
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.tiers.guard import COLD_LIMITS, HOT_LIMITS, WARM_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.tiers.hot.memory import MemoryHot
from sessionmanager.tiers.registry import opener
from sessionmanager.wire.common import Limits
from sessionmanager.words import TierName

MASTER_KEY_NAME: Final = "master-key"
BANNER_TOKEN_SECONDS: Final = 3600
TASKS_STOP_SECONDS: Final = 10.0
EMBEDDED_WARM_TIMEOUT_SECONDS: Final = 5.0
"""SQLite has no network that could swallow an answer: a call that takes long waits for the disk, and will come."""

log = structlog.get_logger()


class Service(NamedTuple):
    """Everything of one process that runs."""

    app: Starlette
    core: Core
    api: Api
    tokens: TokenMinter


class _Events(CoreEvents):
    """The core's news, counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.commit = metrics.commit
        self.conflict = metrics.conflict
        self.replay = metrics.replay
        self.unknown = metrics.unknown
        self.read = metrics.read
        self.worked = metrics.worked
        self.lag = metrics.lag
        self.sessions = metrics.sessions


def core_settings(settings: Settings) -> CoreSettings:
    """The numbers that the core goes by."""
    return CoreSettings(
        policy=Policy(
            idle_suspend_seconds=settings.idle_suspend_seconds,
            archive_after_days=settings.archive_after_days,
            tail_entries_max=settings.tail_entries_max,
            tail_bytes_max=settings.tail_bytes_max,
            tail_entries_kept=settings.tail_entries_kept,
            tail_bytes_kept=settings.tail_bytes_kept,
            warm_segments_max=settings.warm_segments_max,
            warm_segments_kept=settings.warm_segments_kept,
            keys_keep_seconds=settings.keys_keep_seconds,
        ),
        bounds=Bounds(
            context_bytes_max=settings.context_bytes_max,
            metadata_bytes_max=settings.metadata_bytes_max,
            document_bytes_max=settings.body_bytes_max,
            entry_bytes_max=settings.entry_bytes_max,
            depth_max=settings.json_depth_max,
        ),
        hot_lease_seconds=settings.hot_lease_seconds,
        default_max_age_seconds=settings.default_max_age_seconds,
        sweep_seconds=settings.cleanup_interval,
    )


def limits_of(settings: Settings) -> Limits:
    """Bounds of requests."""
    return Limits(
        body_bytes_max=settings.body_bytes_max,
        entry_bytes_max=settings.entry_bytes_max,
        append_entries_max=settings.append_entries_max,
        context_bytes_max=settings.context_bytes_max,
        metadata_keys_max=settings.metadata_keys_max,
        metadata_bytes_max=settings.metadata_bytes_max,
        json_depth_max=settings.json_depth_max,
        attachment_bytes_max=settings.attachment_bytes_max,
    )


@asynccontextmanager
async def open_service(settings: Settings, *, on_poison: Any = None) -> AsyncGenerator[Service]:
    """Open the tiers, build the core and the application, run the worker; close in the opposite order.

    Raises ValueError and TierUnavailable with what to mend. On the way out every commit that has begun is finished.
    """
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    logs.configure(settings.log_level, settings.log_format, on_event=metrics.log_event)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    master = _master_key(settings)
    async with AsyncExitStack() as stack:
        guards = _guards(settings, metrics)
        cold = GuardedCold(await stack.enter_async_context(_open(settings, "cold")), guards["cold"])
        warm = GuardedWarm(
            await stack.enter_async_context(_open(settings, "warm", on_poison=on_poison)), guards["warm"]
        )
        hot = GuardedHot(await stack.enter_async_context(_open(settings, "hot", **_of_hot(settings))), guards["hot"])
        await SessionKeys(master, warm).check_master()
        core = build_core(hot, warm, cold, master, core_settings(settings), events=_Events(metrics))
        revocations = Revocations(warm)
        await revocations.refresh()
        verifier, tokens = _identity(settings, revocations, stack)
        urls: dict[TierName, str] = {"hot": settings.hot_url, "warm": settings.warm_url, "cold": settings.cold_url}
        backends: dict[TierName, str] = {tier: urlsplit(url).scheme for tier, url in urls.items()}
        state = ServiceState(guards, backends, time.monotonic)
        refusals = Refusals(warm)
        api = Api(
            core=core,
            warm=warm,
            tenants=Tenants(warm, time.monotonic),
            tokens=tokens,
            refusals=refusals,
            cursors=CursorCodec(master.cursor_key),
            service=state,
            metrics=metrics,
        )
        app = make_app(
            api,
            verifier,
            limits=limits_of(settings),
            metrics_open=settings.loopback,
            deadline_seconds=settings.request_deadline_seconds,
            cors_origins=settings.cors_origins,
        )
        _watch(metrics, core, refusals, hot)
        stop = asyncio.Event()
        tasks = [asyncio.create_task(work(stop)) for work in (core.worker.run, revocations.run, refusals.run)]
        try:
            yield Service(app, core, api, tokens)
        finally:
            state.draining = True
            await core.ledger.drain()
            stop.set()
            _, late = await asyncio.wait(tasks, timeout=TASKS_STOP_SECONDS)
            for task in late:
                task.cancel()
            for guard in guards.values():
                await guard.drain(TASKS_STOP_SECONDS)


def _open(settings: Settings, tier: TierName, **options: Any) -> Any:
    url: str = getattr(settings, f"{tier}_url")
    try:
        return opener(tier, url)(url, **options)
    except ValueError as error:
        raise refused(settings, f"{tier}_url", str(error)) from None


def _of_hot(settings: Settings) -> dict[str, Any]:
    """Bounds of the copies that this process keeps."""
    return {
        "sessions_max": settings.memory_max_sessions,
        "bytes_max": settings.hot_bytes_max,
        "ttl_seconds": settings.session_ttl,
        "cleanup_seconds": settings.memory_cleanup_interval,
    }


def _guards(settings: Settings, metrics: Metrics) -> Mapping[TierName, Guard]:
    warm_seconds = settings.warm_timeout_seconds
    if "warm" in settings.embedded_tiers and settings.origin("warm_timeout_seconds") == "default":
        warm_seconds = EMBEDDED_WARM_TIMEOUT_SECONDS
    return {
        "hot": Guard("hot", HOT_LIMITS._replace(timeout_seconds=settings.hot_timeout_seconds), metrics),
        "warm": Guard("warm", WARM_LIMITS._replace(timeout_seconds=warm_seconds), metrics),
        "cold": Guard("cold", COLD_LIMITS._replace(timeout_seconds=settings.cold_timeout_seconds), metrics),
    }


def _master_key(settings: Settings) -> MasterKey:
    if settings.master_key_file is not None:
        return MasterKey(read_key_file(Path(settings.master_key_file)))
    path = settings.data_dir / MASTER_KEY_NAME
    key, made = load_or_make_key_file(path)
    if made:
        log.warning("master_key.made", path=str(path))
    return MasterKey(key)


def _identity(settings: Settings, revocations: Revocations, stack: AsyncExitStack) -> tuple[Verifier, TokenMinter]:
    signing = signing_secret(settings, make=True)
    if signing is not None and signing.made:
        log.warning("secret.made", path=str(signing.path))
    secret = signing.secret.reveal().encode() if signing is not None else None
    previous = settings.jwt_secret_previous
    secrets = [] if secret is None else [secret]
    if previous is not None:
        secrets.append(previous.reveal().encode())
    keys = None
    if settings.jwt_jwks_url is not None:
        keys = Jwks(settings.jwt_jwks_url)
        stack.push_async_callback(keys.aclose)
    verifier = Verifier(
        secrets=secrets,
        keys=keys,
        algorithms=settings.jwt_algorithms or None,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        revocations=revocations,
    )
    signs = not settings.jwt_algorithms or "HS256" in settings.jwt_algorithms
    minter = TokenMinter(
        secret if signs else None, revocations, issuer=settings.jwt_issuer, audience=settings.jwt_audience
    )
    return verifier, minter


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then stop within `drain_seconds`. Ends the process with 1 where warm failed."""
    if not uvloop.run(_serve(settings)):
        sys.exit(1)


async def _serve(settings: Settings) -> bool:
    healthy = True
    servers: list[Any] = []

    def on_poison() -> None:
        nonlocal healthy
        healthy = False
        for server in servers:
            server.should_exit = True

    async with open_service(settings, on_poison=on_poison) as service:

        def on_listening(host: str, port: int) -> None:
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            log.info("server.started", address=address, data_dir=str(settings.data_dir))
            print(banner(settings, _banner_token(settings, service), address), flush=True)  # noqa: T201

        def on_stopping() -> None:
            service.api.service.draining = True
            log.info("server.stopping")

        server = make_server(
            service.app,
            host=settings.server_host,
            port=settings.server_port,
            bounds=ServerBounds(
                headers_seconds=settings.headers_timeout_seconds,
                body_idle_seconds=settings.body_timeout_seconds,
                keep_alive_seconds=settings.idle_timeout_seconds,
                shutdown_seconds=settings.drain_seconds,
                connections_max=settings.connections_max,
            ),
            on_listening=on_listening,
            on_stopping=on_stopping,
        )
        servers.append(server)
        async with _metrics_server(settings, service):
            await server.serve()
    log.info("server.stopped")
    return healthy and server.started


@asynccontextmanager
async def _metrics_server(settings: Settings, service: Service) -> AsyncGenerator[None]:
    """/metrics on a port of its own, without a token, where one is set: for a network that only scrapers reach."""
    if settings.metrics_port is None:
        yield
        return
    server = make_server(
        metrics_app(service.api), host=settings.server_host, port=settings.metrics_port, takes_signals=False
    )
    task = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _watch(metrics: Metrics, core: Core, refusals: Refusals, hot: GuardedHot) -> None:
    """Gauges that are asked for at each scrape."""
    metrics.watch("queue_depth", lambda: core.ledger.waiting, "turns")
    metrics.watch("queue_depth", lambda: core.ledger.in_flight, "commits")
    metrics.watch("queue_depth", lambda: core.worker.waiting, "worker")
    metrics.watch("queue_depth", lambda: len(refusals), "audit")
    if isinstance(hot.tier, MemoryHot):
        memory = hot.tier
        metrics.watch("hot_copies", lambda: memory.sessions_held)
        metrics.watch("hot_bytes", lambda: memory.bytes_held)


def _banner_token(settings: Settings, service: Service) -> str | None:
    """A short-lived admin token for whoever started the service on this machine; none where others could read it."""
    if not settings.loopback or settings.jwt_jwks_url is not None:
        return None
    maker = Actor("default", "serve", frozenset(("admin",)))
    minted = service.tokens.mint(
        maker, subject="serve", roles=("admin",), tenant="default", ttl_seconds=BANNER_TOKEN_SECONDS
    )
    return minted.token


def run_worker(settings: Settings) -> None:
    """Run the worker alone until SIGTERM or SIGINT."""
    uvloop.run(_work(settings))


async def _work(settings: Settings) -> None:
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_service(settings):
        log.info("server.started", address="", data_dir=str(settings.data_dir))
        await stop.wait()
    log.info("server.stopped")
