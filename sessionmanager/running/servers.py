"""Running what `wiring.py` has put together: one serving process or several, or the worker alone, until a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
import uvloop

from sessionmanager import logs
from sessionmanager.api.app import metrics_app
from sessionmanager.api.serving.protocol import ServerBounds
from sessionmanager.api.serving.server import Tls, make_server
from sessionmanager.cli.serve import banner
from sessionmanager.model.roles import Actor
from sessionmanager.running.garbage import seldom
from sessionmanager.running.processes import Place, bind, my_place, note_served, own_command, supervise
from sessionmanager.running.profiling import Profiler
from sessionmanager.running.siblings import Siblings
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.wiring import Service, open_service

MESSAGE_BYTES_AROUND: Final = 4096
"""What a WebSocket's message has beside the body that it carries."""
PROFILES: Final = "profiles"
"""In the data directory: what SIGUSR2 has asked for."""
BANNER_TOKEN_SECONDS: Final = 3600

log = structlog.get_logger()


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then stop within `drain_seconds`. Ends the process with 1 where warm failed.

    With `workers` over 1 this process only keeps the others (`processes.py`). Raises OSError: the address is taken.
    """
    place = my_place(os.environ)
    if place is None and settings.workers > 1:
        _tls(settings)  # what is wrong with it is said once, and not by each of them
        logs.configure(settings.log_level, settings.log_format)
        bound = bind(settings.server_host, settings.server_port)
        code = uvloop.run(supervise(own_command(), settings.workers, bound, settings.drain_seconds))
        sys.exit(code)
    if not uvloop.run(_serve(settings, place)):
        sys.exit(1)


def _tls(settings: Settings) -> Tls | None:
    """What the server speaks TLS with, looked at now. Raises SettingsInvalid: a file cannot be used, and why."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: b"")
    except OSError as error:
        reason = error.strerror or "not PEM"
        raise refused(
            settings, "tls_cert", f"a PEM file that fits TLS_KEY, whose key has no password: {reason}"
        ) from None
    if settings.tls_client_ca is not None:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise refused(settings, "tls_client_ca", f"a PEM file: {error.strerror or 'not PEM'}") from None
    return Tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


async def _serve(settings: Settings, place: Place | None) -> bool:
    tls = _tls(settings)
    healthy = True
    servers: list[Any] = []

    def on_poison() -> None:
        nonlocal healthy
        healthy = False
        log.error("server.failed", reason="warm can be trusted no more")
        for server in servers:
            server.should_exit = True

    async with open_service(settings, on_poison=on_poison) as service:
        Profiler(settings.data_dir / PROFILES).listen()

        def on_listening(host: str, port: int) -> None:
            scheme = "http" if settings.tls_cert is None else "https"
            address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
            log.info("server.started", address=address, data_dir=str(settings.data_dir))
            if place is not None and not note_served(place):
                return  # another process has said it
            print(banner(settings, _banner_token(settings, service), address), flush=True)  # noqa: T201

        def on_stopping() -> None:
            service.api.process.draining = True
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
            on_draining=service.api.feeds.drain,
            message_bytes_max=settings.body_bytes_max + MESSAGE_BYTES_AROUND,
            tls=tls,
        )
        servers.append(server)
        async with AsyncExitStack() as stack:
            if place is not None:
                await _beside_others(stack, place, service, server)
            if place is None or place.slot == 0:
                await stack.enter_async_context(_metrics_server(settings, service))
            with seldom():
                await server.serve(sockets=None if place is None else [place.socket])
    if healthy and not server.started:
        log.error("server.failed", reason="it could not begin to listen")
    log.info("server.stopped")
    return healthy and server.started


async def _beside_others(stack: AsyncExitStack, place: Place, service: Service, server: Any) -> None:
    """Be one of several: show their metrics beside one's own, and stop when the process that keeps them has gone."""
    siblings = Siblings(place, service.metrics.collect)
    await stack.enter_async_context(siblings.answering())
    service.metrics.beside = siblings.all
    loop = asyncio.get_running_loop()

    def on_alone() -> None:
        loop.remove_reader(place.lifeline)
        server.handle_exit(signal.SIGTERM, None)

    loop.add_reader(place.lifeline, on_alone)


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
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_service(settings) as service, _metrics_server(settings, service):
        Profiler(settings.data_dir / PROFILES).listen()
        log.info("server.started", address="", data_dir=str(settings.data_dir))
        await stop.wait()
    log.info("server.stopped")
