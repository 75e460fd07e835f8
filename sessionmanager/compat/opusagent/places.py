"""Where the conversations are: in a service inside this process, or at an address."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from sessionmanager.client import AsyncClient, Token

TOKEN_SECONDS: Final = 3600
LEASE_SECONDS: Final = "0.05"
TENANT: Final = "default"
SUBJECT: Final = "opusagent"


class Place(Protocol):
    """Gives a client to whoever keeps conversations."""

    def open(self) -> AbstractAsyncContextManager[AsyncClient]:
        """A client that is ready, until the end of the context."""
        ...


class Remote:
    """The service at an address."""

    def __init__(self, address: str, token: Token) -> None:
        self._address = address
        self._token = token

    def open(self) -> AbstractAsyncContextManager[AsyncClient]:
        """A client of that service; nothing is asked of it yet. Raises ValueError: the address is none."""
        return AsyncClient(self._address, self._token)


class Embedded:
    """A whole service inside this process, reached without a socket. One at a time has a directory.

    Its settings are its defaults: what the environment says is for the program around it. Its log lines go to the
    standard library's logger `sessionmanager`, and nothing else of the process's logging is touched.
    """

    def __init__(self, data_dir: str | Path | None, settings: Mapping[str, Any] | None = None) -> None:
        """Args: data_dir: None = a directory that goes with this object. settings: those that are not the defaults."""
        self._settings = dict(settings or {})
        if data_dir is None:
            data_dir = tempfile.mkdtemp(prefix="sessionmanager-opusagent-")
            weakref.finalize(self, shutil.rmtree, data_dir, ignore_errors=True)
        self._folder = Path(data_dir)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncClient]:
        """Start it; at the end whatever has begun is finished, as after SIGTERM.

        Raises SettingsInvalid, ValueError and TierUnavailable with what to mend: another process has the directory.
        """
        import httpx2

        from sessionmanager.core.keys.files import load_or_make_key_file
        from sessionmanager.settings_loader import load_settings
        from sessionmanager.wiring import open_service

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The service makes one by itself only where no tier lies outside, so that replicas do not each make their own.
        key = self._folder / "master-key"
        load_or_make_key_file(key)
        # Tokens never leave the process: a secret for as long as it is open will do.
        own = {"data_dir": str(self._folder), "master_key_file": str(key), "jwt_secret": secrets.token_urlsafe(48)}
        # An erase waits one lease, for the copies of other processes; here there is no other.
        loaded = load_settings({**self._settings, **own, "hot_lease_seconds": LEASE_SECONDS}, environ={})
        async with open_service(loaded, own_process=False) as service:
            token = _Fresh(service)
            transport = httpx2.ASGITransport(service.app)
            async with AsyncClient("http://embedded.invalid", token, transport=transport) as client:
                yield client


class _Fresh:
    """The service's own token, another one when half of its life is over."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._token = ""
        self._until = 0.0

    def __call__(self) -> str:
        from sessionmanager.model.roles import Actor

        if time.monotonic() >= self._until:
            maker = Actor(TENANT, SUBJECT, frozenset(("admin",)))
            made = self._service.tokens.mint(
                maker, subject=SUBJECT, roles=("admin",), tenant=TENANT, ttl_seconds=TOKEN_SECONDS
            )
            self._token, self._until = made.token, time.monotonic() + TOKEN_SECONDS / 2
        return self._token
