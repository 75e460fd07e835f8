"""Serving over uvicorn: uvloop, httptools, our bounded protocol, a bounded stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from ssl import CERT_NONE, CERT_REQUIRED
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from sessionmanager.api.live.socket_protocol import MESSAGE_BYTES_MAX, BoundedSocket
from sessionmanager.api.serving.protocol import BoundedProtocol, ServerBounds


class Tls(NamedTuple):
    """PEM files: the certificate with its chain, its key, and whom callers' certificates must come from (None: anybody,
    without one). TLS 1.2 and later, as Python's ssl decides."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class Server(uvicorn.Server):
    """uvicorn's server that says when it listens and when it begins to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_listening: Callable[[str, int], None] | None = None,
        on_stopping: Callable[[], None] | None = None,
        on_draining: Callable[[], None] | None = None,
        takes_signals: bool = True,
    ) -> None:
        super().__init__(config)
        self._on_draining = on_draining
        self._takes_signals = takes_signals
        self._on_listening = on_listening
        self._on_stopping = on_stopping

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_listening is not None:
            self._on_listening(*self.address)

    async def shutdown(self, sockets: Any = None) -> None:
        """Tell streams to end, whatever stops the server; then as uvicorn does."""
        if self._on_draining is not None:
            self._on_draining()
        await super().shutdown(sockets=sockets)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first listening socket, once started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return str(host), int(port)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """SIGTERM and SIGINT stop the server; whoever called `serve` goes on from there and closes what it opened.

        uvicorn's own raises the signal again afterwards, which would end the process before that.
        """
        numbers = (signal.SIGINT, signal.SIGTERM) if self._takes_signals else ()
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        first = not self.should_exit
        super().handle_exit(sig, frame)
        if first and self._on_stopping is not None:
            self._on_stopping()


def make_server(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    bounds: ServerBounds | None = None,
    on_listening: Callable[[str, int], None] | None = None,
    on_stopping: Callable[[], None] | None = None,
    on_draining: Callable[[], None] | None = None,
    takes_signals: bool = True,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
    tls: Tls | None = None,
) -> Server:
    """A server ready to `serve()` or `run()`. port 0: any free one, told to `on_listening`.

    on_stopping: called once at the first SIGTERM or SIGINT, in the signal's handler; it must not block. on_draining:
    called on the loop when the server stops, before connections are closed: streams end by it. Stopping takes at most
    `shutdown_seconds`, and then what still runs is cancelled. message_bytes_max: of a message over a WebSocket.
    takes_signals: False for a second server of the process, which its owner stops. tls: speak it, and nothing else.
    """
    bounds = bounds or ServerBounds()
    protocol = type("BoundProtocol", (BoundedProtocol,), {"bounds": bounds})
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=protocol,
        ws=type("BoundSocket", (BoundedSocket,), {"stall_seconds": bounds.write_stall_seconds}),
        ws_max_size=message_bytes_max,
        ws_per_message_deflate=False,
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=bounds.backlog,
        timeout_keep_alive=bounds.keep_alive_seconds,
        timeout_graceful_shutdown=bounds.shutdown_seconds,
        h11_max_incomplete_event_size=bounds.header_bytes_max,
        **_tls_options(tls),
    )
    return Server(
        config,
        on_listening=on_listening,
        on_stopping=on_stopping,
        on_draining=on_draining,
        takes_signals=takes_signals,
    )


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ssl_certfile": str(tls.cert),
        "ssl_keyfile": str(tls.key),
        "ssl_ca_certs": None if tls.client_ca is None else str(tls.client_ca),
        "ssl_cert_reqs": CERT_NONE if tls.client_ca is None else CERT_REQUIRED,
    }


def serve(app: ASGIApp, **options: Any) -> None:
    """Serve until a signal, on a loop of its own; `options` as for `make_server`. Returns after a graceful stop."""
    make_server(app, **options).run()
