"""A service, from its first request to its last: what opens, in which order, and how it stops.

start   listen → serve → register → heartbeats
stop    let nobody in → work off what waits, `on_leave` → take it out of the registry → close the server
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from sessionmanager.client import AsyncClient
from sessionmanager.running.small_server import Server, listen
from sessionmanager.services.config import ServiceConfig
from sessionmanager.services.credentials import open_client
from sessionmanager.services.handler import Handler, check_handler
from sessionmanager.services.registration import Registration
from sessionmanager.services.server import make_app
from sessionmanager.services.sessions import Sessions

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
CONNECTIONS_MAX: Final = 256
STOP_SECONDS: Final = 5


class Service:
    """A service that runs. endpoint: where the manager finds it. client: speaks with the service's own credential."""

    def __init__(
        self,
        endpoint: str,
        client: AsyncClient,
        sessions: Sessions,
        registration: Registration,
        *,
        serving: asyncio.Task[None],
        registering: asyncio.Task[None],
    ) -> None:
        """serving, registering: what `wait` looks after."""
        self.endpoint = endpoint
        self.client = client
        self.sessions = sessions
        self._registration = registration
        self._serving = serving
        self._registering = registering

    async def wait_registered(self) -> None:
        """Until the manager knows it."""
        await self._registration.registered.wait()

    async def wait(self, stop: asyncio.Event | None = None) -> None:
        """Until `stop` is set. Raises what makes it impossible to go on: see `Registration.run`; RuntimeError where
        the server ended by itself."""
        waits = [self._serving, self._registering]
        if stop is not None:
            waits.append(asyncio.ensure_future(_set(stop)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for extra in waits[2:]:
                extra.cancel()
        if self._registering.done():
            await self._registering
        if self._serving.done():
            await self._serving
            raise RuntimeError("the server of the service has ended")


async def _set(stop: asyncio.Event) -> None:
    await stop.wait()


@asynccontextmanager
async def open_service(handler: Handler, config: ServiceConfig) -> AsyncGenerator[Service]:
    """A service beside other work of the same loop; leaving stops it gracefully. `serve` is what most programs want.

    Raises TypeError: a method of the handler is no coroutine. OSError: it cannot listen there.
    """
    check_handler(handler)
    door = listen(config.host, config.port)
    endpoint = config.endpoint_at(door.getsockname()[1])
    async with open_client(config) as client:
        sessions = Sessions(client, handler, config)
        registration = Registration(client, config, endpoint, lambda: sessions.load, sessions.lost_touch)
        app = make_app(sessions, registration, config)
        server = Server(app, connections_max=CONNECTIONS_MAX, stop_seconds=STOP_SECONDS)
        serving = asyncio.create_task(server.serve(sockets=[door]), name="server of the service")
        try:
            listening = asyncio.create_task(_set(server.listening))
            await asyncio.wait([listening, serving], return_when=asyncio.FIRST_COMPLETED)
            listening.cancel()
            registering = asyncio.create_task(registration.run(), name="registration of the service")
            try:
                yield Service(endpoint, client, sessions, registration, serving=serving, registering=registering)
            finally:
                await _stop(sessions, registration, registering)
        finally:
            server.should_exit = True
            await asyncio.wait([serving], timeout=2 * STOP_SECONDS)
            door.close()


async def _stop(sessions: Sessions, registration: Registration, registering: asyncio.Task[None]) -> None:
    """Heartbeats go on while what waits is worked off, so that nobody takes the service for dead meanwhile."""
    await sessions.drain()
    registering.cancel()
    await asyncio.wait([registering])
    if not await registration.leave():
        await sessions.farewell()


async def serve(handler: Handler, config: ServiceConfig | None = None, *, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set, or for ever; cancelling it stops it gracefully, too.

    config: by default `ServiceConfig.from_environ()`. Raises ConfigInvalid, TypeError, OSError, and what the manager
    refuses at the first registration.
    """
    async with open_service(handler, config or ServiceConfig.from_environ()) as service:
        await service.wait(stop)


def run(handler: Handler, config: ServiceConfig | None = None) -> None:
    """`serve` as a whole program: SIGTERM and SIGINT stop it gracefully, the second one at once. Raises as `serve`."""
    with suppress(asyncio.CancelledError):
        asyncio.run(_run(handler, config))


async def _run(handler: Handler, config: ServiceConfig | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None, "runs in a task"

    def told() -> None:
        if stop.is_set():
            me.cancel()
        stop.set()

    if sys.platform != "win32":
        for number in SIGNALS:
            loop.add_signal_handler(number, told)
    try:
        await serve(handler, config, stop=stop)
    finally:
        if sys.platform != "win32":
            for number in SIGNALS:
                with suppress(ValueError):
                    loop.remove_signal_handler(number)
