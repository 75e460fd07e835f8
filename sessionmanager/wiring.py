"""Settings → running parts: the only file that knows every other, and the order in which they begin and end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from sessionmanager import logs
from sessionmanager.api.app import make_app
from sessionmanager.api.audit import Refusals
from sessionmanager.api.context import Api
from sessionmanager.api.identity.jwks import Jwks
from sessionmanager.api.identity.verifier import Verifier
from sessionmanager.api.process import ProcessState
from sessionmanager.api.shedding import Shedding
from sessionmanager.core.assembly import Core, CoreEvents, build_core
from sessionmanager.core.feed.feeds import Feeds
from sessionmanager.core.keys.cursors import CursorCodec
from sessionmanager.core.keys.files import load_or_make_key_file
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.outgoing.endpoints import LOOPBACK
from sessionmanager.core.rooms.access import RoomTokens
from sessionmanager.core.rooms.assembly import NO_LIVEKIT, AtLiveKit, open_livekit
from sessionmanager.core.rooms.livekit import RoomLimits
from sessionmanager.core.services.assembly import Outside, outside_of
from sessionmanager.core.services.handlers import Handlers, installed
from sessionmanager.core.tokens.api_keys import ApiKeys
from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.core.tokens.revocations import Revocations
from sessionmanager.core.webhooks.shared import WebhookLimits
from sessionmanager.core.webhooks.webhooks import Webhooks, build_webhooks
from sessionmanager.errors import NotFound
from sessionmanager.local_secret import signing_secret
from sessionmanager.metrics import Metrics, TierWatch
from sessionmanager.opening import MASTER_KEY_NAME, check_master, open_tier, read_masters
from sessionmanager.running.background import Work, keep
from sessionmanager.running.gauges import watch
from sessionmanager.running.log_shipping import LogShipper
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.settings_parts import core_settings, feed_limits, limits_of
from sessionmanager.tiers.guard import COLD_LIMITS, HOT_LIMITS, WARM_LIMITS, Guard, Observer
from sessionmanager.tiers.guarded import GuardedCold, GuardedHot, GuardedWarm
from sessionmanager.tiers.hot.memory import MemoryHot
from sessionmanager.tiers.hot.protocol import Hot
from sessionmanager.tiers.trials import trials_of
from sessionmanager.tracing.spans import trace_by
from sessionmanager.words import TierName

TASKS_STOP_SECONDS: Final = 10.0
EMBEDDED_WARM_TIMEOUT_SECONDS: Final = 5.0
"""SQLite has no network that could swallow an answer: a call that takes long waits for the disk, and will come."""

OnPoison = Callable[[], None]
"""Called once when the files of an embedded tier can be trusted no more: the process must end."""

log = structlog.get_logger()


class Service(NamedTuple):
    """Everything of one process that runs."""

    app: Starlette
    core: Core
    api: Api
    tokens: TokenMinter
    metrics: Metrics


class _Events(CoreEvents):
    """The core's news, counted."""

    def __init__(self, metrics: Metrics, handlers: Handlers) -> None:
        self._metrics = metrics
        self.landed = handlers.landed
        self.commit = metrics.commit
        self.conflict = metrics.conflict
        self.replay = metrics.replay
        self.unknown = metrics.unknown
        self.read = metrics.read
        self.worked = metrics.worked
        self.lag = metrics.lag
        self.sessions = metrics.sessions
        self.calls = metrics.calls
        self.room_corrected = metrics.room_corrected


def _livekit(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> AtLiveKit:
    """What has to do with LiveKit, if there is one."""
    url, key, secret = settings.livekit_server_url, settings.livekit_api_key, settings.livekit_api_secret
    if url is None or key is None or secret is None:
        return NO_LIVEKIT
    livekit = open_livekit(
        url,
        settings.livekit_public_url,
        key,
        secret.reveal(),
        limits=RoomLimits(settings.room_empty_seconds, settings.room_departure_seconds, settings.room_max_participants),
        timeout_seconds=settings.livekit_timeout_seconds,
        token_seconds=settings.livekit_token_seconds,
        observer=metrics,
    )
    stack.push_async_callback(livekit.aclose)
    return livekit


def _outside(settings: Settings, tokens: TokenMinter, rooms: RoomTokens | None, stack: AsyncExitStack) -> Outside:
    """How services are reached, and where they may be. Raises SettingsInvalid."""
    listed = settings.service_endpoints or (LOOPBACK if settings.loopback else ())
    try:
        outside, outgoing = outside_of(listed, tokens, rooms)
    except ValueError as error:
        raise refused(settings, "service_endpoints", str(error)) from None
    stack.push_async_callback(outgoing.aclose)
    return outside


def _webhooks(
    settings: Settings, warm: GuardedWarm, core: Core, masters: MasterKeys, metrics: Metrics, stack: AsyncExitStack
) -> Webhooks:
    """Webhooks, and where they may go. Raises SettingsInvalid."""
    # Where only one process can have the data, the one that was killed is not waited for.
    owner = "alone" if "warm" in settings.embedded_tiers else os.urandom(8).hex()
    limits = WebhookLimits(
        request_seconds=settings.webhook_timeout_seconds,
        retry_seconds=settings.webhook_retry_hours * 3600,
        disable_seconds=settings.webhook_disable_hours * 3600,
    )
    try:
        webhooks = build_webhooks(warm, core.reads, masters, metrics, owner, settings.webhook_networks, limits)
    except ValueError as error:
        raise refused(settings, "webhook_networks", str(error)) from None
    stack.push_async_callback(webhooks.aclose)
    return webhooks


def _tell(settings: Settings, metrics: Metrics, stack: AsyncExitStack, *, own_process: bool) -> None:
    """Logs and traces of everything that is begun from here, where they are asked for. Raises SettingsInvalid."""
    if not own_process:
        logs.join(metrics.log_event)
        return
    shipper = None
    if settings.vector_log_enabled and settings.vector_log_endpoint is not None:
        shipper = LogShipper(settings.vector_log_endpoint, settings.vector_log_source_name, metrics.log_shipped)
        stack.push_async_callback(asyncio.to_thread, shipper.close)
    ship = None if shipper is None else shipper.take
    logs.configure(settings.log_level, settings.log_format, on_event=metrics.log_event, ship=ship)
    if settings.otel_exporter_otlp_endpoint is None:
        return
    try:
        from sessionmanager.tracing.otel import OtelTracer
    except ImportError:
        remedy = "unset, or the extra `otel` installed: pip install 'sessionmanager[otel]'"
        raise refused(settings, "otel_exporter_otlp_endpoint", remedy) from None
    tracer = OtelTracer(
        settings.otel_exporter_otlp_endpoint, settings.otel_service_name, settings.otel_traces_sampler_arg
    )
    trace_by(tracer)
    stack.push_async_callback(asyncio.to_thread, tracer.close)
    stack.callback(trace_by, None)


@asynccontextmanager
async def open_service(
    settings: Settings, *, on_poison: OnPoison | None = None, own_process: bool = True
) -> AsyncGenerator[Service]:
    """Open the tiers, build the core and the application, run the worker; close in the opposite order.

    own_process: False within another program, whose logging stays as it is.
    Raises ValueError and TierUnavailable with what to mend. On the way out every commit that has begun is finished.
    """
    metrics = Metrics(CollectorRegistry())
    async with AsyncExitStack() as stack:
        _tell(settings, metrics, stack, own_process=own_process)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        given, made = _master_keys(settings)
        guards = _guards(settings, TierWatch(metrics))
        warm, cold = await _open_stores(settings, stack, guards, on_poison)
        masters = await check_master(settings, warm, given, made)
        hot = await _open_hot(settings, stack, guards["hot"], masters)
        revocations = Revocations(warm)
        await revocations.refresh()
        verifier, tokens = _identity(settings, revocations, stack)
        handlers = Handlers(installed())
        livekit = _livekit(settings, metrics, stack)
        outside = _outside(settings, tokens, livekit.tokens, stack)
        core = build_core(
            hot, warm, cold, masters, core_settings(settings), events=_Events(metrics, handlers), outside=outside,
            livekit=livekit.service,
        )  # fmt: skip
        await core.tenants.refresh()
        feeds = Feeds(hot, warm, core.reads, clock=time.monotonic, rng=random.Random(), limits=feed_limits(settings))
        webhooks = _webhooks(settings, warm, core, masters, metrics, stack)
        api = Api(
            core=core,
            warm=warm,
            tokens=tokens,
            refusals=Refusals(warm),
            cursors=CursorCodec(masters.lasting.cursor),
            process=ProcessState(guards, _backends(settings), time.monotonic),
            metrics=metrics,
            feeds=feeds,
            api_keys=ApiKeys(warm, masters.lasting.api_key, random_bytes=os.urandom, revoked=revocations.revoked),
            webhooks=webhooks,
            livekit=livekit,
        )
        shedding = Shedding(settings.requests_max, metrics.shed)
        app = make_app(
            api,
            verifier,
            limits=limits_of(settings),
            metrics_open=settings.loopback,
            deadline_seconds=settings.request_deadline_seconds,
            may_enter=shedding.check,
            cors_origins=settings.cors_origins,
            log_requests=settings.log_level == "debug",
        )
        watch(metrics, api, handlers, hot)
        trials = trials_of(hot, warm, cold)
        watching = (core.services.monitor.run, webhooks.run, revocations.run, core.tenants.run, api.refusals.run)
        async with _running(api, handlers, (core.worker.run, trials.run, shedding.run, *watching), guards):
            yield Service(app, core, api, tokens, metrics)


@asynccontextmanager
async def _running(
    api: Api, handlers: Handlers, works: Iterable[Work], guards: Mapping[TierName, Guard]
) -> AsyncGenerator[None]:
    """What goes on beside requests, and the order in which it ends: nothing new, then what has begun, then the rest."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(keep(work, stop)) for work in works]
    handlers.start()
    try:
        yield
    finally:
        api.process.draining = True
        await api.feeds.close()
        await api.core.services.seating.close()
        await api.core.rooms.close()
        await api.core.ledger.drain()
        await handlers.close()
        stop.set()
        _, late = await asyncio.wait(tasks, timeout=TASKS_STOP_SECONDS)
        for task in late:
            task.cancel()
        for guard in guards.values():
            await guard.drain(TASKS_STOP_SECONDS)


async def _open_stores(
    settings: Settings, stack: AsyncExitStack, guards: Mapping[TierName, Guard], on_poison: OnPoison | None
) -> tuple[GuardedWarm, GuardedCold]:
    """The two tiers that hold what must not be lost, each behind its guard; they close in the opposite order."""
    cold = GuardedCold(await open_tier(stack, settings, "cold"), guards["cold"])
    warm = await open_tier(stack, settings, "warm", **_of_warm(settings, on_poison))
    return GuardedWarm(warm, guards["warm"]), cold


async def _open_hot(settings: Settings, stack: AsyncExitStack, guard: Guard, masters: MasterKeys) -> Hot:
    copies: Hot = await open_tier(stack, settings, "hot", **_of_hot(settings, masters))
    # A dictionary in this process neither fails nor keeps anybody waiting: a guard would cost more than its calls.
    return copies if isinstance(copies, MemoryHot) else GuardedHot(copies, guard)


def _backends(settings: Settings) -> dict[TierName, str]:
    urls: dict[TierName, str] = {"hot": settings.hot_url, "warm": settings.warm_url, "cold": settings.cold_url}
    return {tier: urlsplit(url).scheme for tier, url in urls.items()}


def _of_hot(settings: Settings, masters: MasterKeys) -> dict[str, Any]:
    """Bounds of the copies that this process keeps, or how it finds the Redis that all share."""
    if "hot" in settings.embedded_tiers:
        return {
            "sessions_max": settings.memory_max_sessions,
            "bytes_max": settings.hot_bytes_max,
            "ttl_seconds": settings.session_ttl,
            "cleanup_seconds": settings.memory_cleanup_interval,
        }
    return {
        "mac_key": masters.lasting.hot_mac,
        "connections_max": settings.redis_max_connections,
        "timeout_seconds": settings.hot_timeout_seconds,
        "lease_seconds": settings.hot_lease_seconds,
        "ttl_seconds": settings.session_ttl,
    }


def _of_warm(settings: Settings, on_poison: OnPoison | None) -> dict[str, Any]:
    """What only an embedded tier tells: that its file can no longer be trusted, and the process must end."""
    return {"on_poison": on_poison} if "warm" in settings.embedded_tiers else {}


def _guards(settings: Settings, observer: Observer) -> Mapping[TierName, Guard]:
    warm_seconds = settings.warm_timeout_seconds
    if "warm" in settings.embedded_tiers and settings.origin("warm_timeout_seconds") == "default":
        warm_seconds = EMBEDDED_WARM_TIMEOUT_SECONDS
    return {
        "hot": Guard("hot", HOT_LIMITS._replace(timeout_seconds=settings.hot_timeout_seconds), observer),
        "warm": Guard(
            "warm",
            WARM_LIMITS._replace(timeout_seconds=warm_seconds, own_task="warm" not in settings.embedded_tiers),
            observer,
        ),
        "cold": Guard("cold", COLD_LIMITS._replace(timeout_seconds=settings.cold_timeout_seconds), observer),
    }


def _master_keys(settings: Settings) -> tuple[MasterKeys, Path | None]:
    """The master keys, and the file that was made for one now. Raises SettingsInvalid."""
    if settings.master_key_file is not None:
        try:
            return read_masters(settings), None
        except NotFound:
            raise refused(settings, "master_key_file", "a file that is there") from None
    path = settings.data_dir / MASTER_KEY_NAME
    keys, made = load_or_make_key_file(path)
    return MasterKeys(*keys), path if made else None


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
        algorithms=settings.jwt_algorithms,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        revocations=revocations,
    )
    signs = "HS256" in settings.jwt_algorithms
    minter = TokenMinter(
        secret if signs else None, revocations, issuer=settings.jwt_issuer, audience=settings.jwt_audience
    )
    return verifier, minter
